"""Compiled loops: they say what the plain ones say, with and without a place for the cache."""

from __future__ import annotations

import numpy as np

from dag.compiled import compiled
from dag.mapping.judge import makespan
from dag.mapping.judge import play as compiled_play
from tests.dag.mapping.conftest import random_problem


def test_a_function_that_cannot_be_cached_is_compiled_all_the_same() -> None:
    space: dict[str, object] = {}
    exec(compile("def twice(x):\n    return 2 * x\n", "<nowhere>", "exec"), space)
    assert compiled(space["twice"])(21) == 42


def test_the_judge_is_the_same_without_its_compiler(monkeypatch) -> None:
    problem = random_problem(11, 20, 4, serial=True)
    device = np.arange(20) % 4
    expected = makespan(problem, device)
    monkeypatch.setattr("dag.mapping.judge.play", compiled_play.py_func)
    plain = makespan(problem, device)
    assert plain[0] == expected[0]
    assert np.array_equal(plain[1], expected[1])
