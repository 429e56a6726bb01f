"""Quantised numbers: `x = (q - zero point) * scale`.

Sums of products of 8-bit integers are taken in float64, which is exact up to 2**53 and which every
library multiplies matrices in.
"""

from __future__ import annotations

from typing import Any

from ir.graph import STORED_FLOATS
from ir.semantics.backend import Array, Backend
from ir.semantics.call import SHORT_FLOATS, OpCall
from ir.semantics.conversion import convert
from ir.semantics.registry import Runner, semantics
from ir.semantics.taps import convolve
from ir.semantics.window import window

_RANGES = {
    "uint8": (0, 255), "int8": (-128, 127), "uint16": (0, 65535), "int16": (-32768, 32767),
    "uint4": (0, 15), "int4": (-8, 7), "uint2": (0, 3), "int2": (-2, 1)}


def _spread(call: OpCall, backend: Backend, value: Array, slot: int) -> Array:
    """A scale or zero point, so that it broadcasts with input 0."""
    xp, data, own = backend.xp, call.shape(0), call.shape(slot)
    if own in ((), (1,)):
        return xp.reshape(value, ())
    axis, block = call.integer("axis", 1) % len(data), call.integer("block_size", 0)
    if not block:
        return xp.reshape(value, (-1, *(1,) * (len(data) - axis - 1)))
    whole = (slice(None),) * axis
    return xp.repeat(value, block, axis=axis)[(*whole, slice(0, data[axis]))]


@semantics("QuantizeLinear")
def _quantize(call: OpCall, backend: Backend) -> Runner:
    target, source = call.out().dtype, call.type(0).dtype
    saturate = bool(call.integer("saturate", 1))
    # The quotient is rounded as the input's dtype rounds; integers are divided in float32.
    stash = "float32" if source == "int32" else source

    def run(x: Array, scale: Array, zero: Array | None = None) -> Array:
        divisor = _spread(call, backend, backend.cast(scale, stash), 1)
        quotient = backend.cast(backend.cast(x, stash) / divisor, "float32")
        if zero is None:
            return _rounded(backend, quotient, 0.0, target, saturate)
        offset = _spread(call, backend, backend.cast(zero, "float32"), 2)
        return _rounded(backend, quotient, offset, target, saturate)

    return run


def _rounded(
    backend: Backend, x: Array, zero: Array | float, target: str, saturate: bool = True
) -> Array:
    """float32 to a quantised dtype: round half to even, add the zero point, limit."""
    if target in STORED_FLOATS:
        return convert(backend, x + zero, "float32", target, saturate=saturate)
    low, high = _RANGES[target]
    whole = backend.xp.clip(backend.xp.round(x) + zero, low, high)
    return convert(backend, backend.cast(whole, "int32"), "int32", target)


@semantics("DequantizeLinear")
def _dequantize(call: OpCall, backend: Backend) -> Runner:
    target = call.out().dtype
    stash = "float32" if target in SHORT_FLOATS else target

    def run(x: Array, scale: Array, zero: Array | None = None) -> Array:
        value = backend.cast(x, stash)
        if zero is not None:
            value = value - _spread(call, backend, backend.cast(zero, stash), 2)
        factor = _spread(call, backend, backend.cast(scale, stash), 1)
        return backend.cast(value * factor, target)

    return run


@semantics("DynamicQuantizeLinear")
def _dynamic(call: OpCall, backend: Backend) -> Runner:
    xp = backend.xp

    def run(x: Array) -> Any:
        nothing = xp.zeros_like(xp.max(x))
        low, high = xp.minimum(xp.min(x), nothing), xp.maximum(xp.max(x), nothing)
        scale = (high - low) / 255
        divisor = xp.where(scale == 0, xp.ones_like(scale), scale)
        zero = xp.round(xp.clip(-low / divisor, 0, 255))
        return (_rounded(backend, x / divisor, zero, "uint8"), scale,
                backend.cast(backend.cast(zero, "int32"), "uint8"))

    return run


def _centred(backend: Backend, x: Array, zero: Array | None, view: tuple[int, ...]) -> Array:
    wide = backend.cast(x, "float64")
    if zero is None:
        return wide
    offset = backend.cast(zero, "float64")
    single = len(offset.shape) == 0 or offset.shape == (1,)
    return wide - backend.xp.reshape(offset, () if single else view)


def _whole(backend: Backend, x: Array) -> Array:
    return backend.cast(backend.cast(x, "int64"), "int32")


@semantics("MatMulInteger")
def _matmul_integer(call: OpCall, backend: Backend) -> Runner:
    def run(a: Array, b: Array, az: Array | None = None, bz: Array | None = None) -> Array:
        left, right = _centred(backend, a, az, (-1, 1)), _centred(backend, b, bz, (-1,))
        return _whole(backend, backend.xp.matmul(left, right))

    return run


@semantics("ConvInteger")
def _conv_integer(call: OpCall, backend: Backend) -> Runner:
    shape = window(call, call.shape(1)[2:])
    view, groups = (-1, *(1,) * (len(call.shape(1)) - 1)), call.integer("group", 1)

    def run(x: Array, w: Array, xz: Array | None = None, wz: Array | None = None) -> Array:
        data, weight = _centred(backend, x, xz, ()), _centred(backend, w, wz, view)
        return _whole(backend, convolve(backend, data, weight, shape, groups))

    return run


@semantics("QLinearConv")
def _q_conv(call: OpCall, backend: Backend) -> Runner:
    xp, target = backend.xp, call.out().dtype
    shape = window(call, call.shape(3)[2:])
    rank, groups = len(call.shape(3)), call.integer("group", 1)
    view, channels = (-1, *(1,) * (rank - 1)), (-1, *(1,) * (rank - 2))

    def run(
        x: Array, x_scale: Array, xz: Array, w: Array, w_scale: Array, wz: Array, y_scale: Array,
        yz: Array, bias: Array | None = None,
    ) -> Array:
        data, weight = _centred(backend, x, xz, ()), _centred(backend, w, wz, view)
        total = convolve(backend, data, weight, shape, groups)
        if bias is not None:
            total = total + xp.reshape(backend.cast(bias, "float64"), channels)
        many = len(w_scale.shape) == 1 and w_scale.shape[0] > 1
        factor = xp.reshape(x_scale, ()) * xp.reshape(w_scale, channels if many else ()) / (
            xp.reshape(y_scale, ()))
        return _scaled(backend, total, factor, yz, target)

    return run


@semantics("QLinearMatMul")
def _q_matmul(call: OpCall, backend: Backend) -> Runner:
    xp, target = backend.xp, call.out().dtype

    def run(
        a: Array, a_scale: Array, az: Array, b: Array, b_scale: Array, bz: Array, y_scale: Array,
        yz: Array,
    ) -> Array:
        total = xp.matmul(_centred(backend, a, az, ()), _centred(backend, b, bz, ()))
        factors = [backend.cast(xp.reshape(scale, ()), "float32")
                   for scale in (a_scale, b_scale, y_scale)]
        return _scaled(backend, total, factors[0] * factors[1] / factors[2], yz, target)

    return run


def _scaled(backend: Backend, total: Array, factor: Array, zero: Array, target: str) -> Array:
    value = backend.cast(total * backend.cast(factor, "float64"), "float32")
    offset = backend.xp.reshape(backend.cast(zero, "float32"), ())
    return _rounded(backend, value, offset, target)
