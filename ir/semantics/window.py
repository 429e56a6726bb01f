"""Geometry of sliding windows: convolutions, their transposes, and pooling."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product

from ir.semantics.call import OpCall


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
        counts: number of windows.
    """

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    begin: tuple[int, ...]
    end: tuple[int, ...]
    declared_end: tuple[int, ...]
    counts: tuple[int, ...]

    @property
    def symmetric(self) -> bool:
        """Whether as much is added before as after."""
        return self.begin == self.end

    def taps(self) -> Iterator[tuple[tuple[int, ...], tuple[slice, ...]]]:
        """Each place in the window, and what it meets in the padded input, one per window."""
        for place in product(*map(range, self.kernel)):
            starts = [at * d for at, d in zip(place, self.dilations, strict=True)]
            yield place, tuple(
                slice(start, start + (count - 1) * stride + 1, stride)
                for start, count, stride in zip(starts, self.counts, self.strides, strict=True))


def window(call: OpCall, kernel: Sequence[int]) -> Window:
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
    return Window(tuple(kernel), tuple(strides), tuple(dilations), begin, end, declared, outputs)


def transpose_borders(
    call: OpCall, strides: Sequence[int], dilations: Sequence[int]
) -> tuple[list[int], list[int]]:
    """What to add before and after each axis of an unpadded transposed convolution.

    Negative: crop. The output's extent is the graph's; the operator's page gives the split of the
    padding.
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
