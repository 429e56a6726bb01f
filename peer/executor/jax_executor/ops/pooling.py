"""Pooling over windows."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from math import prod

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
from jax import Array

from ir.graph import FLOATS
from ir.semantics.registry import Runner
from ir.semantics.window import Window, window
from peer.executor.jax_executor.table import Call, operator


def _padded(
    x: Array, begin: Sequence[int], end: Sequence[int], value: float
) -> Array:
    """Pad (or crop, where negative) the spatial axes."""
    amounts = [(b, e, 0) for b, e in zip(begin, end, strict=True)]
    return jax.lax.pad(x, jnp.asarray(value, x.dtype), [(0, 0, 0), (0, 0, 0), *amounts])


@operator("AveragePool")
def _average_pool(call: Call) -> Runner:
    geometry = window(call, call.integers("kernel_shape") or ())
    counts = _counts(call, geometry)

    def run(x: Array) -> Array:
        sums = jax.lax.reduce_window(
            _padded(x, geometry.begin, geometry.end, 0), np.zeros((), x.dtype), jax.lax.add,
            (1, 1, *geometry.kernel), (1, 1, *geometry.strides), "VALID",
            window_dilation=(1, 1, *geometry.dilations))
        return sums / counts.astype(x.dtype)

    return run


def _counts(call: Call, geometry: Window) -> npt.NDArray[np.float64]:
    """How many elements of each window count towards its mean: a product over the axes."""
    included = call.integer("count_include_pad", 0)
    counts = np.ones((), dtype=np.float64)
    for axis, (extent, outputs) in enumerate(
            zip(call.shape(0)[2:], call.out().shape[2:], strict=True)):
        first = np.arange(outputs) * geometry.strides[axis] - geometry.begin[axis]
        places = first[:, None] + np.arange(geometry.kernel[axis]) * geometry.dilations[axis]
        low = -geometry.begin[axis] if included else 0
        high = extent + geometry.declared_end[axis] if included else extent
        along = ((places >= low) & (places < high)).sum(axis=1)
        counts = counts[..., None] * along
    return counts


@operator("MaxPool")
def _max_pool(call: Call) -> Runner:
    geometry, dtype = window(call, call.integers("kernel_shape") or ()), call.type(0).dtype
    low = -np.inf if dtype in FLOATS else np.iinfo(dtype).min
    if call.wants(1) or set(geometry.dilations) != {1}:
        return partial(_max_pool_by_position, call, geometry, low)
    borders = list(zip(geometry.begin, geometry.end, strict=True))

    def run(x: Array) -> Array:
        begin, end = ([min(border[side], 0) for border in borders] for side in (0, 1))
        return jax.lax.reduce_window(
            _padded(x, begin, end, low), np.asarray(low, x.dtype), jax.lax.max,
            (1, 1, *geometry.kernel), (1, 1, *geometry.strides),
            [(0, 0), (0, 0), *((max(b, 0), max(e, 0)) for b, e in borders)])

    return run


def _max_pool_by_position(
    call: Call, geometry: Window, low: float, x: Array
) -> Array | tuple[Array, Array]:
    """Compare the elements at each position of all windows; of equal ones the first wins."""
    padded = _padded(x, geometry.begin, geometry.end, low)
    positions, places = zip(*geometry.taps(), strict=True)
    stacked = jnp.stack([padded[(..., *place)] for place in places], axis=-1)
    found = jnp.argmax(stacked, axis=-1)
    largest = jnp.take_along_axis(stacked, found[..., None], axis=-1)[..., 0]
    if not call.wants(1):
        return largest
    return largest, _flat_indices(call, geometry, jnp.asarray(positions)[found])


def _flat_indices(call: Call, geometry: Window, position: Array) -> Array:
    """Positions in windows, [..., axes], as ONNX's positions in the whole input tensor."""
    batch, channels, *spatial = call.shape(0)
    outputs = call.out().shape[2:]
    coordinates = []
    for axis, extent in enumerate(outputs):
        start = np.arange(extent).reshape([-1 if a == axis else 1 for a in range(len(outputs))])
        coordinates.append(
            start * geometry.strides[axis] - geometry.begin[axis]
            + position[..., axis] * geometry.dilations[axis])
    order = list(range(len(spatial)))
    if not call.integer("storage_order", 0):
        order.reverse()
    flat, step = jnp.zeros(call.out().shape, np.int64), 1
    for axis in order:
        flat, step = flat + coordinates[axis] * step, step * spatial[axis]
    planes = np.arange(batch * channels).reshape(batch, channels, *(1,) * len(spatial))
    return (flat + planes * prod(spatial)).astype(np.int64)
