"""Values known before the run: shape arithmetic on small integers and truth values.

Arithmetic is done on Python integers (numpy object arrays), so it cannot wrap; a result that does
not fit its dtype is refused. Only outputs of at most `MAX_HOST_ELEMENTS` elements get here.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from functools import reduce
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt

from homespun.errors import Code, HomespunError
from ir.graph import TensorType
from ir.shapes.call import ALL, BOOL, Call, Value
from ir.shapes.indexing import slice_ranges
from ir.shapes.shape_ops import constant_value, fill_value, split_extents

Objects = npt.NDArray[np.object_]
"""Python ints, bools or floats, as an array."""
Fold = Callable[[Call, Sequence[TensorType]], Sequence[Objects]]
"""Values of a call's outputs, given their types. Every given input is known, unless in `TYPED`."""

TYPED = frozenset({"Shape", "Size", "Constant"})
"""Operators whose result is known even if their inputs' values are not."""

EXACT = frozenset({
    "Cast", "CastLike", "Constant", "ConstantOfShape", "Gather", "Identity", "Reshape", "Squeeze",
    "Unsqueeze"})
"""Operators that are host work for floats too: they round nothing but the conversion itself.

A float `Range` needs its bounds, which exporters convert from integers.
"""
EXACT_FLOATS = frozenset({"float32", "float64"})

_MAX_EXPONENT = 64
"""This power and larger ones of any integer but -1, 0 and 1 do not fit 64 bits."""


def fold(call: Call, types: Sequence[TensorType]) -> tuple[Value, ...] | None:
    """Values of the outputs, or None if the operator is not host work.

    Args:
        call: the call; values of all given inputs are known, unless the operator is in `TYPED`.
        types: types of the outputs: integers or booleans (or `EXACT_FLOATS`, if the operator is in
            `EXACT`), at most `MAX_HOST_ELEMENTS` elements.

    Raises:
        HomespunError: LIMIT_EXCEEDED if a result does not fit its dtype; INVALID_GRAPH for a
            division by zero or an index out of range.
    """
    rule = FOLDS.get(call.node.op_type)
    if rule is None:
        return None
    results = rule(call, types)
    return tuple(_typed(call, *pair) for pair in zip(results, types, strict=False))


def _typed(call: Call, result: Objects, type_: TensorType) -> Value:
    # numpy unwraps an object array without axes into the object itself.
    result = np.asarray(result, dtype=np.object_)
    if type_.dtype not in EXACT_FLOATS | BOOL:
        limits = np.iinfo(type_.dtype)
        for item in result.reshape(-1).tolist():
            if not limits.min <= item <= limits.max:
                raise HomespunError(
                    Code.LIMIT_EXCEEDED,
                    f"Node {call.node.index} '{call.node.name}' ({call.node.op_type}): the result "
                    f"does not fit {type_.dtype}.", node=call.node.index)
    with np.errstate(over="ignore"):  # A float beyond float32 becomes infinite, as on a device.
        return result.astype(type_.dtype).reshape(type_.shape)


def _objects(call: Call, position: int) -> Objects:
    return call.value(position).astype(np.object_)


def _apply(
    function: Callable[..., Any], shape: tuple[int, ...], operands: Sequence[Objects]
) -> Objects:
    """`function` for each element of the broadcast operands."""
    wide = [np.broadcast_to(operand, shape).reshape(-1).tolist() for operand in operands]
    result = np.empty(prod(shape), dtype=np.object_)
    result[:] = [function(*items) for items in zip(*wide, strict=True)]
    return result.reshape(shape)


def _each(function: Callable[..., Any]) -> Fold:
    """An element-wise operator."""

    def rule(call: Call, types: Sequence[TensorType]) -> Sequence[Objects]:
        operands = [_objects(call, position) for position in range(len(call.types))]
        try:
            return [_apply(function, types[0].shape, operands)]
        except (ArithmeticError, ValueError) as error:
            raise call.fail(f"the value cannot be computed: {error}") from None

    return rule


def _moved(move: Callable[[Call, Objects, TensorType], Objects]) -> Fold:
    """An operator that only rearranges the elements of its first input."""
    return lambda call, types: [move(call, _objects(call, 0), types[0])]


def _divide(left: int, right: int) -> int:
    """Integer division that truncates towards zero, as ONNX `Div` does."""
    quotient = abs(left) // abs(right)
    return quotient if (left < 0) == (right < 0) else -quotient


def _power(base: int, exponent: float) -> int:
    if exponent < 0 or exponent != int(exponent):
        raise ArithmeticError("only whole powers of integers are host work")
    if base not in (-1, 0, 1):
        exponent = min(exponent, _MAX_EXPONENT)
    result: int = base ** int(exponent)
    return result


def _mod(call: Call, types: Sequence[TensorType]) -> Sequence[Objects]:
    truncating = call.integer("fmod", 0)
    function = _remainder if truncating else operator.mod
    return _each(function)(call, types)


def _remainder(left: int, right: int) -> int:
    return left - _divide(left, right) * right


def _cast(call: Call, types: Sequence[TensorType]) -> Sequence[Objects]:
    dtype = types[0].dtype
    convert: Callable[[Any], Any] = bool if dtype == "bool" else int
    if dtype in EXACT_FLOATS:
        convert = float
    try:
        return [_apply(convert, types[0].shape, [_objects(call, 0)])]
    except (OverflowError, ValueError):
        raise call.fail("a value that is not finite cannot become an integer") from None


def _clip(call: Call, types: Sequence[TensorType]) -> Sequence[Objects]:
    result = _objects(call, 0)
    for position, function in ((1, max), (2, min)):
        if call.has(position):
            bound = _objects(call, position).reshape(())
            result = _apply(function, types[0].shape, [result, bound])
    return [result]


