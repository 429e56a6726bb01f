"""HEFT on hand-worked and random problems."""

from __future__ import annotations

import numpy as np
import pytest

from dag.mapping.build import DeviceCosts, EdgeCosts, LinkCosts, NodeCosts, cost_graph, devices
from dag.mapping.judge import value
from dag.mapping.problem import LATENCY, Mapping, MappingProblem, Unmapped
from dag.mapping.verify import verify
from dag.placers.heft import heft, upward_rank
from tests.dag.mapping.conftest import random_problem


def published() -> MappingProblem:
    """The ten-task example of Topcuoglu et al. 2002, figure 2: three processors, own times each."""
    times = [
        (14, 16, 9), (13, 19, 18), (11, 13, 19), (13, 8, 17), (12, 13, 10),
        (13, 16, 9), (7, 15, 11), (5, 11, 14), (18, 12, 20), (21, 7, 16)]
    transfers = [
        (1, 2, 18), (1, 3, 12), (1, 4, 9), (1, 5, 11), (1, 6, 14), (2, 8, 19), (2, 9, 16),
        (3, 7, 23), (4, 8, 27), (4, 9, 23), (5, 9, 13), (6, 8, 15), (7, 10, 17), (8, 10, 11),
        (9, 10, 13)]
    on = [DeviceCosts(id=f"p{n}", memory_bytes=1.0) for n in range(3)]
    nodes = [
        NodeCosts(id=f"{n + 1}", compute_s={f"p{p}": float(t) for p, t in enumerate(row)})
        for n, row in enumerate(times)]
    edges = [EdgeCosts(src=f"{a}", dst=f"{b}", bytes=float(c)) for a, b, c in transfers]
    graph, by_device = cost_graph(nodes, edges, on)
    return MappingProblem(
        graph=graph, objective=LATENCY, devices=devices(
            on, LinkCosts(latency_s=0.0, bandwidth_bytes_per_s=1.0), by_device=by_device))


def test_the_published_example() -> None:
    problem = published()
    ranks = [108.0, 77.0, 80.0, 80.0, 69.0, 63.333, 42.667, 35.667, 44.333, 14.667]
    assert upward_rank(problem) == pytest.approx(ranks, abs=1e-3)
    found = heft(problem)
    assert isinstance(found, Mapping)
    assert value(problem, found) == 80.0


@pytest.mark.parametrize("serial", [False, True])
@pytest.mark.parametrize("seed", range(40))
def test_random_problems(seed: int, serial: bool) -> None:
    problem = random_problem(seed, nodes=14, serial=serial, memory=25.0)
    found = heft(problem)
    if isinstance(found, Unmapped):
        assert "room" in found.reason
        return
    assert verify(found, problem) == (), f"seed {seed}"
    again = heft(random_problem(seed, nodes=14, serial=serial, memory=25.0))
    assert isinstance(again, Mapping)
    assert np.array_equal(found.device, again.device)
    assert np.array_equal(found.start_s, again.start_s)


def test_no_room_is_said() -> None:
    problem = random_problem(3, memory=1.0)
    found = heft(problem)
    assert isinstance(found, Unmapped)
    assert "no device has room" in found.reason
