"""Attention (ONNX opset 25).

Legend: B batch, H query heads, G key/value heads, T queries, S keys, D head size.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce
from math import sqrt
from operator import or_
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from ir.semantics.registry import Runner
from ir.tensor_proto import numpy_dtype
from peer.executor.jax_executor.ops.products import rounded
from peer.executor.jax_executor.table import Call, operator

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
    is_plain: bool


@operator("Attention")
def _attention(call: Call) -> Runner:
    plan = _plan(call)
    dtype = numpy_dtype(call.out().dtype)

    def run(
        query: Array, key: Array, value: Array, mask: Array | None = None,
        past_key: Array | None = None, past_value: Array | None = None,
        valid: Array | None = None,
    ) -> Any:
        q = _heads(query, plan.heads, plan.flat)
        k, v = (_heads(x, plan.groups, plan.flat) for x in (key, value))
        offset = _offset(past_key, valid, q.shape[2])
        k = k if past_key is None else jnp.concatenate([past_key, k], 2)
        v = v if past_value is None else jnp.concatenate([past_value, v], 2)
        if plan.is_plain:
            result, scores = _fused(plan, q, k, v), None
        else:
            hidden = _hidden(plan, q, k, offset, valid)
            result, scores = _explicit(plan, q, k, v, mask, hidden)
        if plan.flat:
            result = jnp.reshape(jnp.swapaxes(result, 1, 2), (*query.shape[:2], -1))
        return (result.astype(dtype), k, v, scores)[:len(call.node.outputs)]

    if call.wants(1) or call.wants(2) or call.wants(3) or call.has(3) or call.has(6):
        return run  # caches, scores and masks keep the graph's dtype
    return rounded(call, lambda *values: run(*values)[0])


def _plan(call: Call) -> _Plan:
    flat = len(call.shape(0)) == 3
    heads = call.integer("q_num_heads", 0) if flat else call.shape(0)[1]
    groups = call.integer("kv_num_heads", 0) if flat else call.shape(1)[1]
    size = call.shape(0)[-1] // heads if flat else call.shape(0)[-1]
    softcap = call.number("softcap", 0.0)
    same_size = call.shape(1)[-1] == call.shape(2)[-1]
    left, right = call.integer("left_window_size", -1), call.integer("right_window_size", -1)
    special = (any(call.has(slot) for slot in (3, 4, 6)) or softcap or call.wants(3)
               or not same_size or max(left, right) >= 0
               # JAX's has no float16 products on a CPU; of float64 its softmax is in float32.
               or call.type(0).dtype in ("float16", "float64"))
    return _Plan(
        heads=heads, groups=groups, flat=flat, causal=bool(call.integer("is_causal", 0)),
        left=left, right=right,
        scale=call.number("scale", 1.0 / sqrt(size)), softcap=softcap,
        score_mode=call.integer("qk_matmul_output_mode", 0), is_plain=not special)


def _heads(x: Array, heads: int, flat: bool) -> Array:
    """[B, T, H * D] to [B, H, T, D]; four axes stay as they are."""
    if not flat:
        return x
    return jnp.swapaxes(jnp.reshape(x, (x.shape[0], x.shape[1], heads, -1)), 1, 2)


def _fused(plan: _Plan, q: Array, k: Array, v: Array) -> Array:
    """No mask but the causal one, so that no row is hidden as a whole."""
    q, k, v = (jnp.swapaxes(x, 1, 2) for x in (q, k, v))
    result = jax.nn.dot_product_attention(q, k, v, scale=plan.scale, is_causal=plan.causal)
    return jnp.swapaxes(result, 1, 2)


def _offset(past: Array | None, valid: Array | None, queries: int) -> Any:
    """Position of the first query among the keys; [B, 1, 1, 1] if each sample has its own."""
    if valid is not None:
        return jnp.reshape(valid, (-1, 1, 1, 1)) - queries
    return 0 if past is None else past.shape[2]


def _hidden(plan: _Plan, q: Array, k: Array, offset: Any, valid: Array | None) -> Any:
    """Which keys a query does not see, broadcastable to [B, H, T, S]; None if it sees all."""
    behind = np.arange(q.shape[2])[:, None] + offset - np.arange(k.shape[2])
    parts = [distance > limit for limit, distance in ((plan.left, behind), (plan.right, -behind))
             if limit >= 0]
    if plan.causal:
        parts.append(behind < 0)
    if valid is not None:
        parts.append(np.arange(k.shape[2]) >= jnp.reshape(valid, (-1, 1, 1, 1)))
    return reduce(or_, parts) if parts else None


def _biased(plan: _Plan, scores: Array, mask: Array | None, hidden: Any) -> Array:
    """Scores with the mask applied: bool (True attends) or added; -inf where hidden."""
    if mask is not None:
        missing = scores.shape[-1] - mask.shape[-1]
        is_choice = mask.dtype == np.bool_
        if missing > 0:
            border = [(0, 0)] * (mask.ndim - 1) + [(0, missing)]
            mask = jnp.pad(mask, border, constant_values=False if is_choice else -jnp.inf)
        scores = jnp.where(mask, scores, -jnp.inf) if is_choice else scores + mask
    return scores if hidden is None else jnp.where(hidden, -jnp.inf, scores)


def _explicit(
    plan: _Plan, q: Array, k: Array, v: Array, mask: Array | None, hidden: Any
) -> tuple[Array, Array]:
    """Step by step; the order is that of opset 23."""
    repeats = plan.heads // plan.groups
    if repeats != 1:
        k, v = (jnp.repeat(x, repeats, axis=1) for x in (k, v))
    half = sqrt(plan.scale)
    raw = jnp.matmul(q * half, jnp.swapaxes(k * half, 2, 3))
    capped = jnp.tanh(raw / plan.softcap) * plan.softcap if plan.softcap else raw
    biased = _biased(plan, capped, mask, hidden).astype(raw.dtype)
    is_empty = jnp.all(jnp.isneginf(biased), axis=-1, keepdims=True)
    # A row that sees nothing gives zeros, and no gradient that is not a number.
    weights = jax.nn.softmax(jnp.where(is_empty, 0, biased), axis=-1)
    weights = jnp.where(is_empty, 0, weights)
    shown = {_RAW: raw, _CAPPED: capped, _BIASED: biased, _PROBABILITIES: weights}[plan.score_mode]
    return jnp.matmul(weights, v), shown
