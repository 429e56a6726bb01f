"""Replanning: what must move has a place if there is one; what else moves pays."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest

from dag.mapping.build import DeviceCosts, EdgeCosts, LinkCosts, NodeCosts, cost_graph, devices
from dag.mapping.candidates import restricted
from dag.mapping.judge import fits, loads, makespan, value
from dag.mapping.problem import (
    LATENCY,
    THROUGHPUT,
    IntArray,
    Mapping,
    MappingProblem,
    Objective,
    Unmapped,
)
from dag.mapping.verify import verify
from dag.placers.heft import heft
from dag.replanning.repair import forced_nodes
from dag.replanning.replan import Replan, replan
from dag.replanning.state_moves import Running, move_seconds, moved, nearest, renamed
from tests.dag.mapping.conftest import random_problem

OBJECTIVES: tuple[Objective, ...] = (LATENCY, THROUGHPUT)


def running_on(problem: MappingProblem, device: IntArray, state: float = 1.0) -> Running:
    return Running(device=device, state_at=device,
                   state_bytes=np.full(problem.graph.nodes, state))


def after_loss(seed: int, objective: Objective, memory: float = 25.0) -> tuple[
        MappingProblem, Running]:
    """A mapping by HEFT of which the last device has left; the first has its state."""
    whole = random_problem(seed, nodes=20, count=4, objective=objective, serial=seed % 2 == 0,
                           memory=memory)
    answer = heft(whole)
    assert isinstance(answer, Mapping)
    problem = restricted(whole, np.arange(3))
    left = np.where(answer.device == 3, -1, answer.device)
    at = np.where(answer.device == 3, seed % 3, answer.device)
    return problem, Running(device=left, state_at=at, state_bytes=problem.graph.persistent_bytes)


def seconds_of_moves(problem: MappingProblem, running: Running, device: IntArray) -> float:
    """The same as `move_seconds`, one node after the other."""
    on = problem.devices
    sums: dict[tuple[int, int], float] = {}
    for node, target in enumerate(device.tolist()):
        source = int(running.state_at[node])
        if source != target and running.state_bytes[node] > 0:
            sums[source, target] = sums.get((source, target), 0.0) + running.state_bytes[node]
    busy = [0.0] * on.count
    for (source, target), size in sums.items():
        taken = on.latency_s[source, target] + size / on.bandwidth_bytes_per_s[source, target]
        busy[source] += taken
        busy[target] += taken
    return max(busy)


@pytest.mark.parametrize("horizon_s", [30.0, 1e4])
@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("seed", range(12))
def test_a_lost_device_is_repaired_and_other_moves_pay(
    seed: int, objective: Objective, horizon_s: float
) -> None:
    problem, running = after_loss(seed, objective)
    answer = replan(problem, running, horizon_s)
    assert isinstance(answer, Replan)
    assert not verify(answer.mapping, problem)
    assert value(problem, answer.mapping) <= answer.value_s * (1 + 1e-12)
    assert answer.move_s == pytest.approx(
        seconds_of_moves(problem, running, answer.mapping.device))
    lost = running.device < 0
    assert {move.node for move in answer.moves if move.source < 0} == set(np.flatnonzero(lost))
    if any(not move.forced for move in answer.moves):
        assert answer.payback_s <= horizon_s
        assert (horizon_s - answer.move_s) / answer.value_s > (
            horizon_s - answer.stay_move_s) / answer.stay_s
        assert answer.reasons[-1].rule == "gain"
    else:
        assert answer.stay_s == answer.value_s
        assert answer.reasons[-1].rule in ("best", "payback")
    assert sum(traffic.bytes for traffic in answer.traffic) == pytest.approx(
        running.state_bytes[answer.mapping.device != running.state_at].sum())


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("seed", range(8))
def test_a_fresh_plan_is_taken_up_only_as_far_as_it_pays(seed: int, objective: Objective) -> None:
    problem = random_problem(seed, nodes=20, count=3, objective=objective)
    groups = np.random.default_rng(seed).integers(0, 3, problem.graph.groups)
    device = np.where(problem.graph.pin >= 0, problem.graph.pin, groups[problem.graph.group])
    if not fits(problem, device):
        pytest.skip("the random mapping does not fit")
    running = running_on(problem, device, state=2.0)
    plan = heft(problem)
    assert isinstance(plan, Mapping)
    for horizon_s in (0.0, 5.0, 100.0, 1e6):
        answer = replan(problem, running, horizon_s, [plan])
        assert isinstance(answer, Replan)
        passes = max(0.0, horizon_s - answer.move_s) / answer.value_s
        assert passes >= horizon_s / answer.stay_s * (1 - 1e-12)
        if horizon_s == 0.0:
            assert not answer.moves
        if horizon_s == 1e6:
            wanted = seconds_of_moves(problem, running, plan.device)
            assert passes * (1 + 1e-9) >= (horizon_s - wanted) / value(problem, plan)


@pytest.mark.parametrize("seed", range(40))
def test_a_lost_device_is_repaired_exactly_if_that_is_possible(seed: int) -> None:
    draw = np.random.default_rng(seed)
    sizes = draw.integers(1, 8, 6).astype(float)
    room = draw.integers(8, 16, 2).astype(float)
    on = [DeviceCosts(id=f"d{n}", memory_bytes=limit) for n, limit in enumerate(room)]
    nodes = [NodeCosts(id=f"n{n}", compute_s=1.0, persistent_bytes=size)
             for n, size in enumerate(sizes)]
    problem = MappingProblem(
        graph=cost_graph(nodes, [], on)[0], objective=THROUGHPUT,
        devices=devices(on, LinkCosts(latency_s=0.0, bandwidth_bytes_per_s=1.0)))
    device = np.full(6, -1)
    for node in range(2):
        device[node] = node if sizes[node] <= room[node] else -1
    possible = any(
        all(sizes[np.array(choice) == number].sum() <= room[number] for number in range(2))
        for choice in itertools.product(range(2), repeat=6))
    answer = replan(problem, running_on(problem, device), 100.0)
    assert isinstance(answer, Replan) == possible, f"seed {seed}: {answer}"
    if isinstance(answer, Replan):
        assert fits(problem, answer.mapping.device)
    else:
        assert "bytes" in answer.reason


def chain(
    speeds: tuple[float, ...], objective: Objective, memory: float = 100.0, nodes: int = 8
) -> MappingProblem:
    described = [NodeCosts(id=f"n{n}", compute_s=1.0, persistent_bytes=10.0)
                 for n in range(nodes)]
    edges = [EdgeCosts(src=f"n{n}", dst=f"n{n + 1}", bytes=1.0) for n in range(nodes - 1)]
    on = [DeviceCosts(id=f"d{n}", speed=speed, memory_bytes=memory)
          for n, speed in enumerate(speeds)]
    return MappingProblem(
        graph=cost_graph(described, edges, on)[0], objective=objective,
        devices=devices(on, LinkCosts(latency_s=0.1, bandwidth_bytes_per_s=1.0)))


def test_a_joined_device_is_used_if_the_horizon_is_long_enough() -> None:
    problem = chain((1.0, 4.0), LATENCY)
    running = running_on(problem, np.zeros(8, dtype=np.int64), state=10.0)
    late = replan(problem, running, 1e4)
    assert isinstance(late, Replan)
    assert late.mapping.device.tolist() == [1] * 8
    assert (late.stay_s, late.value_s) == (pytest.approx(8.0), pytest.approx(2.0))
    assert late.move_s == pytest.approx(80.1)
    assert late.payback_s == pytest.approx(80.1 * 8 / 6)
    early = replan(problem, running, 100.0)
    assert isinstance(early, Replan)
    assert not early.moves
    assert early.reasons[-1].rule == "payback"
    assert early.reasons[-1].had > 100.0


def test_equal_loads_on_all_devices_give_way_to_a_new_one() -> None:
    problem = chain((1.0, 1.0, 1.0), THROUGHPUT, nodes=12)
    device = np.repeat([0, 1], 6)
    answer = replan(problem, running_on(problem, device), 1e6)
    assert isinstance(answer, Replan)
    assert loads(problem, answer.mapping.device).tolist() == [4.0, 4.0, 4.0]
    assert len(answer.moves) <= 6


def test_a_degraded_link_is_left() -> None:
    problem = chain((1.0, 1.0), LATENCY)
    links = problem.devices.latency_s.copy()
    links[0, 1] = links[1, 0] = 50.0
    problem = replace(problem, devices=replace(
        problem.devices, latency_s=links))
    device = np.array([0, 0, 0, 0, 1, 1, 1, 1])
    answer = replan(problem, running_on(problem, device), 1e5)
    assert isinstance(answer, Replan)
    assert len(np.unique(answer.mapping.device)) == 1
    assert answer.value_s == pytest.approx(8.0)


def test_less_memory_moves_the_least_that_suffices() -> None:
    problem = chain((1.0, 1.0), THROUGHPUT, memory=100.0)
    memory = np.array([65.0, 100.0])
    problem = replace(problem, devices=replace(problem.devices, memory_bytes=memory))
    device = np.zeros(8, dtype=np.int64)
    assert forced_nodes(problem, device).sum() == 2
    answer = replan(problem, running_on(problem, device), 0.0)
    assert isinstance(answer, Replan)
    assert [move.forced for move in answer.moves] == [True, True]


def test_a_changed_pin_moves_the_group() -> None:
    problem = chain((1.0, 1.0), LATENCY)
    pin = np.full(8, -1)
    pin[7] = 1
    problem = replace(problem, graph=replace(problem.graph, pin=pin))
    answer = replan(problem, running_on(problem, np.zeros(8, dtype=np.int64)), 0.0)
    assert isinstance(answer, Replan)
    assert [(move.node, move.target) for move in answer.moves] == [(7, 1)]


def test_state_comes_from_where_it_is_known_to_be_or_over_the_fastest_link() -> None:
    problem = chain((1.0, 1.0, 1.0), LATENCY)
    rate = problem.devices.bandwidth_bytes_per_s.copy()
    rate[2, 0] = 8.0
    on = replace(problem.devices, bandwidth_bytes_per_s=rate)
    state_at = np.array([0, 1, 2, -1, 0, 0, 0, 0])
    running = Running(device=np.full(8, -1), state_at=state_at, state_bytes=np.full(8, 16.0))
    traffic = moved(running, on, np.zeros(8, dtype=np.int64), nearest(on))
    assert traffic.source.tolist() == [1, 2]
    assert traffic.size.tolist() == [16.0, 32.0]
    assert traffic.seconds.tolist() == pytest.approx([16.1, 4.1])
    assert move_seconds(traffic, on) == pytest.approx(20.2)


def test_equal_devices_are_exchanged_so_that_state_stays() -> None:
    problem = chain((1.0, 1.0, 2.0), THROUGHPUT)
    device = np.array([0, 0, 0, 1, 1, 1, 2, 2])
    other = np.array([1, 1, 1, 0, 0, 0, 2, 2])
    assert renamed(problem, running_on(problem, device), other).tolist() == device.tolist()
    unequal = np.array([2, 2, 0, 1, 1, 1, 0, 0])
    assert renamed(problem, running_on(problem, device), unequal)[0] == 2


def test_the_present_start_times_count() -> None:
    """The order that runs now may be better than the one made anew."""
    problem = random_problem(5, nodes=25, count=3)
    answer = heft(problem)
    assert isinstance(answer, Mapping)
    running = replace(running_on(problem, answer.device), start_s=answer.start_s)
    proposal = replan(problem, running, 1e-9)
    assert isinstance(proposal, Replan)
    assert proposal.stay_s <= value(problem, answer) * (1 + 1e-12)
    assert proposal.mapping.algorithm == "stay"


def test_proposals_are_deterministic() -> None:
    problem, running = after_loss(3, LATENCY)
    one, other = (replan(problem, running, 500.0) for _ in range(2))
    assert isinstance(one, Replan)
    assert isinstance(other, Replan)
    assert one.moves == other.moves
    assert one.reasons == other.reasons
    assert one.mapping.start_s.tolist() == other.mapping.start_s.tolist()


def test_no_device_that_can_run_a_node_is_said() -> None:
    on = [DeviceCosts(id=name, memory_bytes=10.0) for name in "ab"]
    graph, _ = cost_graph([NodeCosts(id="x", compute_s={"c": 1.0})], [], on)
    problem = MappingProblem(graph=graph, objective=LATENCY, devices=devices(
        on, LinkCosts(latency_s=0.0, bandwidth_bytes_per_s=1.0), by_device=True))
    answer = replan(problem, running_on(problem, np.full(1, -1)), 10.0)
    assert isinstance(answer, Unmapped)
    assert "No device can run node 'x'" in answer.reason


def test_the_start_times_of_a_proposal_are_those_of_the_judge() -> None:
    problem, running = after_loss(1, LATENCY)
    answer = replan(problem, running, 1e4)
    assert isinstance(answer, Replan)
    order = np.argsort(answer.mapping.start_s, kind="stable")
    assert makespan(problem, answer.mapping.device, order)[0] <= answer.value_s * (1 + 1e-12)
