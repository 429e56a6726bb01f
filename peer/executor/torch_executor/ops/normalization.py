"""Normalisations, mapped to torch's fused kernels."""

from __future__ import annotations

from math import prod
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from peer.executor.torch_executor.table import Call, Runner, operator


def _normalized_shape(call: Call) -> list[int]:
    shape = call.shape(0)
    return list(shape[call.integer("axis", -1) % len(shape):])


@operator("LayerNormalization", once=True, dense=True)
def _layer_norm(call: Call) -> Runner:
    shape, epsilon = _normalized_shape(call), call.number("epsilon", 1e-5)
    measured = call.wants(1) or call.wants(2)

    def run(x: Tensor, scale: Tensor, bias: Tensor | None = None) -> Any:
        weight = scale.expand(shape)
        shift = None if bias is None else bias.expand(shape)
        if measured:
            return torch.native_layer_norm(x, shape, weight, shift, epsilon)
        return F.layer_norm(x, shape, weight, shift, epsilon)

    return run


@operator("RMSNormalization", dense=True)
def _rms_norm(call: Call) -> Runner:
    shape, epsilon = _normalized_shape(call), call.number("epsilon", 1e-5)
    return lambda x, scale: F.rms_norm(x, shape, scale.expand(shape), epsilon)


@operator("GroupNormalization", dense=True)
def _group_norm(call: Call) -> Runner:
    groups, epsilon = call.integer("num_groups", 1), call.number("epsilon", 1e-5)
    repeats = call.shape(0)[1] // max(prod(call.shape(1)), 1)

    def run(x: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
        if repeats != 1:
            # Before opset 21 there was one scale per group, not per channel.
            scale, bias = (v.repeat_interleave(repeats) for v in (scale, bias))
        return F.group_norm(x, groups, scale, bias, epsilon)

    return run


@operator("InstanceNormalization", dense=True)
def _instance_norm(call: Call) -> Runner:
    epsilon, channels = call.number("epsilon", 1e-5), call.shape(0)[1]
    # One group per channel is the same computation, and allows a single pixel.
    return lambda x, scale, bias: F.group_norm(x, channels, scale, bias, epsilon)
