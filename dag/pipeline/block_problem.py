"""A job's blocks and peers as a mapping problem, for placers that know neither segments nor peers.

Bytes are those of a block alone with a few microbatches in flight, so a mapping that fits here may
still not fit as segments, and the other way round; `dag.predict` has the last word.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from dag.cost import FloatArray, Links
from dag.mapping.build import (
    DeviceCosts,
    EdgeCosts,
    LinkCosts,
    NodeCosts,
    cost_graph,
    devices,
)
from dag.mapping.problem import THROUGHPUT, BoolArray, MappingProblem
from dag.pipeline.blocks import Blocks
from dag.pipeline.ranges import Ranges
from dag.predict import Estimate

IN_FLIGHT = 2
"""Microbatches that a block is taken to hold: what the last but one of a pipeline does."""


def block_problem(
    known: Estimate, blocks: Blocks, tables: Ranges, runnable: dict[int, BoolArray]
) -> MappingProblem:
    """Blocks as nodes, all peers as devices with one line each, throughput as the objective.

    Args:
        known: the job.
        blocks: its graph.
        tables: bytes of the blocks.
        runnable: peer -> which blocks its executor runs; a peer that is missing runs none.

    Cost: O(blocks * peers + peers * peers + nodes).
    """
    peers = known.problem.cluster.peers
    held = tables.fixed + min(IN_FLIGHT, known.problem.job.flow) * tables.per_microbatch
    nodes = [
        NodeCosts(id=str(number), compute_s=0.0, persistent_bytes=float(held[number, number + 1]))
        for number in range(tables.count)]
    on = [DeviceCosts(id=peer.peer_id, memory_bytes=float(peer.memory_bytes)) for peer in peers]
    graph, _ = cost_graph(nodes, _edges(blocks), on)
    seconds = np.stack([_seconds(known, blocks, peer.peer_id) for peer in peers], axis=2)
    able = np.stack([
        runnable.get(number, np.zeros(tables.count, dtype=np.bool_))
        for number in range(len(peers))], axis=1)
    links = Links(known.problem.cluster)
    between = {
        (a.peer_id, b.peer_id): LinkCosts(
            latency_s=link.latency_s, bandwidth_bytes_per_s=link.bandwidth_bytes_per_s)
        for a in peers for b in peers if a is not b
        for link in (links.between(a.peer_id, b.peer_id),)}
    return MappingProblem(
        graph=replace(
            graph, compute_s=np.where(able, seconds[0], np.inf),
            backward_s=np.where(able, seconds[1], 0.0)),
        devices=devices(
            on, LinkCosts(latency_s=0.0, bandwidth_bytes_per_s=np.inf), between, serial=True,
            by_device=True),
        objective=THROUGHPUT)


def _seconds(known: Estimate, blocks: Blocks, peer_id: str) -> FloatArray:
    """Time of every block on a peer, [2, blocks]."""
    table = known.seconds[peer_id]
    return np.array([table[:, list(block)].sum(axis=1) for block in blocks.nodes]).T


def _edges(blocks: Blocks) -> list[EdgeCosts]:
    graph = blocks.costs.graph
    block_of = {index: number for number, block in enumerate(blocks.nodes) for index in block}
    made_in = {
        name: block_of[node.index] for node in graph.nodes if node.index in block_of
        for name in node.outputs if name}
    crossing: dict[tuple[str, int], None] = {}
    for index, block in sorted(block_of.items()):
        for name in graph.nodes[index].inputs:
            if made_in.get(name, block) != block:
                crossing[name, block] = None
    return [
        EdgeCosts(
            src=str(made_in[name]), dst=str(block), bytes=float(graph.types[name].size_bytes),
            port=name)
        for name, block in crossing]
