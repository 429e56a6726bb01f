"""Packing by search: finds what there is, proves what there is not, and ends."""

from __future__ import annotations

import random
from itertools import product

import pytest

from dag.mapping.build import DeviceCosts, EdgeCosts, LinkCosts, NodeCosts, cost_graph, devices
from dag.mapping.problem import LATENCY, Mapping, MappingProblem, Unmapped
from dag.mapping.verify import verify
from dag.placers.packing import packing
from dag.placers.packing_search import packing_search
from dag.portfolio.best_mapping import best_mapping

NODES, DEVICES = 8, 3


def tight(seed: int) -> MappingProblem:
    """Room for little more than all nodes together; one pinned, two together."""
    draw = random.Random(seed)
    held = [draw.randint(1, 9) for _ in range(NODES)]
    on = [DeviceCosts(id=f"d{n}", memory_bytes=sum(held) // DEVICES + draw.randint(1, 3))
          for n in range(DEVICES)]
    nodes = [
        NodeCosts(
            id=f"n{n}", compute_s=draw.uniform(1, 3), persistent_bytes=held[n],
            temporary_bytes=draw.choice([0, 0, 0, 1]), pin="d1" if n == 3 else "",
            colocate="a" if n in (0, 5) else "")
        for n in range(NODES)]
    edges = [EdgeCosts(src=f"n{n}", dst=f"n{n + 1}", bytes=1) for n in range(NODES - 1)]
    graph, _ = cost_graph(nodes, edges, on)
    return MappingProblem(graph=graph, objective=LATENCY, devices=devices(
        on, LinkCosts(latency_s=0, bandwidth_bytes_per_s=1)))


def is_feasible(problem: MappingProblem) -> bool:
    graph, room = problem.graph, problem.devices.memory_bytes.tolist()
    for homes in product(range(DEVICES), repeat=NODES):
        if homes[3] != 1 or homes[0] != homes[5]:
            continue
        used, largest = [0.0] * DEVICES, [0.0] * DEVICES
        for node, home in enumerate(homes):
            used[home] += float(graph.persistent_bytes[node])
            largest[home] = max(largest[home], float(graph.temporary_bytes[node]))
        if all(u + t <= limit for u, t, limit in zip(used, largest, room, strict=True)):
            return True
    return False


def test_as_if_all_ways_were_tried() -> None:
    beyond_rules = 0
    for seed in range(60):
        problem = tight(seed)
        found = packing_search(problem)
        assert isinstance(found, Mapping) == is_feasible(problem), f"seed {seed}"
        if isinstance(found, Mapping):
            assert verify(found, problem) == (), f"seed {seed}"
            beyond_rules += isinstance(packing(problem), Unmapped)
        else:
            assert "every way" in found.reason
    assert beyond_rules  # else the rules alone would do


def test_the_portfolio_falls_back_on_it() -> None:
    seed = next(seed for seed in range(60) if isinstance(packing(tight(seed)), Unmapped)
                and isinstance(packing_search(tight(seed)), Mapping))
    report = best_mapping(tight(seed), effort=0.01)
    assert report.best is not None, f"seed {seed}"
    assert verify(report.best, tight(seed)) == (), f"seed {seed}"


@pytest.mark.parametrize("placed_max", [0, 1, 3])
def test_it_gives_up(placed_max: int) -> None:
    found = packing_search(tight(0), placed_max)
    assert isinstance(found, Unmapped)
    assert f"gave up after {placed_max}" in found.reason
