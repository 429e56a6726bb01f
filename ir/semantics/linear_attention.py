"""Attention by a recurrent state, and the convolution that goes before it (ONNX opset 27).

Legend: B batch, T tokens, H query heads, G key/value heads, K key features, V value features.
"""

from __future__ import annotations

from math import sqrt
from typing import Any

from ir.semantics.activations import sigmoid
from ir.semantics.backend import Array, Backend
from ir.semantics.call import OpCall
from ir.semantics.registry import Runner, semantics


@semantics("LinearAttention")
def _linear_attention(call: OpCall, backend: Backend) -> Runner:
    xp, dtype, stash = backend.xp, call.type(0).dtype, "float32"
    if dtype == "float64":
        stash = dtype
    heads, groups = call.integer("q_num_heads", 1), call.integer("kv_num_heads", 1)
    batch, tokens, wide = call.shape(0)
    size, depth = wide // heads, call.shape(2)[2] // groups
    scale = call.number("scale", 0.0) or 1.0 / sqrt(size)
    rule = call.text("update_rule", "gated_delta")
    kept = call.type(3).dtype if call.has(3) else dtype

    def by_time(x: Array, *features: int) -> Array:
        """[B, T, ...] to [T, B, *features]."""
        split = xp.reshape(backend.cast(x, stash), (batch, tokens, *features))
        return xp.permute_dims(split, (1, 0, *range(2, 2 + len(features))))

    def step(carry: Any, slices: Any) -> tuple[Any, Any]:
        (state,), (q, k, v, *gates) = carry, slices
        if "gated" in rule:
            state = state * xp.expand_dims(xp.exp(gates.pop(0)), axis=-1)
        if "delta" in rule:
            known = xp.sum(xp.expand_dims(k, axis=-1) * state, axis=-2)
            v = gates.pop(0) * (v - known)
        state = state + xp.expand_dims(k, axis=-1) * xp.expand_dims(v, axis=-2)
        shared = xp.reshape(q, (batch, groups, heads // groups, size))
        return (state,), (xp.matmul(shared, state) * scale,)

    def run(
        q: Array, k: Array, v: Array, past: Array | None = None, decay: Array = None,
        beta: Array = None,
    ) -> Any:
        start = xp.zeros((batch, groups, size, depth), dtype=backend.dtype(stash)) if (
            past is None) else backend.cast(past, stash)
        xs = [by_time(q, heads, size), by_time(k, groups, size), by_time(v, groups, depth)]
        if "gated" in rule:
            xs.append(by_time(decay, groups, decay.shape[2] // groups))
        if "delta" in rule:
            xs.append(by_time(beta, beta.shape[2], 1))
        (state,), (rows,) = backend.loop(step, (start,), tuple(xs), tokens)
        result = xp.reshape(xp.permute_dims(rows, (1, 0, 2, 3, 4)), (batch, tokens, heads * depth))
        return backend.cast(result, dtype), backend.cast(state, kept)

    return run


@semantics("CausalConvWithState")
def _causal_conv(call: OpCall, backend: Backend) -> Runner:
    xp, dtype = backend.xp, call.type(0).dtype
    taps, length, activation = call.shape(1)[2], call.shape(0)[2], call.text("activation", "none")

    def run(
        x: Array, weight: Array, bias: Array | None = None, past: Array | None = None
    ) -> Any:
        if past is None:
            whole = backend.pad(x, [(0, 0), (0, 0), (taps - 1, 0)], 0)
        else:
            whole = xp.concat([past, x], axis=2)
        total = whole[:, :, :length] * weight[:, 0, 0:1]
        for tap in range(1, taps):
            total = total + whole[:, :, tap:tap + length] * weight[:, 0, tap:tap + 1]
        if bias is not None:
            total = total + xp.reshape(bias, (-1, 1))
        if activation != "none":
            total = total * sigmoid(xp, total)
        return backend.cast(total, dtype), whole[:, :, length:]

    return run
