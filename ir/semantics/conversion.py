"""Conversion between dtypes, with the ones that are only stored.

Source: ONNX operator reference, Cast, and its page on float8 ("Float stored in 8 bits"). A value is
first rounded to the short format's grid in float32, so that the conversion of the library that
follows is exact and every library gives the same bits.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf, nan

from ir.graph import FLOATS, STORED_FLOATS, STORED_INTEGERS
from ir.semantics.backend import Array, Backend


@dataclass(frozen=True, slots=True)
class _Format:
    """A short float with a sign.

    Attributes:
        fraction: stored bits of the significand.
        least: exponent of the smallest normal number.
        highest: largest finite number.
        beyond: what a number above `highest` becomes if it does not saturate.
    """

    fraction: int
    least: int
    highest: float
    beyond: float


_FORMATS = {
    "float8_e4m3fn": _Format(3, -6, 448.0, nan),
    "float8_e4m3fnuz": _Format(3, -7, 240.0, nan),
    "float8_e5m2": _Format(2, -14, 57344.0, inf),
    "float8_e5m2fnuz": _Format(2, -15, 57344.0, nan),
    "float4_e2m1fn": _Format(1, 0, 6.0, 6.0),
}
_BITS = {"int4": 4, "uint4": 4, "int2": 2, "uint2": 2}
_EXPONENT, _FRACTION = 0xFF, 0x7FFFFF
"""Masks of a float32, the exponent's after a shift by 23."""


def convert(
    backend: Backend, x: Array, source: str, target: str, *, saturate: bool = True,
    rounding: str = "up",
) -> Array:
    """`Cast` from one dtype to another.

    Args:
        backend: where `x` lives.
        x: array of dtype `source`.
        source: a key of `ir.graph.ITEM_BYTES`.
        target: likewise.
        saturate: whether numbers beyond an 8-bit float's range become its largest.
        rounding: of `float8_e8m0fnu`: `up`, `down` or `nearest`.
    """
    if target == "float8_e8m0fnu":
        return _power_of_two(backend, backend.cast(x, "float32"), saturate, rounding)
    if target in STORED_FLOATS:
        return to_short_float(backend, backend.cast(x, "float32"), target, saturate)
    if target in STORED_INTEGERS:
        whole = backend.cast(x, "float32" if source in STORED_FLOATS else source)
        return _wrapped(backend, backend.cast(whole, "int32"), target)
    if source in STORED_FLOATS and target not in FLOATS:
        return backend.cast(backend.cast(x, "float32"), target)
    return backend.cast(x, target)


def to_short_float(backend: Backend, x: Array, target: str, saturate: bool) -> Array:
    """Round float32 to the nearest number of a short format, ties to the even one."""
    form, xp = _FORMATS[target], backend.xp
    size = xp.abs(x)
    exponent = xp.bitwise_and(backend.bitcast(size, "int32"), _EXPONENT << 23) >> 23
    # The distance of neighbours there, as a power of two: its bits are an exponent alone.
    step = backend.bitcast(
        (xp.clip(exponent, form.least + 127, 254) - form.fraction) << 23, "float32")
    rounded = xp.round(size / step) * step
    beyond = form.highest if saturate else form.beyond
    rounded = xp.where(rounded > form.highest, xp.full_like(rounded, beyond), rounded)
    if target == "float4_e2m1fn":  # It has no NaN; ml_dtypes and ONNX store the zero of that sign.
        x, rounded = (xp.where(xp.isnan(v), xp.full_like(v, -0.0), v) for v in (x, rounded))
    negative = backend.bitcast(x, "int32") < 0
    return backend.cast(xp.where(negative, -xp.abs(rounded), rounded), target)


def _power_of_two(backend: Backend, x: Array, saturate: bool, rounding: str) -> Array:
    """The biased exponent of a float32, rounded; the sign is lost."""
    xp = backend.xp
    bits = backend.bitcast(x, "int32")
    exponent, fraction = xp.bitwise_and(bits >> 23, _EXPONENT), xp.bitwise_and(bits, _FRACTION)
    special = exponent == _EXPONENT
    if rounding == "up":
        up = fraction > 0
    elif rounding == "nearest":
        half = 1 << 22
        up = (fraction > half) | ((fraction == half) & (exponent > 0))
    else:
        up = fraction < 0
    if saturate:
        up = up & (exponent < _EXPONENT - 1)
    exponent = exponent + backend.cast(up, "int32")
    # 2 ** -127 lies below float32's normal numbers: half of the smallest of them.
    coded = xp.where(exponent == 0, xp.full_like(exponent, 1 << 22), exponent << 23)
    value = backend.bitcast(coded, "float32")
    return backend.cast(
        xp.where(special | (exponent == _EXPONENT), xp.full_like(value, nan), value),
        "float8_e8m0fnu")


def _wrapped(backend: Backend, x: Array, target: str) -> Array:
    """The low bits of an int32, as two's complement if the target has a sign."""
    bits = _BITS[target]
    low = backend.xp.bitwise_and(x, 2**bits - 1)
    if target.startswith("int"):
        low = backend.xp.where(low < 2 ** (bits - 1), low, low - 2**bits)
    return backend.cast(low, target)
