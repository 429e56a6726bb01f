"""Reading and writing by index, sorting and searching. Negative indices count from the end."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from peer.executor.torch_executor.table import Call, Runner, operator
from peer.executor.torch_executor.tensors import to_torch

_REDUCE = {"add": "sum", "mul": "prod", "max": "amax", "min": "amin"}


def _wrapped(indices: Tensor, extent: int) -> Tensor:
    whole = indices.to(torch.int64)
    return torch.where(whole < 0, whole + extent, whole)


@operator("Gather", once=True)
def _gather(call: Call) -> Runner:
    rank = len(call.shape(0))
    axis = call.integer("axis", 0) % rank
    extent, shape, known = call.shape(0)[axis], call.out().shape, call.constants[1]
    if known is not None and known.ndim == 0:
        position = int(known) % extent
        return lambda x, _: x.select(axis, position)
    if known is not None:
        fixed = _wrapped(to_torch(known, call.device), extent).reshape(-1)
        return lambda x, _: x.index_select(axis, fixed.to(x.device)).reshape(shape)
    if axis == 0 and rank == 2 and call.dtype(0).is_floating_point:
        return lambda x, indices: F.embedding(_wrapped(indices, extent), x)
    return lambda x, indices: x.index_select(
        axis, _wrapped(indices, extent).reshape(-1)).reshape(shape)


@operator("GatherElements", once=True)
def _gather_elements(call: Call) -> Runner:
    axis = call.integer("axis", 0)
    extent = call.shape(0)[axis]
    return lambda x, indices: torch.gather(x, axis, _wrapped(indices, extent))


@operator("GatherND", once=True)
def _gather_nd(call: Call) -> Runner:
    batch, shape = call.integer("batch_dims", 0), call.shape(0)

    def run(x: Tensor, indices: Tensor) -> Tensor:
        return x[_index_tuple(indices, shape, batch)]

    return run


def _index_tuple(indices: Tensor, shape: tuple[int, ...], batch: int) -> tuple[Tensor, ...]:
    """Index tensors for torch's advanced indexing, leading batch axes made explicit."""
    around = indices.dim() - 1
    leading = []
    for axis in range(batch):
        view = [1] * around
        view[axis] = shape[axis]
        leading.append(torch.arange(shape[axis], device=indices.device).reshape(view))
    parts = [_wrapped(part, shape[batch + axis]) for axis, part in enumerate(indices.unbind(-1))]
    return (*leading, *parts)


@operator("ScatterElements")
def _scatter_elements(call: Call) -> Runner:
    axis, reduction = call.integer("axis", 0), call.text("reduction", "none")
    extent = call.shape(0)[axis]
    if reduction == "none":
        return lambda x, indices, updates: x.scatter(axis, _wrapped(indices, extent), updates)
    how = _REDUCE[reduction]
    return lambda x, indices, updates: x.scatter_reduce(
        axis, _wrapped(indices, extent), updates, how, include_self=True)


@operator("ScatterND")
def _scatter_nd(call: Call) -> Runner:
    reduction, shape = call.text("reduction", "none"), call.shape(0)
    if reduction in ("none", "add"):
        return lambda x, indices, updates: x.index_put(
            _index_tuple(indices, shape, 0), updates, accumulate=reduction == "add")
    return _scatter_nd_reduce(shape, _REDUCE[reduction])


def _scatter_nd_reduce(shape: tuple[int, ...], how: str) -> Runner:
    """Write slices with a product or extremum: rows of a matrix, one per index tuple."""

    def run(x: Tensor, indices: Tensor, updates: Tensor) -> Tensor:
        depth = indices.shape[-1]
        row = torch.zeros(indices.shape[:-1], dtype=torch.int64, device=x.device)
        for part, extent in zip(_index_tuple(indices, shape, 0), shape[:depth], strict=True):
            row = row * extent + part
        rows = shape[:depth]
        matrix = x.reshape(torch.Size(rows).numel(), -1)
        values = updates.reshape(row.numel(), -1)
        target = row.reshape(-1, 1).expand_as(values)
        return matrix.scatter_reduce(0, target, values, how, include_self=True).reshape(shape)

    return run


@operator("CumSum", host=(1,))
def _cum_sum(call: Call) -> Runner:
    axis = int(call.host_number(1, 0))
    exclusive, reverse = call.integer("exclusive", 0), call.integer("reverse", 0)
    dtype = call.out_dtype()

    def run(x: Tensor, _: None) -> Tensor:
        source = x.flip(axis) if reverse else x
        result = torch.cumsum(source, axis, dtype=dtype)
        if exclusive:
            shifted = torch.zeros_like(result.narrow(axis, 0, 1))
            result = torch.cat([shifted, result.narrow(axis, 0, x.shape[axis] - 1)], axis)
        return result.flip(axis) if reverse else result

    return run


@operator("TopK", host=(1,))
def _top_k(call: Call) -> Runner:
    axis, largest = call.integer("axis", -1), bool(call.integer("largest", 1))
    kind = call.outputs[0] or call.outputs[1]
    assert kind is not None
    count, wide = kind.shape[axis], call.dtype(0) in (torch.uint16, torch.uint32, torch.uint64)

    def run(x: Tensor, _: None) -> Any:
        # A stable sort, since equal elements must come in order of their index.
        key = x.to(torch.int64) if wide else x
        values, indices = torch.sort(key, dim=axis, descending=largest, stable=True)
        return values.narrow(axis, 0, count).to(x.dtype), indices.narrow(axis, 0, count)

    return run


@operator("ArgMax", "ArgMin")
def _arg_extreme(call: Call) -> Runner:
    axis, keep = call.integer("axis", 0), bool(call.integer("keepdims", 1))
    last, extent = call.integer("select_last_index", 0), call.shape(0)[axis]
    function = torch.argmax if call.node.op_type == "ArgMax" else torch.argmin

    def run(x: Tensor) -> Tensor:
        if not last:
            return function(x, axis, keepdim=keep)
        return extent - 1 - function(x.flip(axis), axis, keepdim=keep)

    return run
