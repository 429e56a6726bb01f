"""Types of reductions over axes, and of operators that work along one axis."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ir.graph import FLOATS, TensorType
from ir.shapes.call import BOOL, INDICES, NUMBERS, WIDE, Call, Rule


def _reduce(dtypes: frozenset[str]) -> Rule:
    def rule(call: Call) -> Sequence[TensorType]:
        data = call.type(0, dtypes)
        axes = call.known(1) if call.has(1) else ()
        if not axes and call.integer("noop_with_empty_axes", 0):
            return [data]
        rank = len(data.shape)
        reduced = call.axes(axes, rank) if axes else tuple(range(rank))
        return [TensorType(data.dtype, _without(call, data.shape, reduced))]

    return rule


def _arg(call: Call) -> Sequence[TensorType]:
    data = call.type(0, NUMBERS)
    axis = call.axis(call.integer("axis", 0), len(data.shape))
    if data.shape[axis] == 0:
        raise call.fail(f"axis {axis} has no elements to choose from")
    return [TensorType("int64", _without(call, data.shape, (axis,)))]


def _without(call: Call, shape: tuple[int, ...], axes: Sequence[int]) -> tuple[int, ...]:
    if call.integer("keepdims", 1):
        return tuple(1 if place in axes else extent for place, extent in enumerate(shape))
    return tuple(extent for place, extent in enumerate(shape) if place not in axes)


def _softmax(call: Call) -> Sequence[TensorType]:
    data = call.type(0, FLOATS)
    if data.shape:
        call.axis(call.integer("axis", -1), len(data.shape))
    return [data]


def _cumsum(call: Call) -> Sequence[TensorType]:
    data = call.type(0, WIDE)
    if call.type(1, INDICES).elements != 1:
        raise call.fail("input 1 (the axis) must be a scalar")
    call.axis(call.known_one(1), len(data.shape))
    return [data]


def _top_k(call: Call) -> Sequence[TensorType]:
    data = call.type(0, NUMBERS)
    axis = call.axis(call.integer("axis", -1), len(data.shape))
    count = call.known_one(1)
    if not 0 <= count <= data.shape[axis]:
        raise call.fail(f"k is {count}, but axis {axis} has {data.shape[axis]} elements")
    shape = (*data.shape[:axis], count, *data.shape[axis + 1:])
    return [TensorType(data.dtype, shape), TensorType("int64", shape)]


_WIDE_REDUCTIONS = (
    "ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMean", "ReduceProd",
    "ReduceSum", "ReduceSumSquare")

RULES: Mapping[str, Rule] = {
    **dict.fromkeys(_WIDE_REDUCTIONS, _reduce(WIDE)),
    **dict.fromkeys(("ReduceMax", "ReduceMin"), _reduce(WIDE | BOOL | {"int8", "uint8"})),
    **dict.fromkeys(("ArgMax", "ArgMin"), _arg),
    **dict.fromkeys(("Hardmax", "LogSoftmax", "LpNormalization", "Softmax"), _softmax),
    **dict.fromkeys(("CumProd", "CumSum"), _cumsum),
    "TopK": _top_k,
}
