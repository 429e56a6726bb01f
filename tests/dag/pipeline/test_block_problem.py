"""A job's blocks as a mapping problem: nothing is lost on the way."""

from random import Random

import numpy as np
import pytest

from dag.cost import Links
from dag.mapping.problem import THROUGHPUT
from dag.pipeline.block_problem import block_problem


@pytest.mark.parametrize("seed", range(10))
def test_costs_add_up(world, parts_of, seed):
    problem = world.random(seed, peers=4)
    parts = parts_of(problem)
    mapping = block_problem(parts.known, parts.blocks, parts.tables, parts.runnable)
    assert mapping.objective == THROUGHPUT
    assert mapping.graph.nodes == parts.tables.count
    assert list(mapping.devices.ids) == [peer.peer_id for peer in problem.cluster.peers]
    placed = [index for block in parts.blocks.nodes for index in block]
    for number, peer in enumerate(problem.cluster.peers):
        seconds = parts.known.seconds[peer.peer_id][:, placed].sum(axis=1)
        assert mapping.graph.compute_s[:, number].sum() == pytest.approx(seconds[0])
        assert mapping.graph.backward_s[:, number].sum() == pytest.approx(seconds[1])


@pytest.mark.parametrize("skip", [False, True])
def test_what_crosses_a_cut_is_what_crosses_in_the_tables(world, parts_of, skip):
    problem = world.problem(
        world.chain([64, 32, 96, 32, 32], skip=skip), world.cluster(world.peer(0), world.peer(1)))
    parts = parts_of(problem)
    graph = block_problem(parts.known, parts.blocks, parts.tables, parts.runnable).graph
    for cut in range(1, parts.tables.count):
        over = (graph.edge_source < cut) & (graph.edge_target >= cut)
        tensors = np.unique(graph.edge_tensor[over])  # one to several readers crosses once
        assert graph.tensor_bytes[tensors].sum() == parts.tables.live_forward[cut]


def test_links_and_memory_are_those_of_the_cluster(world, parts_of):
    problem = world.random(4, peers=4)
    parts = parts_of(problem)
    on = block_problem(parts.known, parts.blocks, parts.tables, parts.runnable).devices
    peers, links = problem.cluster.peers, Links(problem.cluster)
    assert on.memory_bytes.tolist() == [peer.memory_bytes for peer in peers]
    for a, first in enumerate(peers):
        for b, second in enumerate(peers):
            if a != b:
                link = links.between(first.peer_id, second.peer_id)
                assert on.latency_s[a, b] == link.latency_s
                assert on.bandwidth_bytes_per_s[a, b] == link.bandwidth_bytes_per_s


def test_what_an_executor_does_not_run_is_no_place(world, parts_of):
    parts = parts_of(world.uniform(layers=4, peers=(1.0, 1.0, 1.0)))
    draw = Random(1)
    some = np.array([draw.random() < 0.5 for _ in range(parts.tables.count)])
    runnable = {0: parts.runnable[0], 2: some}
    graph = block_problem(parts.known, parts.blocks, parts.tables, runnable).graph
    finite = np.isfinite(graph.compute_s)
    assert finite[:, 0].all()
    assert not finite[:, 1].any()
    assert (finite[:, 2] == some).all()
