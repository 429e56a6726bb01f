"""Operators that move, repeat or drop elements without computing with them."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from peer.executor.torch_executor.table import Call, Runner, operator


@operator("Reshape", "Flatten", "Squeeze", "Unsqueeze", host=(1,), moves=True, once=True)
def _reshape(call: Call) -> Runner:
    # All shape rules (0, -1, allowzero, axes) were applied when the graph's types were inferred.
    shape = call.out().shape
    return lambda x, *_: x.reshape(shape)


@operator("Transpose", moves=True, once=True)
def _transpose(call: Call) -> Runner:
    order = call.integers("perm") or tuple(reversed(range(len(call.shape(0)))))
    return lambda x: x.permute(order)


@operator("Concat", moves=True, once=True)
def _concat(call: Call) -> Runner:
    axis = call.integer("axis", 0)
    return lambda *values: torch.cat(values, axis)


@operator("Split", host=(1,), moves=True, once=True)
def _split(call: Call) -> Runner:
    axis = call.integer("axis", 0)
    declared = call.host_ints(1, "split")
    if declared is None:
        extent, parts = call.shape(0)[axis], len(call.node.outputs)
        size = -(-extent // parts)
        declared = [min(size, extent - size * part) for part in range(parts)]
    return lambda x, *_: torch.split(x, declared, axis)


@operator("Slice", host=(1, 2, 3, 4), moves=True, once=True)
def _slice(call: Call) -> Runner:
    starts, ends = call.host_ints(1, "starts") or [], call.host_ints(2, "ends") or []
    axes = call.host_ints(3, "axes")
    axes = list(range(len(starts))) if axes is None else axes
    steps = call.host_ints(4) or [1] * len(starts)
    shape = call.shape(0)
    index, flips = [slice(None)] * len(shape), []
    for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
        picked = range(shape[axis])[slice(start, end, step)]
        if step < 0:
            flips.append(axis % len(shape))
            picked = picked[::-1]
        stop = picked[-1] + 1 if picked else picked.start
        index[axis] = slice(picked.start if picked else 0, stop if picked else 0, abs(step))
    key = tuple(index)
    if flips:
        return lambda x, *_: torch.flip(x[key], flips)
    return lambda x, *_: x[key]


@operator("Expand", host=(1,), strided=True, once=True)
def _expand(call: Call) -> Runner:
    shape = call.out().shape
    return lambda x, *_: x.expand(shape)


@operator("Tile", host=(1,), strided=True, once=True)
def _tile(call: Call) -> Runner:
    repeats = call.host_ints(1) or []
    if not repeats:
        return lambda x, *_: x.view_as(x)
    return lambda x, *_: x.repeat(*repeats)


@operator("Pad", host=(1, 2, 3))
def _pad(call: Call) -> Runner:
    rank, mode = len(call.shape(0)), call.text("mode", "constant")
    pads, axes = call.host_ints(1, "pads") or [], call.host_ints(3)
    axes = list(range(rank)) if axes is None else [axis % rank for axis in axes]
    borders = [(0, 0)] * rank
    for position, axis in enumerate(axes):
        borders[axis] = (pads[position], pads[position + len(axes)])
    if mode != "constant":
        return _pad_by_index(call, borders, mode)
    fill = call.host_number(2, 0)
    amounts = [n for pair in reversed(borders) for n in pair]
    if not any(amounts):
        return lambda x, *_: x.view_as(x)
    return lambda x, *_: F.pad(x, amounts, value=fill)


def _pad_by_index(call: Call, borders: list[tuple[int, int]], mode: str) -> Runner:
    """Reflect, edge and wrap on any axes: numpy says which element each position repeats."""
    picks: list[tuple[int, Tensor]] = []
    for axis, (begin, end) in enumerate(borders):
        if begin or end:
            extent = call.shape(0)[axis]
            kept = np.arange(extent)[max(-begin, 0):extent - max(-end, 0)]
            positions = np.pad(kept, (max(begin, 0), max(end, 0)), mode=mode)  # type: ignore[call-overload]
            picks.append((axis, torch.from_numpy(positions).to(call.device)))

    def run(x: Tensor, *_: Any) -> Tensor:
        result = x.view_as(x)
        for axis, positions in picks:
            result = result.index_select(axis, positions.to(x.device))
        return result

    return run


@operator("Trilu", host=(1,), once=True, dense=True)
def _trilu(call: Call) -> Runner:
    diagonal = int(call.host_number(1, 0))
    function = torch.triu if call.integer("upper", 1) else torch.tril
    return lambda x, *_: function(x, diagonal)


@operator("DepthToSpace", moves=True, once=True)
def _depth_to_space(call: Call) -> Runner:
    batch, channels, height, width = call.shape(0)
    block, shape = call.integer("blocksize", 1), call.out().shape
    depth = channels // block**2
    if call.text("mode", "DCR") == "DCR":
        split, order = (batch, block, block, depth, height, width), (0, 3, 4, 1, 5, 2)
    else:
        split, order = (batch, depth, block, block, height, width), (0, 1, 4, 2, 5, 3)
    return lambda x: x.reshape(split).permute(order).reshape(shape)


@operator("SpaceToDepth", moves=True, once=True)
def _space_to_depth(call: Call) -> Runner:
    batch, channels, height, width = call.shape(0)
    block, shape = call.integer("blocksize", 1), call.out().shape
    split = (batch, channels, height // block, block, width // block, block)
    order = (0, 3, 5, 1, 2, 4) if call.text("mode", "DCR") == "DCR" else (0, 1, 3, 5, 2, 4)
    return lambda x: x.reshape(split).permute(order).reshape(shape)
