"""The exact programs against trying everything, and the bounds against both."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

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
from dag.placers.bounds import lower_bound
from dag.placers.exact import optimum
from tests.dag.mapping.conftest import random_problem
from tests.dag.placers.enumeration import least

SECONDS = 60.0


def check(problem: MappingProblem, seed: int) -> None:
    best, found = least(problem), optimum(problem, SECONDS)
    assert found.finished, f"seed {seed}"
    assert found.value_s == pytest.approx(best, rel=2e-5), f"seed {seed}"
    assert found.bound_s <= best * (1 + 2e-5), f"seed {seed}"
    assert lower_bound(problem) <= best * (1 + 1e-9), f"seed {seed}"
    assert lower_bound(problem, linear_cells=0) <= best * (1 + 1e-9), f"seed {seed}"
    if np.isfinite(best):
        assert isinstance(found.mapping, Mapping)
        assert verify(found.mapping, problem) == (), f"seed {seed}"
        assert value(problem, found.mapping) >= found.value_s * (1 - 2e-5), f"seed {seed}"
    else:
        assert isinstance(found.mapping, Unmapped)


@pytest.mark.parametrize("serial", [False, True])
@pytest.mark.parametrize("seed", range(12))
def test_throughput(seed: int, serial: bool) -> None:
    check(random_problem(seed, 6, 3, THROUGHPUT, serial=serial, memory=8.0), seed)


@pytest.mark.parametrize("seed", range(9))
def test_latency_over_overlapping_channels(seed: int) -> None:
    check(random_problem(seed, 5, 3, LATENCY, memory=8.0), seed)


@pytest.mark.parametrize("seed", range(12))
def test_latency_over_serial_channels(seed: int) -> None:
    check(random_problem(seed, 5, 2, LATENCY, serial=True, memory=8.0), seed)


@pytest.mark.parametrize("objective", [LATENCY, THROUGHPUT])
@pytest.mark.parametrize("serial", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_little_memory(seed: int, serial: bool, objective: Objective) -> None:
    check(random_problem(seed, 5, 2, objective, serial=serial, memory=4.5, bound=False), seed)


@pytest.mark.parametrize("objective", [LATENCY, THROUGHPUT])
def test_a_device_that_cannot_run_a_node(objective: Objective) -> None:
    problem = random_problem(1, 5, 3, objective, bound=False)
    graph = problem.graph
    seconds = np.repeat(graph.compute_s, 3, axis=1)
    seconds[::2, 1] = np.inf
    columns = dataclasses.replace(problem.devices, column=np.arange(3))
    check(dataclasses.replace(
        problem, devices=columns, graph=dataclasses.replace(
            graph, compute_s=seconds, backward_s=np.repeat(graph.backward_s, 3, axis=1))), 1)


@pytest.mark.parametrize("objective", [LATENCY, THROUGHPUT])
def test_nothing_fits(objective: Objective) -> None:
    problem = random_problem(2, 5, 2, objective, memory=0.1)
    found = optimum(problem, SECONDS)
    assert isinstance(found.mapping, Unmapped)
    assert found.finished
    assert found.value_s == found.bound_s == lower_bound(problem) == np.inf


def test_a_search_that_did_not_finish_says_so() -> None:
    problem = random_problem(0, 40, 4, THROUGHPUT, serial=True, bound=False)
    found = optimum(problem, 0.05)
    assert not found.finished
    assert found.bound_s <= found.value_s


def test_a_memory_limit_that_is_met_to_the_byte() -> None:
    problem = random_problem(5, 5, 2, THROUGHPUT, memory=1e9, bound=False)
    graph = problem.graph
    exactly = np.array([
        graph.persistent_bytes[:2].sum() + graph.output_bytes[:2].sum()
        + graph.temporary_bytes[:2].max(), 1e9])
    limited = dataclasses.replace(problem.devices, memory_bytes=exactly)
    check(dataclasses.replace(problem, devices=limited), 5)
    below = dataclasses.replace(problem.devices, memory_bytes=exactly * (1 - 1e-8))
    check(dataclasses.replace(problem, devices=below), 5)


@pytest.mark.parametrize("objective", [LATENCY, THROUGHPUT])
@pytest.mark.parametrize("serial", [False, True])
@pytest.mark.parametrize("seed", range(8))
def test_bounds_of_larger_problems(seed: int, serial: bool, objective: Objective) -> None:
    problem = random_problem(seed, 8, 3, objective, serial=serial, memory=12.0)
    best = optimum(problem, SECONDS).bound_s
    for cells in (0, 20_000):
        bound = lower_bound(problem, linear_cells=cells)
        assert 0.0 < bound <= best * (1 + 2e-5), f"seed {seed}"
