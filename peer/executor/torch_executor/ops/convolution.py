"""Convolution and its transpose."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from homespun.errors import Code, HomespunError
from ir.semantics.window import Window, transpose_borders, window
from peer.executor.torch_executor.ops.matmul import convolve, rounded
from peer.executor.torch_executor.table import Call, Runner, operator


def pad_spatial(
    x: Tensor, begin: Sequence[int], end: Sequence[int], value: float = 0.0
) -> Tensor:
    """Pad (or crop, where negative) the spatial axes."""
    amounts = [n for pair in zip(reversed(begin), reversed(end), strict=True) for n in pair]
    return F.pad(x, amounts, value=value) if any(amounts) else x


@operator("Conv")
def _conv(call: Call) -> Runner:
    kernel = call.shape(1)[2:]
    geometry, group, function = window(call, kernel), call.integer("group", 1), convolve(
        len(kernel))
    padding = geometry.begin if _can_pad(geometry) else (0,) * len(kernel)
    outside = not _can_pad(geometry)

    def run(x: Tensor, w: Tensor, b: Tensor | None = None) -> Tensor:
        if outside:
            x = pad_spatial(x, geometry.begin, geometry.end)
        return function(x, w, b, geometry.strides, padding, geometry.dilations, group)

    return rounded(call, run)


def _can_pad(geometry: Window) -> bool:
    """Whether torch's own padding gives the same windows.

    A negative or smaller end only drops elements that no window reaches: then torch agrees.
    """
    return all(b >= 0 and 0 <= b - e < s for b, e, s in
               zip(geometry.begin, geometry.end, geometry.strides, strict=True))


@operator("ConvTranspose")
def _conv_transpose(call: Call) -> Runner:
    rank = len(call.shape(1)) - 2
    if rank > 3:
        raise HomespunError(
            Code.UNSUPPORTED_OP,
            f"Node '{call.node.name}' (ConvTranspose) has {rank} spatial axes; at most 3 are "
            "supported.", node=call.node.name)
    function = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)[rank - 1]
    strides = call.integers("strides") or (1,) * rank
    dilations = call.integers("dilations") or (1,) * rank
    group = call.integer("group", 1)
    begin, end = transpose_borders(call, strides, dilations)

    def run(x: Tensor, w: Tensor, b: Tensor | None = None) -> Tensor:
        whole = function(x, w, None, strides, 0, 0, group, dilations)
        result = pad_spatial(whole, begin, end)
        return result if b is None else result + b.reshape(-1, *(1,) * rank)

    return rounded(call, run)
