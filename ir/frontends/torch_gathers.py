"""Operators whose sizes follow from data, written out with fixed sizes and gathers. All exact.

The exporter knows no `masked_scatter` (image features into a text) and no grouped matrix product
(tokens to their experts); each has a form in which only indices depend on data.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor


def masked_scatter(target: Tensor, mask: Tensor, source: Tensor) -> Tensor:
    """`aten.masked_scatter`: the n-th true element of the mask takes the n-th element of `source`.

    Args:
        target: any shape.
        mask: booleans, broadcast to the shape of `target`.
        source: any shape, with at least as many elements as the mask has true ones. Natively fewer
            are an error; here the last element is repeated, because a graph cannot refuse data.

    Where the mask is the same along the last axis, whole rows are moved: `rows` indices instead of
    one per element.
    """
    width = target.shape[-1] if target.ndim and mask.ndim else 1
    by_row = mask.ndim == target.ndim and target.ndim > 0 and mask.shape[-1] == 1 and width > 1
    if by_row and source.numel() % width == 0:
        chosen = mask.expand(*target.shape[:-1], 1)
        rows = source.reshape(-1, width)
    else:
        chosen = mask.expand(target.shape)
        rows = source.reshape(-1)
    order = chosen.reshape(-1).to(torch.int64).cumsum(0) - 1
    picked = rows.index_select(0, order.clamp(0, rows.shape[0] - 1)).reshape(target.shape)
    return torch.where(chosen, picked, target)


def grouped_mm(rows: Tensor, weights: Tensor, ends: Tensor) -> Tensor:
    """Multiply each group of consecutive rows with a matrix of its own.

    Args:
        rows: [S, I]; group g is the rows from `ends[g - 1]` (0 for the first) to `ends[g]`.
        weights: [G, I, O], floats.
        ends: [G], ascending integers, at most S. Rows beyond the last end give zeros.

    Returns:
        [S, O].

    Groups are cut into blocks of B = ceil(S / G) rows; however they are filled, N = (S + G (B - 1))
    // B <= 2 G blocks are enough. One batched product over the blocks costs at most twice the
    multiplications of the groups, and a copy of at most twice the weights.
    """
    samples, groups = rows.shape[0], weights.shape[0]
    size = -(-samples // groups)
    blocks = (samples + groups * (size - 1)) // size
    ends = ends.to(torch.int64)
    starts = torch.cat([ends.new_zeros(1), ends[:-1]])
    block_ends = ((ends - starts + (size - 1)) // size).cumsum(0)
    block_starts = torch.cat([block_ends.new_zeros(1), block_ends[:-1]])

    of_block = _group(torch.arange(blocks, device=rows.device), block_ends)
    place = torch.arange(blocks * size, device=rows.device).reshape(blocks, size)
    first = (starts - block_starts * size).index_select(0, of_block)
    source = (first.unsqueeze(1) + place).clamp(0, samples - 1).reshape(-1)
    inputs = rows.index_select(0, source).reshape(blocks, size, rows.shape[1])
    products = (inputs @ weights.index_select(0, of_block)).reshape(-1, weights.shape[2])

    number = torch.arange(samples, device=rows.device)
    of_row = _group(number, ends)
    shift = (block_starts * size - starts).index_select(0, of_row)
    result = products.index_select(0, number + shift)
    return torch.where((number < ends[-1]).unsqueeze(1), result, 0.0)


def _group(numbers: Tensor, ends: Tensor) -> Tensor:
    """The group that each number lies in; the last one for those beyond the last end."""
    passed = (numbers.unsqueeze(1) >= ends).to(torch.int64).sum(1)
    return passed.clamp(max=ends.shape[0] - 1)


def aten_grouped_mm(
    rows: Tensor,
    weights: Tensor,
    offs: Tensor | None = None,
    bias: Tensor | None = None,
    out_dtype: torch.dtype | None = None,
) -> Tensor:
    """`aten._grouped_mm` of rows [S, I] and weights [G, I, O], or NotImplemented for others."""
    if rows.ndim != 2 or weights.ndim != 3 or offs is None or bias is not None:
        return NotImplemented
    result = grouped_mm(rows, weights, offs)
    return result if out_dtype is None else result.to(out_dtype)


def histogram(values: Tensor, bins: int = 100, min: float = 0, max: float = 0) -> Tensor:
    """`aten.histc` between two different bounds, or NotImplemented: they would follow from data.

    Args:
        values: any shape; those outside of [min, max] do not count.
        bins: number of bins of equal width; the last one contains its upper bound.
        min: lower bound of the first bin.
        max: upper bound of the last bin.
    """
    if min >= max:
        return NotImplemented
    flat = values.reshape(-1)
    inside = (flat >= min) & (flat <= max)
    bin_of = ((flat - min) * bins / (max - min)).floor().clamp(0, bins - 1)
    numbers = torch.arange(bins, device=values.device, dtype=values.dtype)
    counted = (bin_of.unsqueeze(1) == numbers) & inside.unsqueeze(1)
    return counted.to(values.dtype).sum(0)


def gathers() -> Mapping[Any, Callable[..., Any]]:
    """Operator -> its form here, for those that are registered in this process."""
    table: dict[Any, Callable[..., Any]] = {
        torch.ops.aten.masked_scatter.default: masked_scatter,
        torch.ops.aten._grouped_mm.default: aten_grouped_mm,
        torch.ops.aten.histc.default: histogram,
    }
    if hasattr(torch.ops.transformers, "grouped_mm_fallback"):
        table[torch.ops.transformers.grouped_mm_fallback.default] = grouped_mm
    return table
