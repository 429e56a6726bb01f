"""Planning of large problems, with the limits made small; its parts one by one."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from dag.mapping.build import DeviceCosts, EdgeCosts, LinkCosts, NodeCosts, cost_graph, devices
from dag.mapping.judge import fits, loads, makespan, value
from dag.mapping.load_moves import levelled
from dag.mapping.paths import places
from dag.mapping.problem import (
    LATENCY,
    THROUGHPUT,
    Mapping,
    MappingProblem,
    Objective,
    Unmapped,
)
from dag.mapping.refine import refined
from dag.mapping.stretches import depth_first, stretches
from dag.mapping.verify import verify
from dag.placers.heft import heft
from dag.portfolio import large
from dag.portfolio.large import best_single, plan_large, single_seconds
from tests.dag.mapping.conftest import random_problem

OBJECTIVES: tuple[Objective, ...] = (LATENCY, THROUGHPUT)


@pytest.fixture(autouse=True)
def small_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(large, "INNER_DEVICES", 3)
    monkeypatch.setattr(large, "INNER_NODES", 8)
    monkeypatch.setattr(large, "LIST_NODES", 12)
    monkeypatch.setattr(large, "STRETCH_NODES", 3)


def case(seed: int, objective: Objective, memory: float = 40.0) -> MappingProblem:
    return random_problem(
        seed, nodes=30, count=6, objective=objective, serial=seed % 2 == 0, memory=memory)


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("seed", range(25))
def test_a_plan_is_sound_and_not_worse_than_one_device(seed: int, objective: Objective) -> None:
    problem = case(seed, objective)
    answer = plan_large(problem, heft)
    assert isinstance(answer, Mapping)
    assert not verify(answer, problem)
    assert value(problem, answer) <= single_seconds(problem).min() * (1 + 1e-12)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_memory_is_respected_or_the_reasons_are_given(objective: Objective) -> None:
    mapped = 0
    for seed in range(25):
        problem = case(seed, objective, memory=12.0)
        answer = plan_large(problem, heft)
        if isinstance(answer, Mapping):
            mapped += 1
            assert not verify(answer, problem)
        else:
            assert "single" in answer.reason
    assert mapped >= 5


def test_small_problems_go_to_the_inner_planner_as_they_are() -> None:
    problem = random_problem(0, nodes=6, count=2)
    seen = []
    said = Unmapped(algorithm="inner", reason="no")
    assert plan_large(problem, lambda given: seen.append(given) or said) is said  # type: ignore[func-returns-value]
    assert seen == [problem]


def test_an_inner_planner_that_finds_nothing_is_asked_once_more_with_finer_nodes() -> None:
    problem = random_problem(1, nodes=40, count=3, bound=False)
    sizes = []

    def never(given: MappingProblem) -> Unmapped:
        sizes.append(given.graph.nodes)
        return Unmapped(algorithm="inner", reason="no")

    assert isinstance(plan_large(problem, never), Mapping)
    assert sizes == [8, 32]


def test_plans_are_equal_in_other_processes() -> None:
    code = (
        "from dag.portfolio.large import plan_large\n"
        "from dag.placers.heft import heft\n"
        "from dag.portfolio import large\n"
        "from tests.dag.mapping.conftest import random_problem\n"
        "large.INNER_NODES, large.INNER_DEVICES = 20, 4\n"
        "for objective in ('latency', 'throughput'):\n"
        "    problem = random_problem(7, nodes=80, count=9, objective=objective)\n"
        "    answer = plan_large(problem, heft)\n"
        "    print(answer.device.tolist(), answer.start_s.tolist())\n")
    said = {
        subprocess.run(
            [sys.executable, "-c", code], env={**os.environ, "PYTHONHASHSEED": seed}, check=True,
            capture_output=True, text=True, timeout=120).stdout
        for seed in ("1", "2")}
    assert len(said) == 1


@pytest.mark.parametrize("seed", range(30))
def test_levelling_keeps_count_of_the_loads_and_never_raises_the_largest(seed: int) -> None:
    problem = case(seed, THROUGHPUT, memory=1e3)
    groups = np.random.default_rng(seed).integers(0, 6, problem.graph.groups)
    device = np.where(problem.graph.pin >= 0, problem.graph.pin, groups[problem.graph.group])
    moved = levelled(problem, device, 1_000_000)
    assert fits(problem, moved)
    assert loads(problem, moved).max() <= loads(problem, device).max() * (1 + 1e-12)
    top = loads(problem, moved).max()
    worst = int(loads(problem, moved).argmax())
    idle = int(loads(problem, moved).argmin())
    members = np.bincount(problem.graph.group)
    for node in np.flatnonzero(moved == worst).tolist():
        if problem.graph.pin[node] < 0 and members[problem.graph.group[node]] == 1:
            tried = moved.copy()
            tried[node] = idle
            after = loads(problem, tried)
            assert max(after) >= top * (1 - 1e-8), f"seed {seed}: node {node} would still help"


def test_levelling_moves_nothing_without_work_units() -> None:
    problem = case(3, THROUGHPUT, memory=1e3)
    device = np.zeros(30, dtype=np.int64)
    assert levelled(problem, device, 0).tolist() == device.tolist()


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("seed", range(20))
def test_refinement_is_sound_and_never_worse(seed: int, objective: Objective) -> None:
    problem = case(seed, objective)
    answer = heft(problem)
    assert isinstance(answer, Mapping)
    better = refined(problem, answer)
    assert not verify(better, problem)
    assert value(problem, better) <= value(problem, answer)


def test_refinement_helps_a_scattered_mapping() -> None:
    gains = []
    for seed in range(10):
        problem = replace(
            case(seed, LATENCY, memory=1e3), graph=random_problem(seed, nodes=30, count=6,
                                                                  bound=False).graph)
        device = np.random.default_rng(seed).integers(0, 6, 30)
        total, start = makespan(problem, device)
        better = refined(problem, Mapping(algorithm="any", device=device, start_s=start))
        gains.append(total / value(problem, better))
    assert np.median(gains) > 1.2


def test_stretches_are_optimal_for_a_chain_of_equal_devices() -> None:
    work = [3.0, 1.0, 4.0, 1.0, 5.0, 9.0, 2.0, 6.0]
    nodes = [NodeCosts(id=f"n{n}", compute_s=seconds) for n, seconds in enumerate(work)]
    edges = [EdgeCosts(src=f"n{n}", dst=f"n{n + 1}", bytes=1.0) for n in range(7)]
    on = [DeviceCosts(id=f"d{n}", memory_bytes=1e3) for n in range(3)]
    problem = MappingProblem(
        graph=cost_graph(nodes, edges, on)[0], objective=THROUGHPUT,
        devices=devices(on, LinkCosts(latency_s=0.0, bandwidth_bytes_per_s=1.0)))
    answer = stretches(problem, problem.graph.topological, np.arange(3))
    assert isinstance(answer, Mapping)
    best = min(max(sum(work[:a]), sum(work[a:b]), sum(work[b:]))
               for a in range(9) for b in range(a, 9))
    assert value(problem, answer) == pytest.approx(best)


@pytest.mark.parametrize("seed", range(20))
def test_depth_first_is_topological(seed: int) -> None:
    graph = random_problem(seed, nodes=25).graph
    order = depth_first(graph)
    place = places(order)
    assert sorted(order.tolist()) == list(range(25))
    assert (place[graph.edge_source] < place[graph.edge_target]).all()


def test_one_device_that_cannot_hold_all_is_no_answer() -> None:
    answer = best_single(random_problem(0, nodes=30, count=3, memory=1.0))
    assert isinstance(answer, Unmapped)


def test_balanced_loads_are_not_searched_further() -> None:
    nodes = [NodeCosts(id=f"n{n}", compute_s=1.0) for n in range(40)]
    on = [DeviceCosts(id=f"d{n}", memory_bytes=1e3) for n in range(4)]
    problem = MappingProblem(
        graph=cost_graph(nodes, [], on)[0], objective=THROUGHPUT,
        devices=devices(on, LinkCosts(latency_s=0.0, bandwidth_bytes_per_s=1.0)))

    def never(_: MappingProblem) -> Unmapped:
        raise AssertionError("asked though the loads are equal")

    answer = plan_large(problem, never)
    assert isinstance(answer, Mapping)
    assert value(problem, answer) == 10.0
