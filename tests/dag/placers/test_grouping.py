"""Co-placement and fusion: hand-worked graphs, and what must hold on random ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from dag.mapping.build import DeviceCosts, EdgeCosts, LinkCosts, NodeCosts, cost_graph, devices
from dag.mapping.problem import LATENCY, CostGraph, Mapping, MappingProblem, Unmapped
from dag.mapping.verify import verify
from dag.placers.etf import m_etf
from dag.placers.grouping import MappingPlacer, coplaced, fused, on_fused
from dag.placers.sct import m_sct
from dag.placers.topo import m_topo
from tests.dag.mapping.conftest import random_problem

FIG1 = [(0, 1), (0, 4), (1, 2), (2, 3), (4, 5), (5, 3)]


def problem(
    edges: Sequence[tuple[int, int]], *, memory: float = 100.0, labels: str = "", pins: str = "",
) -> MappingProblem:
    """Unit nodes and edges on two devices; one letter per node labels it or pins it to "d"+it."""
    on = [DeviceCosts(id=f"d{n}", memory_bytes=memory) for n in range(2)]
    count = max(max(edge) for edge in edges) + 1
    nodes = [
        NodeCosts(
            id=f"{n}", compute_s=1.0, persistent_bytes=1.0, output_bytes=1.0,
            colocate=labels[n].strip() if labels else "",
            pin=f"d{pins[n]}" if pins and pins[n] != " " else "")
        for n in range(count)]
    described = [EdgeCosts(src=f"{a}", dst=f"{b}", bytes=1.0) for a, b in edges]
    graph, _ = cost_graph(nodes, described, on)
    return MappingProblem(
        graph=graph, objective=LATENCY,
        devices=devices(on, LinkCosts(latency_s=0.0, bandwidth_bytes_per_s=1.0)))


def edges_of(graph: CostGraph) -> list[tuple[int, int]]:
    return sorted(zip(graph.edge_source.tolist(), graph.edge_target.tolist(), strict=True))


def test_a_node_joins_its_only_consumer() -> None:
    assert coplaced(problem(FIG1)).group.tolist() == [0, 1, 1, 1, 1, 1]


def test_two_edges_to_one_consumer_are_one_consumer() -> None:
    assert coplaced(problem([(0, 1), (0, 1), (1, 2), (1, 3)])).group.tolist() == [0, 0, 1, 2]


def test_groups_stay_apart_that_no_device_could_take() -> None:
    chain = [(0, 1), (1, 2), (2, 3)]
    assert coplaced(problem(chain)).groups == 1
    assert coplaced(problem(chain, memory=4.0)).group.tolist() == [0, 0, 1, 1]
    pinned = coplaced(problem(chain, pins="0  1"))
    assert (pinned.group.tolist(), pinned.pin.tolist()) == ([0, 0, 0, 1], [0, 0, 0, 1])


def test_a_group_becomes_one_node_where_no_cycle_can_come_of_it() -> None:
    """1 takes 2; 4 takes 5; 1 takes 3, which makes 4 -> 1; 4 takes 1. Node 0 is of no group."""
    coarse = fused(coplaced(problem(FIG1)))
    assert coarse.part.tolist() == [0, 1, 1, 1, 1, 1]
    assert edges_of(coarse.graph) == [(0, 1)]
    assert coarse.graph.compute_s.ravel().tolist() == [1.0, 5.0]
    assert coarse.graph.persistent_bytes.tolist() == [1.0, 5.0]


def test_an_edge_with_a_way_around_it_is_kept() -> None:
    """0 and 2 belong together, but 1 lies between them too."""
    coarse = fused(problem([(0, 1), (0, 2), (1, 2)], labels="g g").graph)
    assert coarse.part.tolist() == [0, 1, 2]
    assert coarse.graph.group.tolist() == [0, 1, 0]


@pytest.mark.parametrize("serial", [False, True])
@pytest.mark.parametrize("placer", [m_topo, m_etf, m_sct])
@pytest.mark.parametrize("seed", range(25))
def test_random_problems(placer: MappingPlacer, seed: int, serial: bool) -> None:
    given = random_problem(seed, nodes=20, serial=serial, memory=14.0)
    coarse = fused(coplaced(given))
    seconds = replace(given, graph=coarse.graph).seconds()
    added = np.zeros_like(seconds)
    np.add.at(added, coarse.part, given.seconds())
    assert seconds == pytest.approx(added), f"seed {seed}"
    found = on_fused(placer)(given)
    if isinstance(found, Unmapped):
        assert "no device has room left" in found.reason
        return
    assert found.algorithm.endswith("-fused")
    assert verify(found, given) == (), f"seed {seed}"
    again = on_fused(placer)(random_problem(seed, nodes=20, serial=serial, memory=14.0))
    assert isinstance(again, Mapping)
    assert np.array_equal(found.device, again.device)
    assert np.array_equal(found.start_s, again.start_s)
