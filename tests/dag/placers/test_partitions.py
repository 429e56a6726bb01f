"""Partitions for throughput: contiguous against trying every cut, and the greedy one."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from dag.mapping import judge
from dag.mapping.build import DeviceCosts, EdgeCosts, LinkCosts, NodeCosts, cost_graph, devices
from dag.mapping.problem import THROUGHPUT, Mapping, MappingProblem, Unmapped
from dag.mapping.units import acyclic_groups
from dag.mapping.verify import verify
from dag.placers.balance import balance
from dag.placers.bounds import lower_bound
from dag.placers.branch import branch
from dag.placers.contiguous import down_sets, prefixes
from dag.placers.ideals import device_orders, ideals
from dag.placers.pipedream import pipedream
from tests.dag.mapping.conftest import random_problem
from tests.dag.placers.enumeration import feasible, least

PLACERS = (pipedream, ideals, balance, branch)


def chain(
    times: list[float], speeds: list[float], *, serial: bool, sent: float = 1.0,
    memory: float = 100.0,
) -> MappingProblem:
    on = [DeviceCosts(id=f"d{n}", memory_bytes=memory, speed=s) for n, s in enumerate(speeds)]
    nodes = [NodeCosts(id=f"n{n}", compute_s=t, persistent_bytes=10.0)
             for n, t in enumerate(times)]
    edges = [EdgeCosts(src=f"n{n}", dst=f"n{n + 1}", bytes=sent) for n in range(len(times) - 1)]
    return MappingProblem(
        graph=cost_graph(nodes, edges, on)[0], objective=THROUGHPUT, devices=devices(
            on, LinkCosts(latency_s=0.0, bandwidth_bytes_per_s=1.0), serial=serial))


def best_cut(problem: MappingProblem) -> float:
    """Over every cut into stages on the first devices of each order."""
    units = acyclic_groups(problem)
    least = np.inf
    allowed = {tuple(device.tolist()) for device in feasible(problem)}
    for order in device_orders(problem, units):
        for stage in itertools.product(range(len(order)), repeat=units.count):
            if set(stage) != set(range(max(stage) + 1)) or any(
                stage[a] > stage[b]
                for a, b in zip(units.source.tolist(), units.target.tolist(), strict=True)
            ):
                continue
            device = np.array(order)[list(stage)][units.label]
            if tuple(device.tolist()) in allowed:
                least = min(least, float(judge.loads(problem, device).max()))
    return least


@pytest.mark.parametrize("seed", range(12))
def test_down_sets_find_the_best_cut(seed: int) -> None:
    problem = random_problem(seed, 7, 3, THROUGHPUT, memory=9.0)
    best, found = best_cut(problem), ideals(problem)
    if np.isinf(best):
        assert isinstance(found, Unmapped)
        return
    assert isinstance(found, Mapping)
    assert found.algorithm == "ideals"
    assert judge.value(problem, found) == pytest.approx(best, rel=1e-12), f"seed {seed}"


@pytest.mark.parametrize("seed", range(6))
def test_serial_chains_are_cut_best(seed: int) -> None:
    times = np.random.default_rng(seed).uniform(0.5, 6.0, 7).tolist()
    problem = chain(times, [1.0, 2.0, 0.5], serial=True)
    found = ideals(problem)
    assert isinstance(found, Mapping)
    assert judge.value(problem, found) == pytest.approx(best_cut(problem), rel=1e-12)


@pytest.mark.parametrize("seed", range(6))
def test_serial_graphs_are_cut_no_better_than_best(seed: int) -> None:
    problem = random_problem(seed, 7, 3, THROUGHPUT, serial=True, memory=9.0)
    found = ideals(problem)
    if isinstance(found, Mapping):
        assert judge.value(problem, found) >= best_cut(problem) * (1 - 1e-12), f"seed {seed}"


def test_pipedream_takes_devices_for_alike() -> None:
    found = pipedream(chain([2.0, 2.0, 2.0, 2.0], [1.0, 3.0], serial=False))
    assert isinstance(found, Mapping)
    assert found.device.tolist() == [0, 0, 1, 1]


def test_pipedream_keeps_a_costly_transfer_inside_a_stage() -> None:
    problem = chain([2.0, 2.0, 2.0, 2.0], [1.0, 1.0], serial=True, sent=3.0)
    found = pipedream(problem)
    assert isinstance(found, Mapping)
    assert judge.value(problem, found) == 7.0
    single = pipedream(chain([2.0, 2.0, 2.0, 2.0], [1.0, 1.0], serial=True, sent=5.0))
    assert isinstance(single, Mapping)
    assert single.device.tolist() == [0, 0, 0, 0]


def test_too_many_down_sets_fall_back_to_one_order_and_say_so() -> None:
    problem = random_problem(3, 12, 3, THROUGHPUT, bound=False)
    units = acyclic_groups(problem)
    every = down_sets(units, 100_000)
    assert every is not None
    assert set(prefixes(units)) <= set(every)
    assert down_sets(units, len(every) - 1) is None
    whole, linear = ideals(problem), ideals(problem, most_sets=len(every) - 1)
    assert isinstance(whole, Mapping)
    assert isinstance(linear, Mapping)
    assert (whole.algorithm, linear.algorithm) == ("ideals", "ideals-linear")
    assert judge.value(problem, whole) <= judge.value(problem, linear)


@pytest.mark.parametrize("serial", [False, True])
@pytest.mark.parametrize("seed", range(12))
def test_every_partition_is_sound_and_the_same_again(seed: int, serial: bool) -> None:
    for placer in PLACERS:
        problem = random_problem(seed, 20, 4, THROUGHPUT, serial=serial, memory=25.0)
        found = placer(problem)
        again = placer(random_problem(seed, 20, 4, THROUGHPUT, serial=serial, memory=25.0))
        if isinstance(found, Unmapped):
            assert found == again
            continue
        assert isinstance(again, Mapping)
        assert verify(found, problem) == (), f"seed {seed}"
        assert np.array_equal(found.device, again.device)
        assert judge.value(problem, found) >= lower_bound(problem) * (1 - 1e-9), f"seed {seed}"


@pytest.mark.parametrize("serial", [False, True])
@pytest.mark.parametrize("memory", [5.0, 9.0])
@pytest.mark.parametrize("seed", range(10))
def test_branching_finds_the_optimum(seed: int, memory: float, serial: bool) -> None:
    problem = random_problem(seed, 7, 3, THROUGHPUT, serial=serial, memory=memory)
    best, found = least(problem), branch(problem)
    if np.isinf(best):
        assert isinstance(found, Unmapped)
        return
    assert isinstance(found, Mapping)
    assert verify(found, problem) == (), f"seed {seed}"
    assert judge.value(problem, found) == pytest.approx(best, rel=1e-12), f"seed {seed}"


def test_branching_over_equal_devices() -> None:
    problem = chain([5.0, 4.0, 3.0, 3.0, 3.0], [1.0, 1.0], serial=False, memory=30.0)
    found = branch(problem)
    assert isinstance(found, Mapping)
    assert judge.value(problem, found) == 9.0


def test_temporary_bytes_count_once_for_a_device() -> None:
    problem = random_problem(7, 8, 2, THROUGHPUT, memory=13.0, bound=False)
    assert problem.graph.temporary_bytes.any()
    found = ideals(problem)
    assert isinstance(found, Mapping)
    assert judge.value(problem, found) == pytest.approx(best_cut(problem), rel=1e-12)


def test_a_cycle_of_groups_stays_together() -> None:
    on = [DeviceCosts(id=f"d{n}", memory_bytes=100.0) for n in range(2)]
    nodes = [NodeCosts(id=name, compute_s=1.0, colocate=group)
             for name, group in (("a", "g"), ("b", ""), ("c", "g"), ("d", ""))]
    edges = [EdgeCosts(src=a, dst=b, bytes=1.0) for a, b in ("ab", "bc", "cd")]
    problem = MappingProblem(
        graph=cost_graph(nodes, edges, on)[0], objective=THROUGHPUT,
        devices=devices(on, LinkCosts(latency_s=0.0, bandwidth_bytes_per_s=1.0)))
    found = ideals(problem)
    assert isinstance(found, Mapping)
    assert judge.value(problem, found) == 3.0
    free = balance(problem)
    assert isinstance(free, Mapping)
    assert judge.value(problem, free) == 2.0


@pytest.mark.parametrize("placer", PLACERS)
def test_nothing_fits(placer) -> None:
    found = placer(random_problem(1, memory=0.1, objective=THROUGHPUT))
    assert isinstance(found, Unmapped)
    assert found.reason
