"""Convolution and its transpose."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from homespun.errors import Code, HomespunError
from peer.executor.torch_executor.ops.matmul import convolve, rounded
from peer.executor.torch_executor.table import Call, Runner, operator


@dataclass(frozen=True, slots=True)
class Window:
    """Geometry of a sliding window, one entry per spatial axis.

    Attributes:
        kernel: window extents.
        strides: distance of neighbouring windows.
        dilations: distance of neighbouring elements in a window.
        begin: elements added before the axis.
        end: elements added after it, such that exactly the graph's number of windows fits;
            negative means elements that no window reaches.
        declared_end: end padding as the node declares it (without what `ceil_mode` adds).
    """

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    begin: tuple[int, ...]
    end: tuple[int, ...]
    declared_end: tuple[int, ...]

    @property
    def symmetric(self) -> bool:
        """Whether torch's own padding argument can express it."""
        return self.begin == self.end


def window(call: Call, kernel: Sequence[int]) -> Window:
    """Read strides, dilations, pads and auto_pad of a convolution or pooling node."""
    rank = len(kernel)
    strides = call.integers("strides") or (1,) * rank
    dilations = call.integers("dilations") or (1,) * rank
    inputs, outputs = call.shape(0)[2:], call.out().shape[2:]
    reach = [(o - 1) * s + (k - 1) * d + 1 for o, s, k, d in
             zip(outputs, strides, kernel, dilations, strict=True)]
    needed = [r - i for r, i in zip(reach, inputs, strict=True)]
    auto = call.text("auto_pad", "NOTSET")
    if auto in ("SAME_UPPER", "SAME_LOWER"):
        total = [max(n, 0) for n in needed]
        begin = tuple(t // 2 if auto == "SAME_UPPER" else t - t // 2 for t in total)
    else:
        pads = call.integers("pads") if auto == "NOTSET" else None
        begin = pads[:rank] if pads else (0,) * rank
    end = tuple(n - b for n, b in zip(needed, begin, strict=True))
    pads = call.integers("pads") if auto == "NOTSET" else None
    declared = (pads[rank:] if pads else (0,) * rank) if auto in ("NOTSET", "VALID") else end
    return Window(tuple(kernel), tuple(strides), tuple(dilations), begin, end, declared)


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
    begin, end = _transpose_borders(call, strides, dilations)

    def run(x: Tensor, w: Tensor, b: Tensor | None = None) -> Tensor:
        whole = function(x, w, None, strides, 0, 0, group, dilations)
        result = pad_spatial(whole, begin, end)
        return result if b is None else result + b.reshape(-1, *(1,) * rank)

    return rounded(call, run)


def _transpose_borders(
    call: Call, strides: Sequence[int], dilations: Sequence[int]
) -> tuple[list[int], list[int]]:
    """What to add before and after each axis of the unpadded result (negative: crop).

    The output's extent is the graph's; the operator's page gives the split of the padding.
    """
    kernel, outputs = call.shape(1)[2:], call.out().shape[2:]
    full = [s * (i - 1) + (k - 1) * d + 1 for s, i, k, d in
            zip(strides, call.shape(0)[2:], kernel, dilations, strict=True)]
    auto, pads = call.text("auto_pad", "NOTSET"), call.integers("pads")
    extra = call.integers("output_padding") or (0,) * len(kernel)
    if auto == "NOTSET" and call.integers("output_shape") is None:
        begin = [-p for p in pads[:len(kernel)]] if pads else [0] * len(kernel)
    else:
        total = [f + e - o for f, e, o in zip(full, extra, outputs, strict=True)]
        begin = [-(t // 2 if auto == "SAME_UPPER" else t - t // 2) for t in total]
    return begin, [o - f - b for o, f, b in zip(outputs, full, begin, strict=True)]