def _shape(call: Call, types: Sequence[TensorType]) -> Sequence[Objects]:
    shape = call.type(0, ALL).shape
    start, end = call.integer("start", 0), call.integer("end", len(shape))
    return [np.array(shape[start:end], dtype=np.object_)]


def _size(call: Call, types: Sequence[TensorType]) -> Sequence[Objects]:
    return [np.array(call.type(0, ALL).elements, dtype=np.object_)]


def _concat(call: Call, types: Sequence[TensorType]) -> Sequence[Objects]:
    parts = [_objects(call, position) for position in range(len(call.types))]
    return [np.concatenate(parts, axis=call.integer("axis"))]


def _split(call: Call, types: Sequence[TensorType]) -> Sequence[Objects]:
    axis, sizes = split_extents(call)
    return np.split(_objects(call, 0), np.cumsum(sizes)[:-1], axis=axis)


def _gather(call: Call, types: Sequence[TensorType]) -> Sequence[Objects]:
    data, axis = _objects(call, 0), call.integer("axis", 0)
    indices = call.value(1).astype(np.int64)
    extent = data.shape[axis]
    if indices.size and not -extent <= int(indices.min()) <= int(indices.max()) < extent:
        raise call.fail(f"an index is outside [{-extent}, {extent - 1}]")
    return [np.take(data, indices, axis=axis)]


def _slice(call: Call, data: Objects, type_: TensorType) -> Objects:
    for axis, indices in slice_ranges(call).items():
        data = np.take(data, np.array(indices, dtype=np.int64), axis=axis)
    return data


def _transpose(call: Call, data: Objects, type_: TensorType) -> Objects:
    return np.transpose(data, call.integers("perm"))


def _tile(call: Call, data: Objects, type_: TensorType) -> Objects:
    return np.tile(data, call.known(1))


def _range(call: Call, types: Sequence[TensorType]) -> Sequence[Objects]:
    start, _, step = (call.known_one(position) for position in range(3))
    items = [start + step * place for place in range(types[0].elements)]
    return [np.array(items, dtype=np.object_)]


def _fill(call: Call, types: Sequence[TensorType]) -> Sequence[Objects]:
    return [np.full(types[0].shape, fill_value(call)[0].item(), dtype=np.object_)]


def _lowest(dtype: str) -> int:
    return False if dtype == "bool" else int(np.iinfo(dtype).min)


def _highest(dtype: str) -> int:
    return True if dtype == "bool" else int(np.iinfo(dtype).max)


def _reduce(function: Callable[[Any, Any], Any], start: Callable[[str], int]) -> Fold:
    """A reduction; `start` gives the neutral element of a dtype."""

    def rule(call: Call, types: Sequence[TensorType]) -> Sequence[Objects]:
        data = _objects(call, 0)
        axes = call.known(1) if call.has(1) else ()
        if not axes and call.integer("noop_with_empty_axes", 0):
            return [data]
        reduced = call.axes(axes, data.ndim) if axes else tuple(range(data.ndim))
        kept = [axis for axis in range(data.ndim) if axis not in reduced]
        count = prod(data.shape[axis] for axis in reduced)
        rows = np.transpose(data, (*kept, *reduced)).reshape(types[0].elements, count)
        items = [reduce(function, row, start(types[0].dtype)) for row in rows.tolist()]
        return [np.array(items, dtype=np.object_)]

    return rule


_SAME_ELEMENTS = _moved(lambda call, data, type_: data)
"""The elements stay as they are; only the shape changes."""

FOLDS: Mapping[str, Fold] = {
    "Abs": _each(abs), "Add": _each(operator.add), "And": _each(lambda a, b: a and b),
    "Cast": _cast, "CastLike": _cast, "Clip": _clip, "Concat": _concat,
    "Constant": lambda call, types: [constant_value(call).astype(np.object_)],
    "ConstantOfShape": _fill, "Div": _each(_divide), "Equal": _each(operator.eq),
    "Expand": _moved(lambda call, data, type_: np.broadcast_to(data, type_.shape)),
    "Flatten": _SAME_ELEMENTS, "Gather": _gather,
    "Greater": _each(operator.gt), "GreaterOrEqual": _each(operator.ge),
    "Identity": _SAME_ELEMENTS, "Less": _each(operator.lt),
    "LessOrEqual": _each(operator.le), "Max": _each(lambda *items: max(items)),
    "Min": _each(lambda *items: min(items)), "Mod": _mod, "Mul": _each(operator.mul),
    "Neg": _each(operator.neg), "Not": _each(operator.not_), "Or": _each(lambda a, b: a or b),
    "Pow": _each(_power), "Range": _range, "ReduceMax": _reduce(max, _lowest),
    "ReduceMin": _reduce(min, _highest), "ReduceProd": _reduce(operator.mul, lambda dtype: 1),
    "ReduceSum": _reduce(operator.add, lambda dtype: 0),
    "Reshape": _SAME_ELEMENTS, "Shape": _shape,
    "Sign": _each(lambda item: (item > 0) - (item < 0)), "Size": _size,
    "Slice": _moved(_slice), "Split": _split, "Squeeze": _SAME_ELEMENTS,
    "Sub": _each(operator.sub), "Tile": _moved(_tile), "Transpose": _moved(_transpose),
    "Unsqueeze": _SAME_ELEMENTS,
    "Where": _each(lambda chosen, left, right: left if chosen else right),
    "Xor": _each(operator.ne),
}
"""op_type -> how the host computes it."""
