"""Dtypes that torch has no kernel for, where an operator allows them.

Found by running every operator over every dtype (tests/peer/executor/test_declared_dtypes.py). All
are integers, most of them the unsigned ones that torch stores rather than computes in.
"""

from __future__ import annotations

from collections.abc import Mapping

from dag.support import ALL_DTYPES, DtypeSet, Slots

_GAPS: Mapping[tuple[str, ...], str] = {
    ("uint16", "uint32", "uint64"):
        "ArgMax ArgMin Col2Im GatherElements ScatterElements ScatterND TensorScatter",
    ("uint32", "uint64"): "Gemm MatMul ReduceL1 ReduceMax ReduceMin ReduceSum ReduceSumSquare",
    ("int32", "int64", "uint32", "uint64"): "ReduceLogSum",
}
"""Dtypes of an operator's first input, which the others and the result share -> operators."""


def narrower_slots() -> dict[str, Slots]:
    """Dtypes of the slots of the operators that torch does not run over everything."""
    return {
        operator: ((_without(dtypes), ALL_DTYPES), (ALL_DTYPES,))
        for dtypes, operators in _GAPS.items() for operator in operators.split()}


def _without(dtypes: tuple[str, ...]) -> DtypeSet:
    return DtypeSet(dtypes=tuple(sorted({*ALL_DTYPES.dtypes} - {*dtypes})))
