"""Loops over arrays compiled to machine code.

List scheduling and local search visit every node thousands of times and depend on their last step,
so they cannot be written as array operations. `compiled` keeps them plain Python that mypy checks
and a debugger can enter (`NUMBA_DISABLE_JIT=1`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ParamSpec, TypeVar

import numba

P = ParamSpec("P")
R = TypeVar("R")


def compiled(function: Callable[P, R]) -> Callable[P, R]:
    """Compile at first call, once per machine: the result is cached on disk where there is room.

    Args:
        function: on numbers, booleans and numpy arrays. No reordering of floating-point
            operations is allowed, so that plans are equal on every run.
    """
    try:
        made: Callable[P, R] = numba.njit(cache=True, fastmath=False)(function)
    except RuntimeError:
        # Nowhere to keep the result, such as a read-only installation without a home folder.
        made = numba.njit(fastmath=False)(function)
    return made
