"""Operators on the bits of integers."""

from __future__ import annotations

from collections.abc import Callable

from ir.graph import ITEM_BYTES
from ir.semantics.backend import Array, Backend
from ir.semantics.call import OpCall
from ir.semantics.registry import Builder, Runner, semantics

_WIDE_UNSIGNED = frozenset({"uint16", "uint32", "uint64"})
"""Some libraries store these without computing: the bits are those of a signed integer."""


def _on_signed(dtype: str, backend: Backend, run: Callable[..., Array]) -> Runner:
    """Run on signed integers of the same bits, where the dtype may not be computed in."""
    if dtype not in _WIDE_UNSIGNED:
        return run
    signed = dtype.removeprefix("u")
    return lambda *values: backend.bitcast(
        run(*(backend.bitcast(value, signed) for value in values)), dtype)


def _logical(function: str) -> Builder:
    def build(call: OpCall, backend: Backend) -> Runner:
        return _on_signed(call.type(0).dtype, backend, getattr(backend.xp, function))

    return build


for _name, _function in (
    ("BitwiseAnd", "bitwise_and"), ("BitwiseOr", "bitwise_or"), ("BitwiseXor", "bitwise_xor"),
    ("BitwiseNot", "bitwise_invert"),
):
    semantics(_name)(_logical(_function))


@semantics("BitShift")
def _bit_shift(call: OpCall, backend: Backend) -> Runner:
    xp, dtype = backend.xp, call.type(0).dtype
    width = 8 * ITEM_BYTES[dtype]
    left = call.text("direction", "LEFT") == "LEFT"

    def run(x: Array, by: Array) -> Array:
        if left:
            return xp.bitwise_left_shift(x, by)
        shifted = xp.bitwise_right_shift(x, by)
        if dtype not in _WIDE_UNSIGNED:
            return shifted
        # The sign that a signed shift copied down is no part of an unsigned number.
        copied = xp.bitwise_left_shift(xp.full_like(x, -1), width - by)
        return xp.where(by == 0, x, xp.bitwise_and(shifted, xp.bitwise_invert(copied)))

    return _on_signed(dtype, backend, run)


@semantics("BitCast")
def _bit_cast(call: OpCall, backend: Backend) -> Runner:
    source, target = call.type(0).dtype, call.out().dtype
    if "bool" not in (source, target):
        return lambda x: backend.bitcast(x, target)
    return lambda x: backend.cast(x, target)
