"""Reading and writing by index, sorting and searching. Negative indices count from the end."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ir.semantics.backend import Array, Backend
from ir.semantics.call import OpCall
from ir.semantics.registry import Runner, semantics


def wrapped(backend: Backend, indices: Array, extent: int) -> Array:
    """Indices as int64, negative ones counted from the end."""
    whole = backend.cast(indices, "int64")
    return backend.xp.where(whole < 0, whole + extent, whole)


@semantics("Gather")
def _gather(call: OpCall, backend: Backend) -> Runner:
    xp, shape = backend.xp, call.out().shape
    axis = call.integer("axis", 0) % len(call.shape(0))
    extent = call.shape(0)[axis]

    def run(x: Array, indices: Array) -> Array:
        flat = xp.reshape(wrapped(backend, indices, extent), (-1,))
        return xp.reshape(xp.take(x, flat, axis=axis), shape)

    return run


def _grid(backend: Backend, shape: Sequence[int]) -> list[Array]:
    """Per axis the positions along it, each broadcastable to `shape`."""
    return [backend.constant(np.arange(extent, dtype=np.int64).reshape(
        [extent if other == axis else 1 for other in range(len(shape))]))
        for axis, extent in enumerate(shape)]


def _places(call: OpCall, backend: Backend, indices: Array) -> tuple[Array, ...]:
    """Where each element of `GatherElements` and `ScatterElements` lies in the whole tensor."""
    axis = call.integer("axis", 0) % len(call.shape(0))
    places = _grid(backend, call.shape(1))
    places[axis] = wrapped(backend, indices, call.shape(0)[axis])
    return tuple(places)


@semantics("GatherElements")
def _gather_elements(call: OpCall, backend: Backend) -> Runner:
    return lambda x, indices: backend.take(x, _places(call, backend, indices))


@semantics("ScatterElements")
def _scatter_elements(call: OpCall, backend: Backend) -> Runner:
    reduction = call.text("reduction", "none")
    return lambda x, indices, updates: backend.scatter(
        x, _places(call, backend, indices), updates, reduction)


def _index_tuple(call: OpCall, backend: Backend, indices: Array, batch: int) -> tuple[Array, ...]:
    """One index array per leading axis of input 0; leading batch axes are made explicit."""
    shape, around = call.shape(0), call.shape(1)[:-1]
    parts = [wrapped(backend, indices[..., position], shape[batch + position])
             for position in range(call.shape(1)[-1])]
    return (*_grid(backend, around)[:batch], *parts)


@semantics("GatherND")
def _gather_nd(call: OpCall, backend: Backend) -> Runner:
    batch = call.integer("batch_dims", 0)
    return lambda x, indices: backend.take(x, _index_tuple(call, backend, indices, batch))


@semantics("ScatterND")
def _scatter_nd(call: OpCall, backend: Backend) -> Runner:
    reduction = call.text("reduction", "none")
    return lambda x, indices, updates: backend.scatter(
        x, _index_tuple(call, backend, indices, 0), updates, reduction)


@semantics("CumSum", "CumProd", host=(1,))
def _cumulative(call: OpCall, backend: Backend) -> Runner:
    xp, kind = backend.xp, call.out()
    accumulate, neutral = ((xp.cumulative_sum, xp.zeros_like) if call.node.op_type == "CumSum"
                           else (xp.cumulative_prod, xp.ones_like))
    axis = int(call.host_number(1)) % len(kind.shape)
    exclusive, reverse = call.integer("exclusive", 0), call.integer("reverse", 0)
    dtype = backend.dtype(kind.dtype)
    first, others = ((*(slice(None),) * axis, part) for part in (slice(0, 1), slice(0, -1)))

    def run(x: Array, _: None) -> Array:
        source = xp.flip(x, axis=axis) if reverse else x
        result = accumulate(source, axis=axis, dtype=dtype)
        if exclusive:
            result = xp.concat([neutral(result[first]), result[others]], axis=axis)
        return xp.flip(result, axis=axis) if reverse else result

    return run


@semantics("TopK", host=(1,))
def _top_k(call: OpCall, backend: Backend) -> Runner:
    xp, rank = backend.xp, len(call.shape(0))
    axis, largest = call.integer("axis", -1) % rank, bool(call.integer("largest", 1))
    kind = call.outputs[0] or call.outputs[1]
    assert kind is not None
    count = kind.shape[axis]

    def run(x: Array, _: None) -> tuple[Array, Array]:
        values, positions = backend.top_k(xp.moveaxis(x, axis, -1), count, largest)
        return xp.moveaxis(values, -1, axis), xp.moveaxis(positions, -1, axis)

    return run


@semantics("ArgMax", "ArgMin")
def _arg_extreme(call: OpCall, backend: Backend) -> Runner:
    xp, keep = backend.xp, bool(call.integer("keepdims", 1))
    axis = call.integer("axis", 0) % len(call.shape(0))
    last, extent = call.integer("select_last_index", 0), call.shape(0)[axis]
    function = xp.argmax if call.node.op_type == "ArgMax" else xp.argmin

    def run(x: Array) -> Array:
        source = xp.flip(x, axis=axis) if last else x
        found = backend.cast(function(source, axis=axis, keepdims=keep), "int64")
        return extent - 1 - found if last else found

    return run
