"""Rotary position embedding (ONNX opset 23).

Legend: B batch, H heads, T positions, D head size. Memory is laid out [B, T, H, D] throughout, as
in `attention`.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from peer.executor.torch_executor.table import Call, Runner, operator
from peer.executor.torch_executor.tensors import row_major


@operator("RotaryEmbedding", lays_out=True)
def _rotary(call: Call) -> Runner:
    shape = call.shape(0)
    flat, interleaved = len(shape) == 3, bool(call.integer("interleaved", 0))
    heads = call.integer("num_heads", 0) if flat else shape[1]
    size = shape[-1] // heads if flat else shape[-1]
    turned = call.integer("rotary_embedding_dim", 0) or size

    def run(x: Tensor, cos: Tensor, sin: Tensor, positions: Tensor | None = None) -> Tensor:
        rows = row_major(x).view(*shape[:2], heads, size) if flat else row_major(x.transpose(1, 2))
        if positions is not None:
            cos, sin = cos[positions], sin[positions]
        cos, sin = cos.unsqueeze(2), sin.unsqueeze(2)
        rotated = _rotated(rows[..., :turned], cos, sin, interleaved)
        result = rotated if turned == size else torch.cat([rotated, rows[..., turned:]], -1)
        return result.reshape(shape) if flat else result.transpose(1, 2)

    return run


def _rotated(x: Tensor, cos: Tensor, sin: Tensor, interleaved: bool) -> Tensor:
    """Turn pairs of [B, T, H, D] by the angles of [B, T, 1, D / 2]."""
    if not (cos.requires_grad or sin.requires_grad):
        result: Tensor = _Rotation.apply(x, cos, sin, interleaved)  # type: ignore[no-untyped-call]
        return result
    first, second = _pair(x, interleaved)
    parts = [first * cos - second * sin, first * sin + second * cos]
    return torch.stack(parts, -1).flatten(-2) if interleaved else torch.cat(parts, -1)


def _pair(x: Tensor, interleaved: bool) -> tuple[Tensor, Tensor]:
    """Views of the two coordinates of each pair."""
    if interleaved:
        return x[..., 0::2], x[..., 1::2]
    half = x.shape[-1] // 2
    return x[..., :half], x[..., half:]


class _Rotation(torch.autograd.Function):
    """A rotation in two passes over memory; its gradient is the rotation back.

    Written with plain operators it takes four to six passes in each direction.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, cos: Tensor, sin: Tensor, interleaved: bool) -> Tensor:
        ctx.save_for_backward(cos, sin)
        ctx.interleaved = interleaved
        return _turn(x, cos, sin, interleaved, 1.0)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        cos, sin = ctx.saved_tensors
        gradient = gradients[0].contiguous()
        return _turn(gradient, cos, sin, ctx.interleaved, -1.0), None, None, None


def _turn(x: Tensor, cos: Tensor, sin: Tensor, interleaved: bool, sign: float) -> Tensor:
    """Rotate by the angles (`sign` 1) or back (-1)."""
    result = torch.empty_like(x, memory_format=torch.contiguous_format)
    first, second = _pair(x, interleaved)
    for target, along, across, way in zip(
            _pair(result, interleaved), (first, second), (second, first), (-sign, sign),
            strict=True):
        torch.mul(along, cos, out=target).addcmul_(across, sin, value=way)
    return result
