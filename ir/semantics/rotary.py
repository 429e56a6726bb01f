"""Rotary position embedding (ONNX opset 23).

Legend: B batch, H heads, T positions, D head size.
"""

from __future__ import annotations

from typing import Any

from ir.semantics.backend import Array, Backend
from ir.semantics.call import OpCall
from ir.semantics.registry import Runner, semantics


@semantics("RotaryEmbedding")
def _rotary(call: OpCall, backend: Backend) -> Runner:
    xp, shape = backend.xp, call.shape(0)
    flat, interleaved = len(shape) == 3, bool(call.integer("interleaved", 0))
    heads = call.integer("num_heads", 0) if flat else shape[1]
    size = shape[-1] // heads if flat else shape[-1]
    turned = call.integer("rotary_embedding_dim", 0) or size

    def run(x: Array, cos: Array, sin: Array, positions: Array | None = None) -> Array:
        source = xp.permute_dims(
            xp.reshape(x, (*shape[:2], heads, size)), (0, 2, 1, 3)) if flat else x
        if positions is not None:
            cos, sin = (_rows(backend, table, positions) for table in (cos, sin))
        cos, sin = (xp.expand_dims(table, axis=1) for table in (cos, sin))
        rotated = _rotate(xp, source[..., :turned], cos, sin, interleaved)
        if turned != size:
            rotated = xp.concat([rotated, source[..., turned:]], axis=-1)
        return xp.reshape(xp.permute_dims(rotated, (0, 2, 1, 3)), shape) if flat else rotated

    return run


def _rows(backend: Backend, table: Array, positions: Array) -> Array:
    """Rows [B, T, D / 2] of a table at positions [B, T]."""
    xp = backend.xp
    flat = xp.reshape(backend.cast(positions, "int64"), (-1,))
    return xp.reshape(xp.take(table, flat, axis=0), (*positions.shape, table.shape[-1]))


def _rotate(xp: Any, x: Array, cos: Array, sin: Array, interleaved: bool) -> Array:
    """Rotate pairs of [B, H, T, D] by the angles of [B, 1, T, D / 2]."""
    half = x.shape[-1] // 2
    first, second = (x[..., 0::2], x[..., 1::2]) if interleaved else (x[..., :half], x[..., half:])
    real, imaginary = first * cos - second * sin, first * sin + second * cos
    if interleaved:
        return xp.reshape(xp.stack([real, imaginary], axis=-1), x.shape)
    return xp.concat([real, imaginary], axis=-1)
