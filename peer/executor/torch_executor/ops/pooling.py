"""Pooling over windows and over all pixels."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from ir.semantics.window import Window, window
from peer.executor.torch_executor.ops.convolution import pad_spatial
from peer.executor.torch_executor.ops.matmul import convolve
from peer.executor.torch_executor.table import Call, Runner, operator


def _lowest(dtype: torch.dtype) -> float:
    return float("-inf") if dtype.is_floating_point else torch.iinfo(dtype).min


@operator("MaxPool")
def _max_pool(call: Call) -> Runner:
    kernel = call.integers("kernel_shape") or ()
    geometry, low, dtype = window(call, kernel), _lowest(call.dtype(0)), call.dtype(0)
    function = (F.max_pool1d, F.max_pool2d, F.max_pool3d)[len(kernel) - 1]
    indexed, wide = call.wants(1), not dtype.is_floating_point
    inside = not indexed and not wide and geometry.symmetric and all(
        0 <= 2 * b <= k for b, k in zip(geometry.begin, kernel, strict=True))

    def run(x: Tensor) -> Any:
        if inside:
            return function(x, kernel, geometry.strides, geometry.begin, geometry.dilations)
        padded = pad_spatial(x.to(torch.float64) if wide else x, geometry.begin, geometry.end, low)
        result = function(padded, kernel, geometry.strides, 0, geometry.dilations,
                          return_indices=indexed)
        if not indexed:
            return result.to(dtype)
        return result[0].to(dtype), _flat_indices(call, geometry, result[1], padded.shape[2:])

    return run


def _flat_indices(call: Call, geometry: Window, found: Tensor, padded: Sequence[int]) -> Tensor:
    """Torch's positions in one padded plane, as ONNX's positions in the whole input tensor."""
    batch, channels, *spatial = call.shape(0)
    coordinates = []
    for extent, begin in zip(reversed(padded), reversed(geometry.begin), strict=True):
        coordinates.append(found % extent - begin)
        found = found // extent
    order = list(zip(coordinates, reversed(spatial), strict=True))
    if call.integer("storage_order", 0):
        order.reverse()
    flat, step = torch.zeros_like(found), 1
    for coordinate, extent in order:
        flat, step = flat + coordinate * step, step * extent
    planes = torch.arange(batch * channels, device=found.device).reshape(
        batch, channels, *(1,) * len(spatial))
    return flat + planes * step


@operator("AveragePool")
def _average_pool(call: Call) -> Runner:
    kernel = call.integers("kernel_shape") or ()
    geometry, included = window(call, kernel), bool(call.integer("count_include_pad", 0))
    function = (F.avg_pool1d, F.avg_pool2d, F.avg_pool3d)[len(kernel) - 1]
    plain = geometry.symmetric and geometry.end == geometry.declared_end and set(
        geometry.dilations) <= {1}
    if plain and all(0 <= 2 * b <= k for b, k in zip(geometry.begin, kernel, strict=True)):
        # torch has no kernel for volumes of short floats on the CPU.
        wide = torch.float32 if len(kernel) == 3 and call.dtype(0).itemsize < 4 else call.dtype(0)
        return lambda x: function(x.to(wide), kernel, geometry.strides, geometry.begin,
                                  count_include_pad=included).to(x.dtype)
    counts = _window_sums(_counted(call, geometry, included), geometry)

    def run(x: Tensor) -> Tensor:
        sums = _window_sums(pad_spatial(x, geometry.begin, geometry.end), geometry)
        return sums / counts.to(x.device, x.dtype)

    return run


def _counted(call: Call, geometry: Window, included: bool) -> Tensor:
    """Ones where an element of the padded input counts towards a mean, zeros elsewhere."""
    spatial = call.shape(0)[2:]
    ones = torch.ones(1, 1, *spatial)
    if not included:
        return pad_spatial(ones, geometry.begin, geometry.end)
    declared = pad_spatial(ones, geometry.begin, geometry.declared_end, 1.0)
    beyond = [e - d for e, d in zip(geometry.end, geometry.declared_end, strict=True)]
    return pad_spatial(declared, [0] * len(spatial), beyond)


def _window_sums(padded: Tensor, geometry: Window) -> Tensor:
    """Sum over each window, any dilation: a convolution with ones, channel by channel."""
    rank = len(geometry.kernel)
    planes = padded.reshape(-1, 1, *padded.shape[2:])
    ones = torch.ones(1, 1, *geometry.kernel, dtype=padded.dtype, device=padded.device)
    sums = convolve(rank)(planes, ones, None, geometry.strides, 0, geometry.dilations)
    return sums.reshape(*padded.shape[:2], *sums.shape[2:])


@operator("GlobalAveragePool")
def _global_average_pool(call: Call) -> Runner:
    axes, shape = tuple(range(2, len(call.shape(0)))), call.out().shape
    if not axes or prod(shape) == 0:
        return lambda x: x.reshape(shape)
    return lambda x: x.mean(axes, keepdim=True)


@operator("GlobalMaxPool")
def _global_max_pool(call: Call) -> Runner:
    axes = tuple(range(2, len(call.shape(0))))
    return lambda x: x.amax(axes, keepdim=True) if axes else x.view_as(x)
