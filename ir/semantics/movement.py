"""Operators that move, repeat or drop elements without computing with them."""

from __future__ import annotations

import numpy as np

from ir.semantics.backend import Array, Backend
from ir.semantics.call import OpCall
from ir.semantics.registry import Runner, semantics


@semantics("Reshape", "Flatten", "Squeeze", "Unsqueeze", host=(1,))
def _reshape(call: OpCall, backend: Backend) -> Runner:
    # All shape rules (0, -1, allowzero, axes) were applied when the graph's types were inferred.
    xp, shape = backend.xp, call.out().shape
    return lambda x, *_: xp.reshape(x, shape)


@semantics("Transpose")
def _transpose(call: OpCall, backend: Backend) -> Runner:
    xp = backend.xp
    order = call.integers("perm") or tuple(reversed(range(len(call.shape(0)))))
    return lambda x: xp.permute_dims(x, order)


@semantics("Concat")
def _concat(call: OpCall, backend: Backend) -> Runner:
    xp, axis = backend.xp, call.integer("axis", 0)
    return lambda *values: xp.concat(values, axis=axis)


@semantics("Split", host=(1,))
def _split(call: OpCall, backend: Backend) -> Runner:
    shape = call.shape(0)
    axis = call.integer("axis", 0) % len(shape)
    extents = call.host_ints(1, "split")
    if extents is None:
        parts = len(call.node.outputs)
        size = -(-shape[axis] // parts)
        extents = [min(size, shape[axis] - size * part) for part in range(parts)]
    ends = np.cumsum(extents).tolist()
    before = (slice(None),) * axis
    keys = [(*before, slice(end - extent, end))
            for end, extent in zip(ends, extents, strict=True)]
    return lambda x, *_: tuple(x[key] for key in keys)


@semantics("Slice", host=(1, 2, 3, 4))
def _slice(call: OpCall, backend: Backend) -> Runner:
    xp, shape = backend.xp, call.shape(0)
    starts, ends = call.host_ints(1, "starts") or [], call.host_ints(2, "ends") or []
    axes = call.host_ints(3, "axes")
    axes = list(range(len(starts))) if axes is None else axes
    steps = call.host_ints(4) or [1] * len(starts)
    index, flips = [slice(None)] * len(shape), []
    for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
        picked = range(shape[axis])[slice(start, end, step)]
        if step < 0:
            flips.append(axis % len(shape))
            picked = picked[::-1]
        stop = picked[-1] + 1 if picked else 0
        index[axis] = slice(picked.start if picked else 0, stop, abs(step))
    key = tuple(index)
    if flips:
        return lambda x, *_: xp.flip(x[key], axis=tuple(flips))
    return lambda x, *_: x[key]


@semantics("Expand", host=(1,))
def _expand(call: OpCall, backend: Backend) -> Runner:
    xp, shape = backend.xp, call.out().shape
    return lambda x, *_: xp.broadcast_to(x, shape)


@semantics("Tile", host=(1,))
def _tile(call: OpCall, backend: Backend) -> Runner:
    xp, repeats = backend.xp, tuple(call.host_ints(1) or ())
    return lambda x, *_: xp.tile(x, repeats) if repeats else x


@semantics("Pad", host=(1, 2, 3))
def _pad(call: OpCall, backend: Backend) -> Runner:
    shape, mode = call.shape(0), call.text("mode", "constant")
    rank = len(shape)
    pads, axes = call.host_ints(1, "pads") or [], call.host_ints(3)
    axes = list(range(rank)) if axes is None else [axis % rank for axis in axes]
    borders = [(0, 0)] * rank
    for position, axis in enumerate(axes):
        borders[axis] = (pads[position], pads[position + len(axes)])
    kept = tuple(slice(max(-begin, 0), extent - max(-end, 0))
                 for extent, (begin, end) in zip(shape, borders, strict=True))
    added = [(max(begin, 0), max(end, 0)) for begin, end in borders]
    if mode != "constant":
        return _repeated(call, backend, kept, added, mode)
    fill = call.host_number(2, 0)
    return lambda x, *_: backend.pad(x[kept], added, fill)


def _repeated(
    call: OpCall, backend: Backend, kept: tuple[slice, ...], added: list[tuple[int, int]], mode: str
) -> Runner:
    """Reflect, edge and wrap: numpy says which element each position repeats."""
    xp, picks = backend.xp, []
    for axis, (part, border) in enumerate(zip(kept, added, strict=True)):
        extent = call.shape(0)[axis]
        whole = np.arange(extent, dtype=np.int64)
        positions = np.pad(whole[part], border, mode=mode)  # type: ignore[call-overload]
        if not np.array_equal(positions, whole):
            picks.append((axis, backend.constant(positions)))

    def run(x: Array, *_: Array) -> Array:
        for axis, positions in picks:
            x = xp.take(x, positions, axis=axis)
        return x

    return run


@semantics("Trilu", host=(1,))
def _trilu(call: OpCall, backend: Backend) -> Runner:
    diagonal = int(call.host_number(1, 0))
    function = backend.xp.triu if call.integer("upper", 1) else backend.xp.tril
    return lambda x, *_: function(x, k=diagonal)


@semantics("DepthToSpace")
def _depth_to_space(call: OpCall, backend: Backend) -> Runner:
    batch, channels, height, width = call.shape(0)
    xp, block, shape = backend.xp, call.integer("blocksize", 1), call.out().shape
    depth = channels // block**2
    if call.text("mode", "DCR") == "DCR":
        split, order = (batch, block, block, depth, height, width), (0, 3, 4, 1, 5, 2)
    else:
        split, order = (batch, depth, block, block, height, width), (0, 1, 4, 2, 5, 3)
    return lambda x: xp.reshape(xp.permute_dims(xp.reshape(x, split), order), shape)


@semantics("SpaceToDepth")
def _space_to_depth(call: OpCall, backend: Backend) -> Runner:
    batch, channels, height, width = call.shape(0)
    xp, block, shape = backend.xp, call.integer("blocksize", 1), call.out().shape
    split = (batch, channels, height // block, block, width // block, block)
    order = (0, 3, 5, 1, 2, 4) if call.text("mode", "DCR") == "DCR" else (0, 1, 3, 5, 2, 4)
    return lambda x: xp.reshape(xp.permute_dims(xp.reshape(x, split), order), shape)
