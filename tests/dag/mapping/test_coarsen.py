"""Coarsening: no cycle, nothing lost, and a coarse answer costs the same on the fine graph."""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import pytest

from dag.mapping.build import DeviceCosts, EdgeCosts, LinkCosts, NodeCosts, cost_graph, devices
from dag.mapping.coarsen import Coarse, coarsened, contracted, expanded
from dag.mapping.judge import loads, makespan, peak_bytes, value
from dag.mapping.paths import places
from dag.mapping.problem import LATENCY, THROUGHPUT, IntArray, Mapping, MappingProblem
from dag.mapping.verify import verify
from homespun.errors import HomespunError
from tests.dag.mapping.conftest import random_problem

SEEDS = range(60)


def case(seed: int, **given: object) -> tuple[MappingProblem, Coarse]:
    nodes = 5 + seed % 40
    problem = random_problem(seed, nodes=nodes, serial=seed % 2 == 0, **given)  # type: ignore[arg-type]
    return problem, coarsened(problem.graph, max(1, nodes // (1 + seed % 7)))


def devices_of_groups(problem: MappingProblem, seed: int) -> IntArray:
    """A random device for each group, its pin if it has one."""
    graph = problem.graph
    drawn = np.random.default_rng(seed).integers(0, problem.devices.count, graph.groups)
    return np.where(graph.pin >= 0, graph.pin, drawn[graph.group])


@pytest.mark.parametrize("seed", SEEDS)
def test_the_quotient_is_acyclic_and_every_fine_edge_is_inside_or_kept(seed: int) -> None:
    problem, coarse = case(seed)
    graph, part = coarse.graph, coarse.part
    place = places(graph.topological)
    assert (place[graph.edge_source] < place[graph.edge_target]).all()
    kept = set(zip(graph.edge_source.tolist(), graph.edge_target.tolist(), strict=True))
    fine = problem.graph
    wanted = {(int(part[a]), int(part[b]))
              for a, b in zip(fine.edge_source, fine.edge_target, strict=True)}
    assert kept == {(a, b) for a, b in wanted if a != b}


@pytest.mark.parametrize("seed", SEEDS)
def test_costs_are_conserved(seed: int) -> None:
    problem, coarse = case(seed)
    fine, graph = problem.graph, coarse.graph
    for name in ("compute_s", "backward_s", "persistent_bytes", "output_bytes"):
        assert getattr(graph, name).sum() == pytest.approx(getattr(fine, name).sum())
    assert graph.temporary_bytes.max() == fine.temporary_bytes.max()


@pytest.mark.parametrize("seed", SEEDS)
def test_a_mapping_has_the_same_loads_and_bytes_on_both_graphs(seed: int) -> None:
    problem, coarse = case(seed, objective=THROUGHPUT)
    there = replace(problem, graph=coarse.graph)
    device = devices_of_groups(there, seed)
    mapping = Mapping(algorithm="any", device=device, start_s=np.zeros(coarse.graph.nodes))
    here = expanded(mapping, coarse, problem).device
    np.testing.assert_allclose(loads(problem, here), loads(there, device))
    np.testing.assert_allclose(peak_bytes(problem, here), peak_bytes(there, device))


@pytest.mark.parametrize("seed", SEEDS)
def test_an_expanded_mapping_is_sound_and_no_slower(seed: int) -> None:
    problem, coarse = case(seed, memory=1e3)
    problem = replace(problem, devices=replace(problem.devices, serial=False))
    there = replace(problem, graph=coarse.graph)
    device = devices_of_groups(there, seed)
    total, start = makespan(there, device)
    mapping = expanded(Mapping(algorithm="any", device=device, start_s=start), coarse, problem)
    assert not verify(mapping, problem)
    assert value(problem, mapping) <= total * (1 + 1e-12)


@pytest.mark.parametrize("seed", SEEDS)
def test_groups_and_pins_are_kept(seed: int) -> None:
    problem, coarse = case(seed)
    fine, graph, part = problem.graph, coarse.graph, coarse.part
    for group in range(fine.groups):
        members = np.flatnonzero(fine.group == group)
        assert len(np.unique(graph.group[part[members]])) == 1
    assert (graph.pin[part] == fine.pin).all()


@pytest.mark.parametrize("seed", range(12))
def test_labels_stay_apart(seed: int) -> None:
    problem = random_problem(seed, nodes=30)
    label = np.random.default_rng(seed).integers(0, 3, problem.graph.groups)[problem.graph.group]
    part = coarsened(problem.graph, 2, apart=label).part
    for number in range(int(part.max()) + 1):
        assert len(np.unique(label[part == number])) == 1


def test_it_reaches_the_target_where_nothing_forbids_it() -> None:
    for seed in range(20):
        graph = random_problem(seed, nodes=60, bound=False).graph
        assert coarsened(graph, 7).graph.nodes == 7
        assert coarsened(graph, 60).graph.nodes == 60


def test_forward_and_backward_in_one_group_shrink_together() -> None:
    count = 50
    nodes = [NodeCosts(id=f"{side}{n}", compute_s=1.0, colocate=str(n))
             for side in "fb" for n in range(count)]
    edges = [EdgeCosts(src=f"f{n}", dst=f"f{n + 1}", bytes=1.0) for n in range(count - 1)]
    edges += [EdgeCosts(src=f"b{n + 1}", dst=f"b{n}", bytes=1.0) for n in range(count - 1)]
    edges += [EdgeCosts(src=f"f{n}", dst=f"b{n}", bytes=1.0) for n in range(count)]
    on = [DeviceCosts(id="d", memory_bytes=1e9)]
    coarse = coarsened(cost_graph(nodes, edges, on)[0], 20)
    assert coarse.graph.nodes == 20
    assert coarse.graph.groups >= 5
    sizes = np.bincount(coarse.graph.group[coarse.part])
    assert sizes.max() <= 3 * sizes.mean()


def test_the_heaviest_edges_go_first() -> None:
    nodes = [NodeCosts(id=f"n{n}", compute_s=1.0) for n in range(4)]
    edges = [EdgeCosts(src="n0", dst="n1", bytes=1.0), EdgeCosts(src="n1", dst="n2", bytes=9.0),
             EdgeCosts(src="n2", dst="n3", bytes=1.0)]
    on = [DeviceCosts(id="d", memory_bytes=1e9)]
    assert coarsened(cost_graph(nodes, edges, on)[0], 3).part.tolist() == [0, 1, 1, 2]


def test_nodes_that_run_on_different_devices_stay_apart() -> None:
    nodes = [NodeCosts(id=f"n{n}", compute_s={"ab"[n // 3]: 1.0}) for n in range(6)]
    edges = [EdgeCosts(src=f"n{n}", dst=f"n{n + 1}", bytes=1.0) for n in range(5)]
    on = [DeviceCosts(id=name, memory_bytes=1e9) for name in "ab"]
    graph, _ = cost_graph(nodes, edges, on)
    assert coarsened(graph, 1).part.tolist() == [0, 0, 0, 1, 1, 1]


def test_a_part_that_is_left_and_entered_again_is_refused() -> None:
    graph = random_chain(3)
    with pytest.raises(HomespunError, match="cycle"):
        contracted(graph.graph, np.array([0, 1, 0]))


def test_a_tensor_read_twice_in_one_part_is_sent_once() -> None:
    nodes = [NodeCosts(id=f"n{n}", compute_s=1.0) for n in range(3)]
    edges = [EdgeCosts(src="n0", dst="n1", bytes=4.0), EdgeCosts(src="n0", dst="n2", bytes=4.0)]
    on = [DeviceCosts(id="d", memory_bytes=1e9)]
    coarse = contracted(cost_graph(nodes, edges, on)[0], np.array([0, 1, 1]))
    assert coarse.edges == 1
    assert coarse.tensor_bytes.tolist() == [4.0]


def random_chain(nodes: int) -> MappingProblem:
    draw = random.Random(nodes)
    described = [NodeCosts(id=f"n{n}", compute_s=draw.uniform(1.0, 2.0)) for n in range(nodes)]
    edges = [EdgeCosts(src=f"n{n}", dst=f"n{n + 1}", bytes=1.0) for n in range(nodes - 1)]
    on = [DeviceCosts(id="d", memory_bytes=1e9)]
    return MappingProblem(
        graph=cost_graph(described, edges, on)[0], objective=LATENCY,
        devices=devices(on, LinkCosts(latency_s=0.0, bandwidth_bytes_per_s=1.0)))
