"""Local search: it stays feasible, never loses, finds known optima and drops no load."""

from __future__ import annotations

import numpy as np
import pytest

from dag.mapping.anneal_latency import anneal_latency
from dag.mapping.anneal_throughput import anneal_throughput
from dag.mapping.judge import loads, makespan, value
from dag.mapping.problem import LATENCY, THROUGHPUT, Mapping, MappingProblem, Objective
from dag.mapping.verify import verify
from dag.placers.packing import packing
from tests.dag.mapping.conftest import random_problem


def improved(problem: MappingProblem, start: Mapping, visits: int, seed: int) -> Mapping:
    search = anneal_latency if problem.objective == LATENCY else anneal_throughput
    return search(problem, start, visits, seed, 0.2)


@pytest.mark.parametrize("serial", [False, True], ids=["overlap", "serial"])
@pytest.mark.parametrize("objective", [LATENCY, THROUGHPUT])
@pytest.mark.parametrize("seed", range(20))
def test_sound_and_never_worse(seed: int, objective: Objective, serial: bool) -> None:
    problem = random_problem(seed, 18, 4, objective, serial=serial, memory=18.0)
    start = packing(problem)
    assert isinstance(start, Mapping), f"seed {seed}"
    found = improved(problem, start, 200_000, seed)
    assert verify(found, problem) == (), f"seed {seed}"
    assert value(problem, found) <= value(problem, start), f"seed {seed}"
    assert np.array_equal(improved(problem, start, 200_000, seed).device, found.device)


@pytest.mark.parametrize("seed", range(6))
def test_the_best_of_all_assignments_is_found(seed: int) -> None:
    problem = random_problem(seed, 8, 3, THROUGHPUT, serial=True, bound=False)
    best = min(
        loads(problem, np.array([code // 3**n % 3 for n in range(8)])).max()
        for code in range(3**8))
    device = np.zeros(8, dtype=np.int64)
    start = Mapping(algorithm="d0", device=device, start_s=makespan(problem, device)[1])
    found = improved(problem, start, 4_000_000, seed)
    assert value(problem, found) == pytest.approx(best), f"seed {seed}"
