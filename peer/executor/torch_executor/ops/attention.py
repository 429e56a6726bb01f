"""Attention (ONNX opset 25).

Legend: B batch, H query heads, G key/value heads, T queries, S keys, D head size.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from peer.executor.torch_executor.adapters import with_dense_gradients, with_row_major
from peer.executor.torch_executor.ops.matmul import rounded
from peer.executor.torch_executor.table import Call, Runner, operator
from peer.executor.torch_executor.tensors import row_major

_RAW, _CAPPED, _BIASED, _PROBABILITIES = 0, 1, 2, 3
"""Values of `qk_matmul_output_mode`: at which stage the scores are an output."""


@dataclass(frozen=True, slots=True)
class _Plan:
    """Attributes of one attention node."""

    heads: int
    groups: int
    flat: bool
    causal: bool
    left: int
    right: int
    scale: float
    softcap: float
    score_mode: int
    wants_scores: bool
    wants_present: bool


@operator("Attention", lays_out=True)
def _attention(call: Call) -> Runner:
    plan = _plan(call)
    if plan.wants_present or plan.wants_scores or plan.softcap or call.has(4) or call.has(6):
        return with_dense_gradients(with_row_major(_attention_in_steps(call, plan)))

    def run(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None) -> Tensor:
        q = _by_position(query, plan.heads, plan.flat)
        k, v = (_by_position(x, plan.groups, plan.flat) for x in (key, value))
        bias = None if mask is None else row_major(mask)
        result = _fused(plan, q, k, v, _padded(bias, None, k.shape[2]), 0)
        if result.requires_grad:
            result.register_hook(_gradient_by_position)
        return result.transpose(1, 2).reshape(*query.shape[:2], -1) if plan.flat else result

    # A mask keeps the graph's dtype: rounding would move what it hides.
    return run if call.has(3) else rounded(call, run)


def _attention_in_steps(call: Call, plan: _Plan) -> Runner:
    """Attention with a cache, padding, a soft cap, or scores as a result."""
    dtype = call.out_dtype()

    def run(
        query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None,
        past_key: Tensor | None = None, past_value: Tensor | None = None,
        valid: Tensor | None = None,
    ) -> Any:
        q = _heads(query, plan.heads, plan.flat)
        k, v = (_heads(x, plan.groups, plan.flat) for x in (key, value))
        offset = _offset(past_key, valid, q.shape[2])
        k = k if past_key is None else torch.cat([past_key, k], 2)
        v = v if past_value is None else torch.cat([past_value, v], 2)
        scores = None
        if plan.wants_scores or plan.softcap:
            result, scores = _explicit(plan, q, k, v, _padded(mask, valid, k.shape[2]), offset)
        else:
            result = _fused(plan, q, k, v, _padded(mask, valid, k.shape[2]), offset)
        if plan.flat:
            result = result.transpose(1, 2).reshape(*query.shape[:2], -1)
        result = result.to(dtype)
        return (result, k, v, scores) if plan.wants_present or plan.wants_scores else result

    # Only the plain case is rounded: masks, caches and scores keep the graph's dtype.
    plain = not (plan.wants_present or plan.wants_scores or call.has(3) or call.has(6))
    return rounded(call, run) if plain else run


def _plan(call: Call) -> _Plan:
    flat = len(call.shape(0)) == 3
    heads = call.integer("q_num_heads", 0) if flat else call.shape(0)[1]
    groups = call.integer("kv_num_heads", 0) if flat else call.shape(1)[1]
    size = call.shape(0)[-1] // heads if flat else call.shape(0)[-1]
    return _Plan(
        heads=heads, groups=groups, flat=flat, causal=bool(call.integer("is_causal", 0)),
        left=call.integer("left_window_size", -1), right=call.integer("right_window_size", -1),
        scale=call.number("scale", 1.0 / sqrt(size)), softcap=call.number("softcap", 0.0),
        score_mode=call.integer("qk_matmul_output_mode", 0), wants_scores=call.wants(3),
        wants_present=call.wants(1) or call.wants(2))


def _by_position(x: Tensor, heads: int, flat: bool) -> Tensor:
    """[B, H, T, D] that lies in memory as [B, T, H, D].

    That is how a projection leaves it, so that normally nothing is copied, and the fused kernels
    are as fast on it.
    """
    if flat:
        return row_major(x).view(x.shape[0], x.shape[1], heads, -1).transpose(1, 2)
    return row_major(x.transpose(1, 2)).transpose(1, 2)


def _gradient_by_position(gradient: Tensor) -> Tensor | None:
    """The layout of `_by_position` for the gradient of a result [B, H, T, D]."""
    rows = gradient.transpose(1, 2)
    return None if rows.is_contiguous() else rows.contiguous().transpose(1, 2)


def _heads(x: Tensor, heads: int, flat: bool) -> Tensor:
    """[B, T, H * D] to [B, H, T, D]; four axes stay as they are."""
    if not flat:
        return x
    return x.reshape(x.shape[0], x.shape[1], heads, -1).transpose(1, 2)


def _offset(past: Tensor | None, valid: Tensor | None, queries: int) -> int | Tensor:
    """Position of the first query among the keys; [B, 1, 1, 1] if each sample has its own."""
    if valid is not None:
        return valid.reshape(-1, 1, 1, 1) - queries
    return 0 if past is None else past.shape[2]


def _padded(mask: Tensor | None, valid: Tensor | None, keys: int) -> Tensor | None:
    """The mask over all keys: those beyond its end, and those that are padding, are hidden."""
    if mask is not None and mask.shape[-1] < keys:
        hidden = False if mask.dtype == torch.bool else float("-inf")
        mask = F.pad(mask, [0, keys - mask.shape[-1]], value=hidden)
    if valid is None:
        return mask
    return _joined(mask, torch.arange(keys, device=valid.device) < valid.reshape(-1, 1, 1, 1))


def _joined(mask: Tensor | None, allowed: Tensor) -> Tensor:
    if mask is None:
        return allowed
    return mask & allowed if mask.dtype == torch.bool else torch.where(
        allowed, mask, float("-inf"))


def _fused(
    plan: _Plan, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, offset: int | Tensor
) -> Tensor:
    grouped, windowed = plan.groups != plan.heads, max(plan.left, plan.right) >= 0
    if grouped and q.device.type == "cuda" and q.dtype == torch.float32:
        # No fused CUDA kernel shares heads in float32; copying them is cheaper than going without.
        k, v = (_repeated(x, plan.heads // plan.groups) for x in (k, v))
        grouped = False
    if mask is None and plan.causal and isinstance(offset, int) and not offset and not windowed:
        return F.scaled_dot_product_attention(
            q, k, v, is_causal=True, scale=plan.scale, enable_gqa=grouped)
    bias = _bias(plan, q, k, mask, offset)
    return F.scaled_dot_product_attention(
        q, k, v, attn_mask=bias, scale=plan.scale, enable_gqa=grouped)


def _repeated(x: Tensor, times: int) -> Tensor:
    """[B, G, S, D] with each head `times` times in a row."""
    batch, groups, length, size = x.shape
    wide = x.unsqueeze(2).expand(batch, groups, times, length, size)
    return wide.reshape(batch, groups * times, length, size)


def _bias(
    plan: _Plan, q: Tensor, k: Tensor, mask: Tensor | None, offset: int | Tensor
) -> Tensor | None:
    """Mask (bool: True attends) or additive bias, broadcastable to [B, H, T, S]."""
    if not plan.causal and max(plan.left, plan.right) < 0:
        return mask
    queries = torch.arange(q.shape[2], device=q.device).reshape(-1, 1)
    behind = queries + offset - torch.arange(k.shape[2], device=q.device)
    allowed = torch.ones_like(behind, dtype=torch.bool)
    for limit, distance in ((plan.left, behind), (plan.right, -behind)):
        if limit >= 0:
            allowed = allowed & (distance <= limit)
    return _joined(mask, allowed & (behind >= 0) if plan.causal else allowed)


def _explicit(
    plan: _Plan, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, offset: int | Tensor
) -> tuple[Tensor, Tensor]:
    """Step by step, for softcap or when the scores are an output; order as opset 23 says."""
    repeats = plan.heads // plan.groups
    if repeats != 1:
        k, v = (x.repeat_interleave(repeats, 1) for x in (k, v))
    half = sqrt(plan.scale)
    raw = torch.matmul(q * half, k.mT * half)
    capped = torch.tanh(raw / plan.softcap) * plan.softcap if plan.softcap else raw
    bias = _bias(plan, q, k, mask, offset)
    if bias is None:
        biased = capped
    elif bias.dtype == torch.bool:
        biased = capped.masked_fill(~bias, float("-inf"))
    else:
        biased = capped + bias
    hidden = torch.isneginf(biased).all(-1, keepdim=True)
    weights = torch.softmax(biased, -1).masked_fill(hidden, 0.0)
    shown = {_RAW: raw, _CAPPED: capped, _BIASED: biased, _PROBABILITIES: weights}[plan.score_mode]
    return torch.matmul(weights, v), shown
