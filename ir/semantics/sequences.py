"""Operators that pick, reverse, write or count along known axes."""

from __future__ import annotations

from functools import reduce
from typing import Any

import numpy as np

from ir.semantics.backend import Array, Backend
from ir.semantics.call import OpCall
from ir.semantics.creation import fixed
from ir.semantics.registry import Runner, semantics
from ir.semantics.taps import along
from ir.tensor_proto import numpy_dtype


@semantics("Compress", host=(1,))
def _compress(call: OpCall, backend: Backend) -> Runner:
    condition = call.host(1)
    assert condition is not None
    chosen = backend.constant(np.flatnonzero(condition).astype(np.int64))
    if "axis" not in call.node.attributes:
        return lambda x, _: backend.take(backend.xp.reshape(x, (-1,)), (chosen,))
    axis = call.integer("axis", 0) % len(call.shape(0))
    return lambda x, _: backend.take(x, (*(slice(None),) * axis, chosen))


@semantics("NonZero", host=(0,))
def _non_zero(call: OpCall, backend: Backend) -> Runner:
    value = call.host(0)
    assert value is not None
    found = np.stack(np.nonzero(np.atleast_1d(value)))
    return fixed(backend, found[:len(call.shape(0))].astype(np.int64))


@semantics("EyeLike", static=True)
def _eye_like(call: OpCall, backend: Backend) -> Runner:
    rows, columns = call.out().shape
    ones = np.eye(rows, columns, k=call.integer("k", 0))
    return fixed(backend, ones.astype(numpy_dtype(call.out().dtype)))


@semantics("ReverseSequence")
def _reverse_sequence(call: OpCall, backend: Backend) -> Runner:
    xp, batch, time = backend.xp, call.integer("batch_axis", 1), call.integer("time_axis", 0)
    steps = call.shape(0)[time]
    times = backend.constant(along(time, 2, steps))
    samples = backend.constant(along(batch, 2, call.shape(0)[batch]))
    view = (-1, 1) if batch == 0 else (1, -1)

    def run(x: Array, lengths: Array) -> Array:
        ends = xp.reshape(lengths, view)
        source = xp.clip(xp.where(times < ends, ends - 1 - times, times), 0, max(steps - 1, 0))
        return backend.take(x, (samples, source) if batch == 0 else (source, samples))

    return run


@semantics("TensorScatter")
def _tensor_scatter(call: OpCall, backend: Backend) -> Runner:
    xp, axis = backend.xp, call.integer("axis", -2) % len(call.shape(0))
    (batch, *_), longest, count = call.shape(0), call.shape(0)[axis], call.shape(1)[axis]
    samples = backend.constant(along(0, 2, batch))
    places = backend.constant(along(1, 2, count))

    def run(cache: Array, update: Array, starts: Array | None = None) -> Array:
        first = xp.zeros_like(samples) if starts is None else xp.reshape(starts, (-1, 1))
        # Circular mode wraps; in linear mode the standard promises that nothing does.
        where = xp.remainder(first + places, max(longest, 1))
        rows, values = (xp.moveaxis(x, axis, 1) for x in (cache, update))
        written = backend.scatter(rows, (samples, where), values, "none")
        return xp.moveaxis(written, 1, axis)

    return run


@semantics("CenterCropPad", host=(1,))
def _center_crop_pad(call: OpCall, backend: Backend) -> Runner:
    kept, borders = [], []
    for old, new in zip(call.shape(0), call.out().shape, strict=True):
        start = max(old - new, 0) // 2
        kept.append(slice(start, start + min(old, new)))
        before = max(new - old, 0) // 2
        borders.append((before, max(new - old, 0) - before))
    inner = tuple(kept)
    return lambda x, _: backend.pad(x[inner], borders, 0)


@semantics("TfIdfVectorizer")
def _tf_idf(call: OpCall, backend: Backend) -> Runner:
    """Count n-grams: every start, every distance between neighbours up to the skip count."""
    xp, mode, width = backend.xp, call.text("mode", "TF"), call.out().shape[-1]
    pool, starts = call.integers("pool_int64s") or (), call.integers("ngram_counts") or ()
    places = call.integers("ngram_indexes") or ()
    weights = call.numbers("weights") or (1.0,) * len(places)
    grams, first = [], 0
    for length, (start, end) in enumerate(
            zip(starts, (*starts[1:], len(pool)), strict=True), 1):
        count = (end - start) // length
        if call.integer("min_gram_length", 1) <= length <= call.integer("max_gram_length", 1):
            grams.append((length, np.array(pool[start:end], dtype=np.int64).reshape(count, length),
                          places[first:first + count], weights[first:first + count]))
        first += count
    steps, skips = call.shape(0)[-1], call.integer("max_skip_count", 0)

    def hits(x: Array, length: int, gram: Array) -> Array:
        """How often each n-gram of one length occurs: [..., n-grams]."""
        total: Any = xp.zeros((*x.shape[:-1], gram.shape[0]), dtype=backend.dtype("float32"))
        for distance in range(1, skips + 2 if length > 1 else 2):
            ends = steps - (length - 1) * distance
            if ends <= 0:
                break
            equal = [xp.expand_dims(x[..., at * distance:at * distance + ends], axis=-1)
                     == gram[:, at] for at in range(length)]
            same = backend.cast(reduce(xp.logical_and, equal), "float32")
            total = total + xp.sum(same, axis=-2)
        return total

    fixed_grams = [(length, backend.constant(gram), _spread(where, weight, width, mode))
                   for length, gram, where, weight in grams if len(gram)]
    spreads = [backend.constant(spread) for *_, spread in fixed_grams]

    def run(x: Array) -> Array:
        whole = backend.cast(x, "int64")
        result: Any = xp.zeros((*x.shape[:-1], width), dtype=backend.dtype("float32"))
        for (length, gram, _), spread in zip(fixed_grams, spreads, strict=True):
            counts = hits(whole, length, gram)
            if mode == "IDF":
                counts = backend.cast(counts > 0, "float32")
            result = result + xp.matmul(counts, spread)
        return result

    return run


def _spread(where: Any, weights: Any, width: int, mode: str) -> Any:
    """Matrix that puts each n-gram's count, weighted unless mode is TF, at its place."""
    matrix = np.zeros((len(where), width), dtype=np.float32)
    for row, (place, weight) in enumerate(zip(where, weights, strict=True)):
        matrix[row, place] = 1.0 if mode == "TF" else weight
    return matrix
