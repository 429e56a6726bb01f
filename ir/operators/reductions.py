"""Operators that reduce over axes."""

from __future__ import annotations

from collections.abc import Mapping

from ir.operators.info import OperatorInfo, op


def _reduction(description: str) -> OperatorInfo:
    return op(f"{description} over axes", (1, 2), optional="keepdims noop_with_empty_axes")


REDUCTIONS: Mapping[str, OperatorInfo] = {
    "ReduceL1": _reduction("sum of absolute values"),
    "ReduceL2": _reduction("root of the sum of squares"),
    "ReduceLogSum": _reduction("log of the sum"),
    "ReduceLogSumExp": _reduction("log of the sum of exponentials"),
    "ReduceMax": _reduction("largest"),
    "ReduceMean": _reduction("mean"),
    "ReduceMin": _reduction("smallest"),
    "ReduceProd": _reduction("product"),
    "ReduceSum": _reduction("sum"),
    "ReduceSumSquare": _reduction("sum of squares"),
}
