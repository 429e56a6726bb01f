"""Types of operators that read or write parts of a tensor."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ir.graph import TensorType
from ir.shapes.call import INDICES, Call, Rule


def slice_ranges(call: Call) -> dict[int, range]:
    """Axis -> the indices that a `Slice` takes along it; axes it leaves whole are absent.

    Source: ONNX operator reference, Slice. Unlike Python's slices, a start below the first element
    is clamped to it for negative steps too.
    """
    data = call.type(0)
    starts, ends = call.known(1), call.known(2)
    axes = call.known(3) if call.has(3) else tuple(range(len(starts)))
    steps = call.known(4) if call.has(4) else (1,) * len(starts)
    if not len(starts) == len(ends) == len(axes) == len(steps):
        raise call.fail("starts, ends, axes and steps must be equally long")
    call.axes(axes, len(data.shape))
    if 0 in steps:
        raise call.fail("a step is 0")
    return {
        axis % len(data.shape): _taken(data.shape[axis], start, end, step)
        for start, end, axis, step in zip(starts, ends, axes, steps, strict=True)
    }


def _taken(extent: int, start: int, end: int, step: int) -> range:
    if extent == 0:
        return range(0)
    start = start + extent if start < 0 else start
    end = end + extent if end < 0 else end
    if step > 0:
        return range(min(max(start, 0), extent), min(max(end, 0), extent), step)
    return range(min(max(start, 0), extent - 1), min(max(end, -1), extent - 1), step)


def _slice(call: Call) -> Sequence[TensorType]:
    data = call.type(0)
    shape = list(data.shape)
    for axis, indices in slice_ranges(call).items():
        shape[axis] = len(indices)
    return [TensorType(data.dtype, tuple(shape))]


def _gather(call: Call) -> Sequence[TensorType]:
    data, indices = call.type(0), call.type(1, INDICES)
    axis = call.axis(call.integer("axis", 0), len(data.shape))
    return [TensorType(data.dtype, data.shape[:axis] + indices.shape + data.shape[axis + 1:])]


def _gather_elements(call: Call) -> Sequence[TensorType]:
    data, indices = call.type(0), call.type(1, INDICES)
    axis = call.axis(call.integer("axis", 0), len(data.shape))
    _fits(call, indices.shape, data.shape, axis)
    return [TensorType(data.dtype, indices.shape)]


def _scatter_elements(call: Call) -> Sequence[TensorType]:
    data, indices = call.type(0), call.type(1, INDICES)
    call.same_dtype((0, 2))
    axis = call.axis(call.integer("axis", 0), len(data.shape))
    if call.type(2).shape != indices.shape:
        raise call.fail(f"indices {indices.shape} and updates {call.type(2).shape} differ")
    _fits(call, indices.shape, data.shape, axis)
    _reduction(call)
    return [data]


def _fits(call: Call, indices: tuple[int, ...], data: tuple[int, ...], axis: int) -> None:
    if len(indices) != len(data) or any(
        place != axis and inner > outer
        for place, (inner, outer) in enumerate(zip(indices, data, strict=True))
    ):
        raise call.fail(f"indices of shape {indices} do not fit data of shape {data}")


def _gather_nd(call: Call) -> Sequence[TensorType]:
    data, indices = call.type(0), call.type(1, frozenset({"int64"}))
    batch = call.integer("batch_dims", 0)
    if not 0 <= batch < min(len(data.shape), len(indices.shape)):
        raise call.fail(f"batch_dims {batch} is not below both ranks")
    if data.shape[:batch] != indices.shape[:batch]:
        raise call.fail(f"batch axes of {data.shape} and {indices.shape} differ")
    taken = batch + indices.shape[-1]
    if not batch < taken <= len(data.shape):
        raise call.fail(f"index tuples of {indices.shape[-1]} do not fit shape {data.shape}")
    return [TensorType(data.dtype, indices.shape[:-1] + data.shape[taken:])]


def _scatter_nd(call: Call) -> Sequence[TensorType]:
    data, indices = call.type(0), call.type(1, frozenset({"int64"}))
    call.same_dtype((0, 2))
    if not data.shape or not indices.shape or indices.shape[-1] > len(data.shape):
        raise call.fail(f"indices of shape {indices.shape} do not fit data of shape {data.shape}")
    expected = indices.shape[:-1] + data.shape[indices.shape[-1]:]
    if call.type(2).shape != expected:
        raise call.fail(f"updates have shape {call.type(2).shape}, expected {expected}")
    _reduction(call)
    return [data]


def _reduction(call: Call) -> None:
    if call.text("reduction", "none") not in ("none", "add", "mul", "max", "min"):
        raise call.fail("reduction must be none, add, mul, max or min")


RULES: Mapping[str, Rule] = {
    "Gather": _gather, "GatherElements": _gather_elements, "GatherND": _gather_nd,
    "ScatterElements": _scatter_elements, "ScatterND": _scatter_nd, "Slice": _slice,
}
