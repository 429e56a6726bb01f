"""Interpolation between the points of a grid, at places that are computed."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from itertools import product
from math import prod

import numpy as np
import numpy.typing as npt

from homespun.errors import Code, HomespunError
from ir.semantics.backend import Array, Backend
from ir.semantics.call import SHORT_FLOATS, OpCall
from ir.semantics.registry import Runner, semantics
from ir.semantics.taps import along

_CUBIC = -0.75
"""Keys 1981, "Cubic convolution interpolation for digital image processing": the free parameter."""


@semantics("AffineGrid", host=(1,))
def _affine_grid(call: OpCall, backend: Backend) -> Runner:
    xp, kind = backend.xp, call.out()
    extents, aligned = kind.shape[1:-1], bool(call.integer("align_corners", 0))
    axes = [_centres(extent, aligned) for extent in extents]
    mesh = np.meshgrid(*axes, indexing="ij")
    # Points are (x, y, z, 1): the last axis of the image comes first.
    points = np.stack([*(part.reshape(-1) for part in mesh[::-1]), np.ones(prod(extents))])
    fixed = backend.constant(points.astype(call.host_dtype(0)))
    return lambda theta, _: xp.reshape(
        xp.matrix_transpose(xp.matmul(theta, fixed)), kind.shape)


def _centres(extent: int, aligned: bool) -> npt.NDArray[np.float64]:
    """Places of the points of an axis in [-1, 1]."""
    if aligned:
        return np.linspace(-1.0, 1.0, extent) if extent > 1 else np.full(1, -1.0)
    return (2.0 * np.arange(extent) + 1.0) / extent - 1.0


@semantics("GridSample")
def _grid_sample(call: OpCall, backend: Backend) -> Runner:
    xp, extents = backend.xp, call.shape(0)[2:]
    aligned, mode = bool(call.integer("align_corners", 0)), call.text("mode", "linear")
    padding, rank = call.text("padding_mode", "zeros"), len(extents)
    dtype, kind = call.type(0).dtype, call.out()
    stash = "float32" if call.type(1).dtype in SHORT_FLOATS else call.type(1).dtype

    def run(x: Array, grid: Array) -> Array:
        grid = backend.cast(grid, stash)
        places = []
        for axis, extent in enumerate(extents):
            part = grid[..., rank - 1 - axis]
            place = (part + 1) * ((extent - 1) / 2) if aligned else (
                ((part + 1) * extent - 1) / 2)
            places.append(xp.round(place) if mode == "nearest" else place)
        places = [_inside(backend, place, extent, padding, aligned)
                  for place, extent in zip(places, extents, strict=True)]
        taps = [_taps(backend, place, mode) for place in places]
        return backend.cast(
            _sampled(backend, x, taps, extents, padding, aligned, stash), dtype)

    return run if prod(kind.shape) else lambda x, grid: xp.zeros(
        kind.shape, dtype=backend.dtype(dtype))


def _inside(
    backend: Backend, place: Array, extent: int, padding: str, aligned: bool
) -> Array:
    """Places moved into the image, as the padding says; zeros leaves them where they are."""
    if padding == "border":
        return backend.xp.clip(place, 0, extent - 1)
    return _reflected(backend, place, extent, aligned) if padding == "reflection" else place


def _reflected(backend: Backend, place: Array, extent: int, aligned: bool) -> Array:
    """Mirror at the borders until inside: at the outer points, or at half a step beyond them."""
    xp = backend.xp
    low, span = (0.0, float(extent - 1)) if aligned else (-0.5, float(extent))
    if span == 0:
        return place * 0
    turns = xp.floor((place - low) / (2 * span))
    folded = place - low - turns * (2 * span)
    return xp.where(folded > span, 2 * span - folded, folded) + low


def _taps(backend: Backend, place: Array, mode: str) -> list[tuple[Array, Array | None]]:
    """(point, weight) along one axis; None is a weight of 1."""
    xp = backend.xp
    if mode == "nearest":
        return [(place, None)]
    if mode == "linear":
        return list(_linear(backend, place))
    first = backend.detach(xp.floor(place))
    part = place - first
    return [(first - 1, _outer(part + 1)), (first, _inner(part)), (first + 1, _inner(1 - part)),
            (first + 2, _outer(2 - part))]


def _linear(backend: Backend, place: Array) -> list[tuple[Array, Array]]:
    first = backend.detach(backend.xp.floor(place))
    return [(first, 1 - (place - first)), (first + 1, place - first)]


def _inner(t: Array) -> Array:
    return ((_CUBIC + 2) * t - (_CUBIC + 3)) * t * t + 1


def _outer(t: Array) -> Array:
    return ((_CUBIC * t - 5 * _CUBIC) * t + 8 * _CUBIC) * t - 4 * _CUBIC


def _sampled(
    backend: Backend, x: Array, taps: Sequence[Sequence[tuple[Array, Array | None]]],
    extents: Sequence[int], padding: str, aligned: bool, stash: str,
) -> Array:
    """Weighted sum over all combinations of taps; [N, C, *points]."""
    xp, rank = backend.xp, len(extents)
    points = xp.permute_dims(x, (0, *range(2, rank + 2), 1))
    batch = backend.constant(along(0, rank + 1, x.shape[0]))
    total: Array = None
    for combination in product(*taps):
        indices: list[Array] = [batch]
        factors: list[Array] = []
        for (point, weight), extent in zip(combination, extents, strict=True):
            if padding == "zeros":
                factors.append(backend.cast((point >= 0) & (point <= extent - 1), stash))
            point = _inside(
                backend, point, extent, "border" if padding == "zeros" else padding, aligned)
            whole = backend.cast(xp.round(backend.detach(point)), "int64")
            indices.append(xp.clip(whole, 0, extent - 1))
            factors += [] if weight is None else [weight]
        term = backend.cast(backend.take(points, tuple(indices)), stash)
        if factors:
            term = term * xp.expand_dims(reduce(lambda a, b: a * b, factors), axis=-1)
        total = term if total is None else total + term
    return xp.moveaxis(total, -1, 1)


def bilinear(
    backend: Backend, x: Array, batch: Array, y: Array, z: Array, clamp: bool
) -> list[tuple[Array, Array]]:
    """(weight, values) at the four neighbours of places in images.

    Args:
        backend: where everything lives.
        x: images, [N, H, W, C].
        batch: which image, int64; broadcasts with the places.
        y: rows of the places, floats.
        z: columns of the places.
        clamp: whether places up to one step outside count as on the border; else what lies outside
            is zero.

    Returns:
        four pairs of weights (shape of the places) and values (with a last axis C).
    """
    xp, (height, width) = backend.xp, x.shape[1:3]
    outside = None
    if clamp:
        outside = (y < -1) | (y > height) | (z < -1) | (z > width)
        y, z = xp.clip(y, 0, height - 1), xp.clip(z, 0, width - 1)
    found = []
    for (row, row_weight), (column, column_weight) in product(
            _linear(backend, y), _linear(backend, z)):
        weight = row_weight * column_weight
        beyond = (row < 0) | (row > height - 1) | (column < 0) | (column > width - 1)
        if outside is not None:
            beyond = beyond | outside
        weight = xp.where(beyond, xp.zeros_like(weight), weight)
        rows = backend.cast(xp.clip(row, 0, height - 1), "int64")
        columns = backend.cast(xp.clip(column, 0, width - 1), "int64")
        found.append((weight, backend.take(x, (batch, rows, columns))))
    return found


@semantics("RoiAlign")
def _roi_align(call: OpCall, backend: Backend) -> Runner:
    xp, ratio = backend.xp, call.integer("sampling_ratio", 0)
    if ratio == 0:
        raise HomespunError(
            Code.UNSUPPORTED_OP,
            f"Node '{call.node.name}' (RoiAlign) chooses its number of samples by the size of each "
            "region, which depends on data; set sampling_ratio to 1 or more.",
            node=call.node.name)
    scale = call.number("spatial_scale", 1.0)
    half = call.text("coordinate_transformation_mode", "half_pixel") == "half_pixel"
    largest, (height, width) = call.text("mode", "avg") == "max", call.out().shape[2:]
    # Samples lie in the middle of equal parts of each bin, counted in bins.
    dtype = call.host_dtype(0)
    rows, columns = (
        backend.constant(((np.arange(count * ratio) + 0.5) / ratio).astype(dtype))
        for count in (height, width))

    def run(x: Array, regions: Array, samples: Array) -> Array:
        corners = regions * scale - (0.5 if half else 0.0)
        left, top, right, bottom = (corners[:, place:place + 1] for place in range(4))
        wide, high = right - left, bottom - top
        if not half:
            wide, high = (xp.where(size < 1, xp.ones_like(size), size) for size in (wide, high))
        y = xp.expand_dims(top + rows * (high / height), axis=2)
        z = xp.expand_dims(left + columns * (wide / width), axis=1)
        y, z = xp.broadcast_arrays(y, z)
        pairs = bilinear(backend, xp.permute_dims(x, (0, 2, 3, 1)),
                         xp.reshape(samples, (-1, 1, 1)), y, z, clamp=True)
        terms = [xp.expand_dims(weight, axis=-1) * values for weight, values in pairs]
        shape = (regions.shape[0], height, ratio, width, ratio, x.shape[1])
        if largest:
            # The standard takes the largest weighted neighbour, not the largest sample.
            parts = xp.permute_dims(
                xp.reshape(reduce(xp.maximum, terms), shape), (0, 5, 1, 3, 2, 4))
            flat = xp.reshape(parts, (*parts.shape[:4], ratio * ratio))
            # By position: JAX divides the gradient of a maximum by the number of equal ones, which
            # is 0 where XLA has rounded the samples anew.
            chosen = xp.expand_dims(xp.argmax(flat, axis=-1), axis=-1)
            return xp.squeeze(xp.take_along_axis(flat, chosen, axis=-1), axis=-1)
        result = xp.mean(xp.reshape(reduce(lambda a, b: a + b, terms), shape), axis=(2, 4))
        return xp.permute_dims(result, (0, 3, 1, 2))

    return run
