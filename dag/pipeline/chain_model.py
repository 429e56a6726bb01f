"""What a contiguous split costs by a chain model: tables for search, before anything is cut."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise, permutations

import numpy as np

from dag.cost import FloatArray
from dag.mapping.problem import BoolArray
from dag.pipeline.blocks import Blocks
from dag.pipeline.feasible import runnable_ranges
from dag.pipeline.ranges import Ranges, range_seconds
from dag.pipeline.split import Split, SplitProblem
from dag.predict import Estimate

Pairs = dict[tuple[int, int], FloatArray]


def split_problem(
    known: Estimate, blocks: Blocks, tables: Ranges, runnable: dict[int, BoolArray],
    memory_bytes: Sequence[int],
) -> SplitProblem:
    """Tables over ranges of blocks for the peers that are considered.

    Args:
        known: the job.
        blocks: its graph.
        tables: of the blocks.
        runnable: peer -> which blocks it can run; the peers to consider.
        memory_bytes: of every peer of the cluster.

    Cost: O(peers * (blocks**2 + nodes) + peers**2 * blocks).
    """
    occupied, delayed, lines = _links(known, sorted(runnable), tables)
    nothing = np.zeros((0, 0))
    return SplitProblem(
        ranges=tables,
        seconds=[
            np.where(runnable_ranges(runnable[number]), range_seconds(
                blocks, known.seconds[peer.peer_id]), np.inf)
            if number in runnable else nothing
            for number, peer in enumerate(known.problem.cluster.peers)],
        occupied=occupied, delayed=delayed, lines=lines, memory_bytes=tuple(memory_bytes),
        microbatches=known.problem.job.flow)


def model_seconds(table: SplitProblem, split: Split) -> float:
    """A step of a split: steady state, and once through for fill and drain.

    Over its uplink a peer sends activations to the next and gradients to the one before, in turn,
    and over its downlink it receives both (`dag.lines`). Dynamic programming sees each cut alone;
    this sees the two beside a peer together.
    """
    spans = [
        float(table.seconds[peer][first, end])
        for peer, (first, end) in zip(split.peers, pairwise(split.bounds), strict=True)]
    crossings = list(zip(pairwise(split.peers), split.bounds[1:-1], strict=True))
    links = [float(table.occupied[pair][end]) for pair, end in crossings]
    delays = [float(table.delayed[pair][end]) for pair, end in crossings]
    busiest = max([*spans, *links, *_lines_of_peers(table, crossings)])
    return (table.microbatches - 1) * busiest + sum(spans) + sum(delays)


def _lines_of_peers(
    table: SplitProblem, crossings: Sequence[tuple[tuple[int, int], int]]
) -> list[float]:
    """Time of one microbatch on each peer's uplink and downlink."""
    up, down = [0.0] * (len(crossings) + 1), [0.0] * (len(crossings) + 1)
    for number, (pair, end) in enumerate(crossings):
        sent, received, sent_back, received_back = table.lines[pair][:, end].tolist()
        up[number] += sent
        down[number + 1] += received
        up[number + 1] += sent_back
        down[number] += received_back
    return [*up, *down]


def fits_model(table: SplitProblem, split: Split) -> bool:
    """Whether each segment of a split fits its peer and can be run there, by the tables."""
    count = len(split.peers)
    for number, (peer, (first, end)) in enumerate(
            zip(split.peers, pairwise(split.bounds), strict=True)):
        held = min(table.microbatches, count - number)
        needed = table.ranges.fixed[first, end] + held * table.ranges.per_microbatch[first, end]
        if needed > table.memory_bytes[peer] or not np.isfinite(table.seconds[peer][first, end]):
            return False
    return True


def _links(
    known: Estimate, peers: Sequence[int], tables: Ranges
) -> tuple[Pairs, Pairs, Pairs]:
    cluster = known.problem.cluster.peers
    occupied: Pairs = {}
    delayed: Pairs = {}
    lines: Pairs = {}
    for pair in permutations(peers, 2):
        source, target = (cluster[number].peer_id for number in pair)
        there, back = known.links.between(source, target), known.links.between(target, source)
        forward_s = tables.live_forward / there.bandwidth_bytes_per_s
        backward_s = tables.live_backward / back.bandwidth_bytes_per_s
        occupied[pair] = np.maximum(forward_s, backward_s)
        delayed[pair] = forward_s + backward_s + there.latency_s + back.latency_s
        lines[pair] = np.concatenate([
            np.outer(known.links.lines_seconds(there, 1), tables.live_forward),
            np.outer(known.links.lines_seconds(back, 1), tables.live_backward)])
    return occupied, delayed, lines
