"""Types of operators that read or write parts of a tensor."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ir.graph import TensorType
from ir.shapes.call import COMPUTED, INDICES, Call, Rule
from ir.shapes.elementwise import onnx_dtype


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


def _compress(call: Call) -> Sequence[TensorType]:
    data = call.type(0)
    call.type(1, frozenset({"bool"}))
    chosen = call.value(1).reshape(-1)
    named = "axis" in call.node.attributes
    extent = data.elements
    if named:
        axis = call.axis(call.integer("axis"), len(data.shape))
        extent = data.shape[axis]
    if len(chosen) > extent:
        raise call.fail(f"{len(chosen)} conditions for {extent} slices")
    count = int(chosen.astype(bool).sum())
    shape = (*data.shape[:axis], count, *data.shape[axis + 1:]) if named else (count,)
    return [TensorType(data.dtype, shape)]


def _non_zero(call: Call) -> Sequence[TensorType]:
    data, value = call.type(0), call.value(0)
    count = int((value != 0).sum())
    return [TensorType("int64", (len(data.shape), count))]


def _eye_like(call: Call) -> Sequence[TensorType]:
    data = call.type(0)
    if len(data.shape) != 2:
        raise call.fail(f"shape {data.shape} must have two axes")
    dtype = onnx_dtype(call, "dtype") if "dtype" in call.node.attributes else data.dtype
    if dtype not in COMPUTED:
        raise call.fail(f"{dtype} is no dtype of a result")
    return [TensorType(dtype, data.shape)]


def _reverse_sequence(call: Call) -> Sequence[TensorType]:
    data, lengths = call.type(0), call.type(1, frozenset({"int64"}))
    batch, time = call.integer("batch_axis", 1), call.integer("time_axis", 0)
    if len(data.shape) < 2 or sorted((batch, time)) != [0, 1]:
        raise call.fail("batch and time must be the first two axes")
    if lengths.shape != (data.shape[batch],):
        raise call.fail(f"lengths {lengths.shape} do not fit data {data.shape}")
    return [data]


def _tensor_scatter(call: Call) -> Sequence[TensorType]:
    data, update, rank = call.type(0), call.type(1), len(call.type(0).shape)
    call.same_dtype((0, 1))
    axis = call.axis(call.integer("axis", -2), rank)
    if axis == 0 or len(update.shape) != rank or any(
        inner != outer if place != axis else inner > outer
        for place, (inner, outer) in enumerate(zip(update.shape, data.shape, strict=True))
    ):
        raise call.fail(f"update {update.shape} does not fit cache {data.shape} along axis {axis}")
    if call.has(2) and call.type(2, frozenset({"int64"})).shape != data.shape[:1]:
        raise call.fail(f"write indices {call.type(2).shape} must be one per sample")
    if call.text("mode", "linear") not in ("linear", "circular"):
        raise call.fail("mode must be linear or circular")
    return [data]


def _tf_idf(call: Call) -> Sequence[TensorType]:
    data, places = call.type(0, INDICES), call.integers("ngram_indexes") or ()
    if len(data.shape) not in (1, 2):
        raise call.fail(f"shape {data.shape} must have one or two axes")
    least, most = call.integer("min_gram_length"), call.integer("max_gram_length")
    if not 0 < least <= most or call.integer("max_skip_count") < 0 or min(places, default=0) < 0:
        raise call.fail("lengths of n-grams, skips or places are out of range")
    if call.text("mode") not in ("TF", "IDF", "TFIDF"):
        raise call.fail("mode must be TF, IDF or TFIDF")
    starts, pool = call.integers("ngram_counts") or (), call.integers("pool_int64s") or ()
    ends = (*starts[1:], len(pool))
    sizes = [end - start for start, end in zip(starts, ends, strict=True)]
    if any(size < 0 or size % length for length, size in enumerate(sizes, 1)) or sum(
            size // length for length, size in enumerate(sizes, 1)) != len(places):
        raise call.fail("ngram_counts, pool_int64s and ngram_indexes contradict each other")
    return [TensorType("float32", (*data.shape[:-1], max(places, default=-1) + 1))]


def _reduction(call: Call) -> None:
    if call.text("reduction", "none") not in ("none", "add", "mul", "max", "min"):
        raise call.fail("reduction must be none, add, mul, max or min")


RULES: Mapping[str, Rule] = {
    "Compress": _compress, "EyeLike": _eye_like, "NonZero": _non_zero,
    "ReverseSequence": _reverse_sequence, "TensorScatter": _tensor_scatter,
    "TfIdfVectorizer": _tf_idf, "Gather": _gather,
    "GatherElements": _gather_elements, "GatherND": _gather_nd,
    "ScatterElements": _scatter_elements, "ScatterND": _scatter_nd, "Slice": _slice,
}
