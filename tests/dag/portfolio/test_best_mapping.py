"""The portfolio: sound, never worse than what it is made of, the same everywhere, with reasons."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from dag.mapping.build import DeviceCosts, EdgeCosts, LinkCosts, NodeCosts, cost_graph, devices
from dag.mapping.judge import value
from dag.mapping.problem import (
    LATENCY,
    THROUGHPUT,
    Mapping,
    MappingProblem,
    Objective,
    Unmapped,
)
from dag.mapping.verify import verify
from dag.portfolio.best_mapping import best_mapping, placers
from dag.portfolio.large import best_single
from tests.dag.mapping.conftest import random_problem


@pytest.mark.parametrize("serial", [False, True], ids=["overlap", "serial"])
@pytest.mark.parametrize("objective", [LATENCY, THROUGHPUT])
@pytest.mark.parametrize("seed", range(12))
def test_sound_and_never_worse(seed: int, objective: Objective, serial: bool) -> None:
    problem = random_problem(seed, 16, 4, objective, serial=serial, memory=20.0)
    report = best_mapping(problem, effort=0.05)
    assert report.best is not None, f"seed {seed}: {report.refusals}"
    assert verify(report.best, problem) == (), f"seed {seed}"
    assert report.value_s == value(problem, report.best)
    for placer in placers(problem):
        offer = placer(problem)
        if isinstance(offer, Mapping):
            assert report.value_s <= value(problem, offer), f"seed {seed}: {offer.algorithm}"
    alone = best_single(problem)
    assert (report.single is None) == isinstance(alone, Unmapped)
    if report.single is not None and isinstance(alone, Mapping):
        assert report.single == (int(alone.device[0]), value(problem, alone)), f"seed {seed}"
        assert report.value_s <= report.single[1]
    assert report.candidates[0].reason is None
    assert all(candidate.reason for candidate in report.candidates[1:])


def test_the_same_in_every_process() -> None:
    program = (
        "from tests.dag.mapping.conftest import random_problem\n"
        "from dag.portfolio.best_mapping import best_mapping\n"
        "report = best_mapping(random_problem(7, 24, 4, serial=True), effort=0.1, seed=3)\n"
        "print(report.best.device.tolist(), report.best.start_s.tolist(), report.candidates)\n")
    said = {
        subprocess.run(
            [sys.executable, "-c", program], env={**os.environ, "PYTHONHASHSEED": seed},
            check=True, capture_output=True, text=True).stdout
        for seed in ("1", "2")}
    assert len(said) == 1


def three_chains(count: int, latency_s: float) -> MappingProblem:
    """Three chains of four nodes that meet at the end, on devices of which the last is fastest."""
    on = [DeviceCosts(id=f"d{n}", memory_bytes=100.0, speed=1.0 + n / 10) for n in range(count)]
    nodes = [NodeCosts(id=f"{chain}{n}", compute_s=1.0) for chain in "abc" for n in range(4)]
    nodes.append(NodeCosts(id="end", compute_s=1.0))
    edges = [
        EdgeCosts(src=f"{chain}{n}", dst=f"{chain}{n + 1}" if n < 3 else "end", bytes=1.0)
        for chain in "abc" for n in range(4)]
    graph, _ = cost_graph(nodes, edges, on)
    return MappingProblem(graph=graph, objective=LATENCY, devices=devices(
        on, LinkCosts(latency_s=latency_s, bandwidth_bytes_per_s=1e9)))


def test_a_slow_network_leaves_all_on_the_fastest_device() -> None:
    report = best_mapping(three_chains(3, 1e6), effort=0.05)
    assert report.best is not None
    assert set(report.best.device.tolist()) == {2}


def test_a_fast_network_spreads_the_branches() -> None:
    report = best_mapping(three_chains(3, 1e-6), effort=0.05)
    assert report.value_s == pytest.approx(4 / 1.0 + 1 / 1.2, rel=1e-5)


def test_what_is_missing_is_said() -> None:
    problem = random_problem(5, memory=0.5)
    report = best_mapping(problem)
    assert report.best is None
    assert any("bytes are missing" in refusal for refusal in report.refusals)


def test_a_node_that_nothing_can_run_is_named() -> None:
    on = [DeviceCosts(id="d0", memory_bytes=10.0), DeviceCosts(id="d1", memory_bytes=10.0)]
    graph, by_device = cost_graph([NodeCosts(id="odd", compute_s={})], [], on)
    problem = MappingProblem(graph=graph, objective=LATENCY, devices=devices(
        on, LinkCosts(latency_s=1.0, bandwidth_bytes_per_s=1.0), by_device=by_device))
    assert best_mapping(problem).refusals == ("No device can run node 'odd'.",)
