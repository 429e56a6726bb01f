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
    kinds = [call.out_dtype(slot) if call.wants(slot) else None for slot in (1, 2)]

    def run(x: Tensor, scale: Tensor, bias: Tensor | None = None) -> Any:
        weight = scale.expand(shape)
        shift = None if bias is None else bias.expand(shape)
        if measured:
            result, *statistics = torch.native_layer_norm(x, shape, weight, shift, epsilon)
            return (result, *(value if kind is None else value.to(kind)
                              for value, kind in zip(statistics, kinds, strict=False)))
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


@operator("BatchNormalization", once=True, dense=True)
def _batch_norm(call: Call) -> Runner:
    epsilon, kept = call.number("epsilon", 1e-5), call.number("momentum", 0.9)
    outputs, shape = len(call.node.outputs), call.shape(0)
    samples = prod(shape) // max(shape[1], 1)
    trains = call.integer("training_mode", 0) == 1

    def normalised(x: Tensor, scale: Tensor, bias: Tensor, mean: Tensor, variance: Tensor,
                   by_batch: bool) -> Tensor:
        # With momentum 1 the kernel leaves the batch's own statistics in `mean` and `variance`.
        # cuDNN's kernels are left out: their sums depend on timing.
        result = torch.batch_norm(
            x.to(mean.dtype), scale.to(mean.dtype), bias.to(mean.dtype), mean, variance, by_batch,
            1.0, epsilon, False)
        return result.to(x.dtype)

    def run(x: Tensor, scale: Tensor, bias: Tensor, mean: Tensor, variance: Tensor) -> Any:
        if not (trains and call.state.training):
            y = normalised(x, scale, bias, mean, variance, False)
            return (y, mean, variance)[:outputs] if outputs > 1 else y
        found, spread = torch.zeros_like(mean), torch.zeros_like(variance)
        y = normalised(x, scale, bias, found, spread, True)
        if outputs == 1:
            return y
        # Torch divides by samples - 1, ONNX by samples.
        spread = spread * ((samples - 1) / samples) if samples > 1 else torch.zeros_like(spread)
        if kept:
            found = mean * kept + found * (1 - kept)
            spread = variance * kept + spread * (1 - kept)
        return (y, found, spread)[:outputs]

    return run


@operator("InstanceNormalization", dense=True)
def _instance_norm(call: Call) -> Runner:
    epsilon, channels = call.number("epsilon", 1e-5), call.shape(0)[1]
    # One group per channel is the same computation, and allows a single pixel.
    return lambda x, scale, bias: F.group_norm(x, channels, scale, bias, epsilon)
