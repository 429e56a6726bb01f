"""Resize: separable interpolation, one fixed matrix (or index list) per axis."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from math import ceil, floor
from typing import Any

import numpy as np
import numpy.typing as npt

from ir.semantics.backend import Array, Backend
from ir.semantics.call import SHORT_FLOATS, OpCall
from ir.semantics.registry import Runner, semantics

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Axis:
    """What happens to one axis.

    Attributes:
        axis: which.
        extent: elements before.
        count: elements after.
        scale: after over before, as the node says it; not always `count / extent`.
        region: begin and end, for `tf_crop_and_resize`, in parts of the axis.
    """

    axis: int
    extent: int
    count: int
    scale: float
    region: tuple[float, float]


def axes_of(call: OpCall) -> list[Axis]:
    """The axes that change, or are cropped."""
    shape, result = call.shape(0), call.out().shape
    named = call.integers("axes")
    axes = [axis % len(shape) for axis in (range(len(shape)) if named is None else named)]
    scales = _scales(call, axes)
    given = call.host(1)
    region = [0.0] * len(axes) + [1.0] * len(axes) if given is None or not given.size else [
        float(item) for item in given.reshape(-1)]
    if call.text("coordinate_transformation_mode", "half_pixel") != "tf_crop_and_resize":
        region = [0.0] * len(axes) + [1.0] * len(axes)
    found = [
        Axis(axis, shape[axis], result[axis], scale, (region[at], region[at + len(axes)]))
        for at, (axis, scale) in enumerate(zip(axes, scales, strict=True))]
    return [a for a in found
            if a.scale != 1.0 or a.count != a.extent or a.region != (0.0, 1.0)]


def _scales(call: OpCall, axes: list[int]) -> list[float]:
    sizes, shape = call.host_ints(3), call.shape(0)
    if not sizes:
        scales = call.host(2)
        assert scales is not None
        return [float(item) for item in scales.reshape(-1)]
    ratios = [size / max(shape[axis], 1) for size, axis in zip(sizes, axes, strict=True)]
    policy = call.text("keep_aspect_ratio_policy", "stretch")
    if policy == "stretch":
        return ratios
    return [(min if policy == "not_larger" else max)(ratios)] * len(axes)


def places(call: OpCall, axis: Axis) -> Floats:
    """Where each new element lies among the old ones (ONNX operator reference, Resize)."""
    mode = call.text("coordinate_transformation_mode", "half_pixel")
    at, whole = np.arange(axis.count, dtype=np.float64), axis.scale * axis.extent
    if mode == "align_corners":
        return at * (axis.extent - 1) / (whole - 1) if whole != 1 else np.zeros(axis.count)
    if mode == "asymmetric":
        return at / axis.scale
    if mode == "tf_crop_and_resize":
        begin, end = axis.region
        step = (end - begin) * (axis.extent - 1)
        inner = at * step / (whole - 1) if whole != 1 else np.full(axis.count, step / 2)
        return inner + begin * (axis.extent - 1)
    if mode == "pytorch_half_pixel" and whole == 1:
        return np.full(axis.count, -0.5)
    shift = axis.extent / 2 * (1 - axis.count / whole) if mode == "half_pixel_symmetric" else 0.0
    return shift + (at + 0.5) / axis.scale - 0.5


def nearest(call: OpCall, axis: Axis) -> npt.NDArray[np.int64]:
    """Which old element each new one is."""
    x = places(call, axis)
    rounding = {"round_prefer_floor": np.ceil(x - 0.5), "round_prefer_ceil": np.floor(x + 0.5),
                "floor": np.floor(x), "ceil": np.ceil(x)}
    chosen = rounding[call.text("nearest_mode", "round_prefer_floor")]
    return np.clip(chosen, 0, axis.extent - 1).astype(np.int64)


def matrix(call: OpCall, axis: Axis) -> Floats:
    """Weights [new, old] of linear or cubic interpolation.

    With `antialias` the kernel is stretched by the reduction; elements beyond the border repeat
    the outermost, or are left out (`exclude_outside`).
    """
    cubic = call.text("mode", "nearest") == "cubic"
    kernel = partial(_cubic, call.number("cubic_coeff_a", -0.75)) if cubic else _linear
    stretch = min(axis.scale, 1.0) if call.integer("antialias", 0) else 1.0
    x, support = places(call, axis), (2 if cubic else 1) / stretch
    # As many elements on each side of a place as the kernel reaches, from the one at or below it.
    reach = ceil(support)
    base = np.floor(x).astype(np.int64)
    taps = base[:, None] + np.arange(-reach, reach + 1)
    weights = kernel(np.abs(taps - x[:, None]) * stretch)
    inside = (taps >= 0) & (taps < axis.extent)
    if call.integer("exclude_outside", 0):
        weights = np.where(inside, weights, 0.0)
    if call.integer("exclude_outside", 0) or stretch != 1.0:
        total = weights.sum(axis=1, keepdims=True)
        weights = weights / np.where(total == 0, 1.0, total)
    result = np.zeros((axis.count, axis.extent))
    rows = np.broadcast_to(np.arange(axis.count)[:, None], taps.shape)
    np.add.at(result, (rows, np.clip(taps, 0, axis.extent - 1)), weights)
    return result


def _linear(distance: Floats) -> Floats:
    return np.clip(1.0 - distance, 0.0, 1.0)


def _cubic(a: float, t: Floats) -> Floats:
    """Keys 1981, equation 4."""
    near = ((a + 2) * t - (a + 3)) * t * t + 1
    far = ((a * t - 5 * a) * t + 8 * a) * t - 4 * a
    return np.where(t <= 1, near, np.where(t < 2, far, 0.0))


@semantics("Resize", host=(1, 2, 3))
def _resize(call: OpCall, backend: Backend) -> Runner:
    dtype, axes = call.type(0).dtype, axes_of(call)
    outside = [_outside(call, axis) for axis in axes]
    if call.text("mode", "nearest") == "nearest":
        steps = [partial(_chosen, backend, axis, backend.constant(nearest(call, axis)))
                 for axis in axes]
        stash = dtype
    else:
        stash = dtype if dtype in ("float32", "float64") else "float32"
        steps = [
            partial(_mixed, backend, axis, backend.constant(matrix(call, axis).astype(stash)))
            for axis in axes]
    fill = call.number("extrapolation_value", 0.0)

    def run(x: Array, *_: None) -> Array:
        result = backend.cast(x, stash)
        for axis, step, beyond in zip(axes, steps, outside, strict=True):
            result = step(result)
            if beyond is not None:
                result = _filled(backend, result, axis.axis, beyond, fill)
        return _converted(backend, result, stash, dtype)

    return run


def _chosen(backend: Backend, axis: Axis, indices: Array, x: Array) -> Array:
    return backend.take(x, (*(slice(None),) * axis.axis, indices))


def _mixed(backend: Backend, axis: Axis, weights: Array, x: Array) -> Array:
    xp = backend.xp
    moved = xp.matmul(xp.moveaxis(x, axis.axis, -1), xp.matrix_transpose(weights))
    return xp.moveaxis(moved, -1, axis.axis)


def _outside(call: OpCall, axis: Axis) -> npt.NDArray[np.bool_] | None:
    if call.text("coordinate_transformation_mode", "half_pixel") != "tf_crop_and_resize":
        return None
    x = places(call, axis)
    beyond: npt.NDArray[np.bool_] = (x < 0) | (x > axis.extent - 1)
    return beyond if beyond.any() else None


def _filled(
    backend: Backend, x: Array, axis: int, beyond: npt.NDArray[np.bool_], fill: float
) -> Array:
    xp, view = backend.xp, [1] * len(x.shape)
    view[axis] = len(beyond)
    return xp.where(backend.constant(beyond.reshape(view)), xp.full_like(x, fill), x)


def _converted(backend: Backend, x: Array, stash: str, dtype: str) -> Any:
    if stash == dtype or dtype in SHORT_FLOATS:
        return backend.cast(x, dtype)
    limits = np.iinfo(dtype)
    low, high = float(floor(limits.min)), float(limits.max)
    return backend.cast(backend.xp.clip(x, low, high), dtype)
