"""Convolution and its transpose, over any number of spatial axes."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax import Array

from ir.semantics.registry import Runner
from ir.semantics.window import transpose_borders, window
from peer.executor.jax_executor.ops.products import rounded
from peer.executor.jax_executor.table import Call, operator


def _with_bias(result: Array, bias: Array | None) -> Array:
    if bias is None:
        return result
    return result + jnp.reshape(bias, (-1, *(1,) * (result.ndim - 2)))


@operator("Conv")
def _conv(call: Call) -> Runner:
    geometry, group = window(call, call.shape(1)[2:]), call.integer("group", 1)
    borders = list(zip(geometry.begin, geometry.end, strict=True))

    def run(x: Array, w: Array, b: Array | None = None) -> Array:
        result = jax.lax.conv_general_dilated(
            x, w, geometry.strides, borders, rhs_dilation=geometry.dilations,
            feature_group_count=group)
        return _with_bias(result, b)

    return rounded(call, run)


@operator("ConvTranspose")
def _conv_transpose(call: Call) -> Runner:
    kernel = call.shape(1)[2:]
    strides = call.integers("strides") or (1,) * len(kernel)
    dilations = call.integers("dilations") or (1,) * len(kernel)
    group = call.integer("group", 1)
    reach = [(k - 1) * d for k, d in zip(kernel, dilations, strict=True)]
    begin, end = transpose_borders(call, strides, dilations)
    borders = [(r + b, r + e) for r, b, e in zip(reach, begin, end, strict=True)]

    def run(x: Array, w: Array, b: Array | None = None) -> Array:
        result = jax.lax.conv_general_dilated(
            x, _turned(w, group, kernel), (1,) * len(kernel), borders, lhs_dilation=strides,
            rhs_dilation=dilations, feature_group_count=group)
        return _with_bias(result, b)

    return rounded(call, run)


def _turned(w: Array, group: int, kernel: Sequence[int]) -> Array:
    """Weights [in, out / group, ...] of a transposed convolution as those of the plain one."""
    inputs, outputs = w.shape[0] // group, w.shape[1]
    apart = jnp.swapaxes(jnp.reshape(w, (group, inputs, outputs, *kernel)), 1, 2)
    flipped = jnp.flip(apart, tuple(range(3, 3 + len(kernel))))
    return jnp.reshape(flipped, (group * outputs, inputs, *kernel))
