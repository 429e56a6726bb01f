"""Mixed-integer linear programs, built row by row and solved by HiGHS."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import csr_array

from dag.mapping.problem import FloatArray, IntArray

Term = tuple[int, float]
"""A variable and its coefficient."""


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Solution:
    """What the solver found.

    Attributes:
        point: value of each variable; None if it found none.
        bound: no point has a smaller objective; infinite if there is no point.
        finished: False if the limit ended the search.
    """

    point: FloatArray | None
    bound: float
    finished: bool


class Program:
    """Minimise one variable subject to linear rows; variables are numbered as they are made."""

    def __init__(self) -> None:
        self._lower: list[FloatArray] = []
        self._upper: list[FloatArray] = []
        self._whole: list[FloatArray] = []
        self._count = 0
        self._coefficients: list[float] = []
        self._columns: list[int] = []
        self._first: list[int] = [0]
        self._limits: list[float] = []

    def variables(
        self, upper: FloatArray, *, lower: float = 0.0, whole: bool = False
    ) -> IntArray:
        """Variables of one shape.

        Args:
            upper: largest value of each; its shape is the shape of the result.
            lower: smallest value of all.
            whole: only whole numbers.
        """
        size = upper.size
        self._upper.append(upper.ravel().astype(np.float64))
        self._lower.append(np.full(size, lower))
        self._whole.append(np.full(size, float(whole)))
        self._count += size
        return np.arange(self._count - size, self._count).reshape(upper.shape)

    def at_least(self, terms: Sequence[Term], limit: float) -> None:
        """One row: the sum of coefficient * variable is at least `limit`."""
        for variable, coefficient in terms:
            self._columns.append(int(variable))
            self._coefficients.append(float(coefficient))
        self._first.append(len(self._columns))
        self._limits.append(limit)

    def solve(
        self, objective: int, seconds: float, gap: float, *, relaxed: bool = False
    ) -> Solution:
        """Minimise.

        Args:
            objective: the variable.
            seconds: limit of the search; twice that if the solver fails numerically.
            gap: relative difference of value and bound that is taken for none.
            relaxed: let whole variables take any value; a lower bound.
        """
        cost = np.zeros(self._count)
        cost[objective] = 1.0
        rows = csr_array(
            (self._coefficients, self._columns, self._first),
            shape=(len(self._limits), self._count))
        for presolve in (True, False):
            result = milp(
                cost, integrality=None if relaxed else np.concatenate(self._whole),
                bounds=Bounds(np.concatenate(self._lower), np.concatenate(self._upper)),
                constraints=LinearConstraint(rows, np.array(self._limits), np.inf),
                options={"time_limit": seconds, "mip_rel_gap": gap, "presolve": presolve})
            # Undoing its simplifications HiGHS may miss its own tolerance by a rounding, and then
            # gives up what it found; without them it does not.
            if result.status != FAILED:
                break
        if result.status == INFEASIBLE:
            return Solution(point=None, bound=np.inf, finished=True)
        finished = result.status == SOLVED
        bound = result.fun if finished and relaxed else result.mip_dual_bound
        return Solution(
            point=result.x, bound=0.0 if bound is None else max(0.0, float(bound)),
            finished=finished)


SOLVED, INFEASIBLE, FAILED = 0, 2, 4
"""Answers of `scipy.optimize.milp`."""
