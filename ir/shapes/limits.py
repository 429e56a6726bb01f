"""Limits on tensors, checked on Python integers (which do not overflow) before any allocation."""

from __future__ import annotations

from homespun.errors import Code, HomespunError
from ir.graph import TensorType

MAX_RANK = 16
"""More axes than any known model uses; executors stop at 64 (PyTorch) or earlier."""
MAX_EXTENT = 2**31
"""Largest extent of one axis: beyond it some kernels overflow their 32-bit indices."""
MAX_TENSOR_BYTES = 2**40
"""1 TiB: more than one device holds; a larger tensor is a mistake or an attack."""
MAX_HOST_ELEMENTS = 4096
"""Largest value that inference computes instead of only typing (shapes, axes, small ranges)."""


def exceeds_limits(type_: TensorType) -> bool:
    """Whether a type is over a limit; `check_limits` says which."""
    shape = type_.shape
    return bool(shape) and (
        len(shape) > MAX_RANK or max(shape) > MAX_EXTENT or type_.size_bytes > MAX_TENSOR_BYTES)


def check_limits(type_: TensorType, where: str) -> None:
    """Refuse a type that is over a limit.

    Args:
        type_: any dtype and shape.
        where: what has this type, for the message ("value 'x'").

    Raises:
        HomespunError: LIMIT_EXCEEDED, naming the limit.
    """
    if len(type_.shape) > MAX_RANK:
        raise _exceeded(where, "axes", len(type_.shape), MAX_RANK)
    for extent in type_.shape:
        if extent > MAX_EXTENT:
            raise _exceeded(where, "elements along one axis", extent, MAX_EXTENT)
    if type_.size_bytes > MAX_TENSOR_BYTES:
        raise _exceeded(where, "bytes", type_.size_bytes, MAX_TENSOR_BYTES)


def _exceeded(where: str, what: str, had: int, most: int) -> HomespunError:
    return HomespunError(
        Code.LIMIT_EXCEEDED, f"{where} has {had} {what}; the limit is {most}.",
        limit=most, had=had)
