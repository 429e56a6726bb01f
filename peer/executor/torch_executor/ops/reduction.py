"""Reductions over axes, and the softmax family."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from peer.executor.torch_executor.table import Call, Runner, operator

Reduce = Callable[[Tensor, list[int], bool], Tensor]


def _product(x: Tensor, axes: list[int], keep: bool) -> Tensor:
    for axis in sorted(axes, reverse=True):
        x = torch.prod(x, axis, keepdim=keep).to(x.dtype)
    return x


def _sum(x: Tensor, axes: list[int], keep: bool) -> Tensor:
    return torch.sum(x, axes, keepdim=keep, dtype=x.dtype)


def _mean(x: Tensor, axes: list[int], keep: bool) -> Tensor:
    if x.dtype.is_floating_point:
        return torch.mean(x, axes, keepdim=keep)
    return torch.mean(x.to(torch.float64), axes, keepdim=keep).to(x.dtype)


def _extreme(function: Callable[..., Tensor], largest: bool) -> Reduce:
    def run(x: Tensor, axes: list[int], keep: bool) -> Tensor:
        if all(x.shape[axis] for axis in axes):
            return function(x, axes, keepdim=keep)
        empty = _sum(x, axes, keep)
        return torch.full_like(empty, _identity(x.dtype, largest))

    return run


def _identity(dtype: torch.dtype, largest: bool) -> float:
    """Extremum of no elements."""
    if dtype.is_floating_point:
        return float("-inf") if largest else float("inf")
    if dtype == torch.bool:
        return not largest
    limits = torch.iinfo(dtype)
    return limits.min if largest else limits.max


def _square_sum(x: Tensor, axes: list[int], keep: bool) -> Tensor:
    return _sum(x * x, axes, keep)


def _root_of_squares(x: Tensor, axes: list[int], keep: bool) -> Tensor:
    if x.dtype.is_floating_point:
        return torch.linalg.vector_norm(x, 2, axes, keepdim=keep)
    return torch.sqrt(_square_sum(x.double(), axes, keep)).to(x.dtype)


def _log_sum_exp(x: Tensor, axes: list[int], keep: bool) -> Tensor:
    source = x if x.dtype.is_floating_point else x.double()
    return torch.logsumexp(source, axes, keepdim=keep).to(x.dtype)


def _log_sum(x: Tensor, axes: list[int], keep: bool) -> Tensor:
    return torch.log(_sum(x, axes, keep))


_REDUCTIONS: Mapping[str, Reduce] = {
    "ReduceSum": _sum,
    "ReduceMean": _mean,
    "ReduceMax": _extreme(torch.amax, True),
    "ReduceMin": _extreme(torch.amin, False),
    "ReduceProd": _product,
    "ReduceL1": lambda x, axes, keep: _sum(x.abs(), axes, keep),
    "ReduceL2": _root_of_squares,
    "ReduceSumSquare": _square_sum,
    "ReduceLogSum": _log_sum,
    "ReduceLogSumExp": _log_sum_exp,
}


@operator(*_REDUCTIONS, host=(1,))
def _reduce(call: Call) -> Runner:
    function = _REDUCTIONS[call.node.op_type]
    rank, keep = len(call.shape(0)), bool(call.integer("keepdims", 1))
    listed = call.host_ints(1, "axes")
    axes = [axis % rank for axis in listed or ()]
    if not axes:
        if call.integer("noop_with_empty_axes", 0) or rank == 0:
            return _without_axes(call.node.op_type)
        axes = list(range(rank))
    return lambda x, *_: function(x, axes, keep)


def _without_axes(op_type: str) -> Runner:
    """Reduction over no axes: only its element-wise part is left."""
    steps: Mapping[str, Callable[[Tensor], Tensor]] = {
        "ReduceL1": torch.abs, "ReduceL2": torch.abs, "ReduceSumSquare": torch.square,
        "ReduceLogSum": torch.log}
    step = steps.get(op_type)
    return lambda x, *_: x.view_as(x) if step is None else step(x)


@operator("Softmax", once=True, dense=True)
def _softmax(call: Call) -> Runner:
    axis = call.integer("axis", -1)
    return lambda x: torch.softmax(x, axis)


@operator("LogSoftmax", once=True, dense=True)
def _log_softmax(call: Call) -> Runner:
    axis = call.integer("axis", -1)
    return lambda x: torch.log_softmax(x, axis)

