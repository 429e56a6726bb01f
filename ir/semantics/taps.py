"""Sliding windows as sums over taps, for whatever no library has a kernel for."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt

from ir.semantics.backend import Array, Backend
from ir.semantics.call import OpCall
from ir.semantics.registry import Runner, semantics
from ir.semantics.window import Window, window


def along(axis: int, rank: int, extent: int) -> npt.NDArray[np.int64]:
    """0, 1, ... along one of `rank` axes; the others have extent 1."""
    view = [1] * rank
    view[axis] = extent
    return np.arange(extent, dtype=np.int64).reshape(view)


def padded(backend: Backend, x: Array, shape: Window, value: float = 0) -> Array:
    """Add the border to the spatial axes of [N, C, *spatial]."""
    borders = [(0, 0), (0, 0), *((b, max(e, 0)) for b, e in
                                 zip(shape.begin, shape.end, strict=True))]
    return backend.pad(x, borders, value) if any(map(any, borders)) else x


def convolve(backend: Backend, x: Array, weight: Array, shape: Window, groups: int) -> Array:
    """Convolution as one product per tap; for dtypes that no convolution kernel takes."""
    xp = backend.xp
    source = padded(backend, x, shape)
    batch, outputs = x.shape[0], weight.shape[0]
    total = None
    for place, where in shape.taps():
        taken = xp.reshape(source[(slice(None), slice(None), *where)],
                           (batch, groups, x.shape[1] // groups, prod(shape.counts)))
        factor = xp.reshape(weight[(slice(None), slice(None), *place)],
                            (groups, outputs // groups, x.shape[1] // groups))
        term = xp.matmul(factor, taken)
        total = term if total is None else total + term
    assert total is not None
    return xp.reshape(total, (batch, outputs, *shape.counts))


def safe_root(backend: Backend, total: Array, power: int) -> Array:
    """`total ** (1 / power)`, with gradient 0 where the total is 0."""
    xp = backend.xp
    if power == 1:
        return total
    empty = total == 0
    filled = xp.where(empty, xp.ones_like(total), total)
    root = xp.sqrt(filled) if power == 2 else filled ** (1.0 / power)
    return xp.where(empty, xp.zeros_like(total), root)


def powered(backend: Backend, x: Array, power: int) -> Array:
    """`|x| ** power`."""
    if power == 1:
        return backend.xp.abs(x)
    return x * x if power == 2 else backend.xp.abs(x) ** power


@semantics("LpPool")
def _lp_pool(call: OpCall, backend: Backend) -> Runner:
    power = call.integer("p", 2)
    shape = window(call, call.integers("kernel_shape") or ())

    def run(x: Array) -> Array:
        source = powered(backend, padded(backend, x, shape), power)
        total: Any = None
        for _, where in shape.taps():
            part = source[(slice(None), slice(None), *where)]
            total = part if total is None else total + part
        return safe_root(backend, total, power)

    return run


@semantics("GlobalLpPool")
def _global_lp_pool(call: OpCall, backend: Backend) -> Runner:
    xp, power, axes = backend.xp, call.integer("p", 2), tuple(range(2, len(call.shape(0))))
    return lambda x: safe_root(
        backend, xp.sum(powered(backend, x, power), axis=axes, keepdims=True), power)


@semantics("Col2Im", host=(1, 2))
def _col2im(call: OpCall, backend: Backend) -> Runner:
    xp, kind = backend.xp, call.out()
    image, block = call.host_ints(1) or [], call.host_ints(2) or []
    axes = len(image)
    pads = call.integers("pads") or (0,) * (2 * axes)
    strides = call.integers("strides") or (1,) * axes
    dilations = call.integers("dilations") or (1,) * axes
    whole = [extent + pads[a] + pads[a + axes] for a, extent in enumerate(image)]
    # Flat index in the padded image of each tap (rows) of each window (columns).
    flat = np.zeros((1, 1), dtype=np.int64)
    for a in range(axes):
        count = (whole[a] - dilations[a] * (block[a] - 1) - 1) // strides[a] + 1
        here = (dilations[a] * np.arange(block[a])[:, None]
                + strides[a] * np.arange(count)[None, :])
        flat = flat[:, None, :, None] * whole[a] + here[None, :, None, :]
        flat = flat.reshape(flat.shape[0] * flat.shape[1], -1)
    target, inner = backend.constant(flat), tuple(
        slice(pads[a], pads[a] + extent) for a, extent in enumerate(image))
    batch, channels = kind.shape[:2]

    def run(x: Array, _: None, __: None) -> Array:
        columns = xp.permute_dims(
            xp.reshape(x, (batch, channels, *flat.shape)), (2, 3, 0, 1))
        empty = xp.zeros((prod(whole), batch, channels), dtype=backend.dtype(kind.dtype))
        summed = backend.scatter(empty, (target,), columns, "add")
        pixels = xp.reshape(xp.permute_dims(summed, (1, 2, 0)), (batch, channels, *whole))
        return pixels[(slice(None), slice(None), *inner)]

    return run


@semantics("MaxUnpool", host=(2,))
def _max_unpool(call: OpCall, backend: Backend) -> Runner:
    xp, kind, data = backend.xp, call.out(), call.shape(0)
    kernel = call.integers("kernel_shape") or ()
    axes = len(kernel)
    strides, pads = call.integers("strides") or (1,) * axes, call.integers("pads") or (0,) * (
        2 * axes)
    # Indices count in the shape that the window implies; a larger output is filled up with zeros.
    implied = data[:2] + tuple(
        (extent - 1) * strides[a] + kernel[a] - pads[a] - pads[a + axes]
        for a, extent in enumerate(data[2:]))
    borders = [(0, out - own) for out, own in zip(kind.shape, implied, strict=True)]

    def run(x: Array, indices: Array, _: None = None) -> Array:
        empty = xp.zeros((prod(implied),), dtype=backend.dtype(kind.dtype))
        places = xp.clip(xp.reshape(indices, (-1,)), 0, max(prod(implied) - 1, 0))
        flat = backend.scatter(empty, (places,), xp.reshape(x, (-1,)), "none")
        return backend.pad(xp.reshape(flat, implied), borders, 0)

    return run


@semantics("LRN")
def _lrn(call: OpCall, backend: Backend) -> Runner:
    size, channels = call.integer("size", 1), call.shape(0)[1]
    alpha, beta = call.number("alpha", 1e-4), call.number("beta", 0.75)
    bias, before = call.number("bias", 1.0), (size - 1) // 2
    borders = [(0, 0)] * len(call.shape(0))
    borders[1] = (before, size - 1 - before)

    def run(x: Array) -> Array:
        squares = backend.pad(x * x, borders, 0)
        total = squares[:, :channels]
        for place in range(1, size):
            total = total + squares[:, place:place + channels]
        return x / (bias + (alpha / size) * total) ** beta

    return run
