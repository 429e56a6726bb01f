"""Reductions over axes, and the softmax family."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from ir.graph import FLOATS
from ir.semantics.backend import Array, Backend
from ir.semantics.call import OpCall
from ir.semantics.registry import Runner, semantics

Axes = tuple[int, ...]
Reduce = Callable[[Backend, Array, Axes, bool], Array]


def log_softmax(backend: Backend, x: Array, axis: int) -> Array:
    """Logarithm of softmax along an axis."""
    xp = backend.xp
    lowered = x - backend.detach(xp.max(x, axis=axis, keepdims=True))
    return lowered - xp.log(xp.sum(xp.exp(lowered), axis=axis, keepdims=True, dtype=x.dtype))


def _softmax(backend: Backend, x: Array, axis: int) -> Array:
    xp = backend.xp
    powers = xp.exp(x - backend.detach(xp.max(x, axis=axis, keepdims=True)))
    return powers / xp.sum(powers, axis=axis, keepdims=True, dtype=x.dtype)


def _sum(backend: Backend, x: Array, axes: Axes, keep: bool) -> Array:
    return backend.xp.sum(x, axis=axes, keepdims=keep, dtype=x.dtype)


def _mean(backend: Backend, x: Array, axes: Axes, keep: bool) -> Array:
    return backend.xp.mean(x, axis=axes, keepdims=keep)


def _product(backend: Backend, x: Array, axes: Axes, keep: bool) -> Array:
    for axis in sorted(axes, reverse=True):
        x = backend.xp.prod(x, axis=axis, keepdims=keep, dtype=x.dtype)
    return x


def _sum_of_sizes(backend: Backend, x: Array, axes: Axes, keep: bool) -> Array:
    return _sum(backend, backend.xp.abs(x), axes, keep)


def _sum_of_squares(backend: Backend, x: Array, axes: Axes, keep: bool) -> Array:
    return _sum(backend, x * x, axes, keep)


def _root_of_squares(backend: Backend, x: Array, axes: Axes, keep: bool) -> Array:
    """Norm; its gradient at zero is zero."""
    xp, squares = backend.xp, _sum_of_squares(backend, x, axes, keep)
    is_zero = squares == 0
    root = xp.sqrt(xp.where(is_zero, xp.ones_like(squares), squares))
    return xp.where(is_zero, xp.zeros_like(root), root)


def _log_of_sum(backend: Backend, x: Array, axes: Axes, keep: bool) -> Array:
    return backend.xp.log(_sum(backend, x, axes, keep))


def _log_sum_exp(backend: Backend, x: Array, axes: Axes, keep: bool) -> Array:
    xp = backend.xp
    if any(x.shape[axis] == 0 for axis in axes):
        return _log_of_sum(backend, x, axes, keep)
    top = backend.detach(xp.max(x, axis=axes, keepdims=True))
    top = xp.where(xp.isfinite(top), top, xp.zeros_like(top))
    result = xp.log(xp.sum(xp.exp(x - top), axis=axes, keepdims=True, dtype=x.dtype)) + top
    return result if keep else xp.squeeze(result, axis=axes)


_ROUNDED: Mapping[str, Reduce] = {
    "ReduceL2": _root_of_squares, "ReduceLogSum": _log_of_sum, "ReduceLogSumExp": _log_sum_exp,
    "ReduceMean": _mean,
}
"""Reductions that are computed in float64 where the input holds integers."""
_EXACT: Mapping[str, Reduce] = {
    "ReduceL1": _sum_of_sizes, "ReduceProd": _product, "ReduceSum": _sum,
    "ReduceSumSquare": _sum_of_squares,
}


def _axes(call: OpCall) -> Axes:
    """Axes to reduce, empty for none."""
    rank = len(call.shape(0))
    listed = call.host_ints(1, "axes")
    if not listed and not call.integer("noop_with_empty_axes", 0):
        listed = list(range(rank))
    return tuple(axis % rank for axis in listed or ())


@semantics(*_EXACT, *_ROUNDED, host=(1,))
def _reduce(call: OpCall, backend: Backend) -> Runner:
    op_type, axes, keep = call.node.op_type, _axes(call), bool(call.integer("keepdims", 1))
    dtype = call.type(0).dtype
    if not axes:
        return _without_axes(op_type, backend)
    if op_type in _EXACT or dtype in FLOATS:
        function = _EXACT.get(op_type) or _ROUNDED[op_type]
        return lambda x, *_: function(backend, x, axes, keep)
    rounded = _ROUNDED[op_type]
    return lambda x, *_: backend.cast(
        rounded(backend, backend.cast(x, "float64"), axes, keep), dtype)


def _without_axes(op_type: str, backend: Backend) -> Runner:
    """Reduction over no axes: only its element-wise part is left."""
    steps: Mapping[str, Callable[[Array], Array]] = {
        "ReduceL1": backend.xp.abs, "ReduceL2": backend.xp.abs,
        "ReduceSumSquare": lambda x: x * x, "ReduceLogSum": backend.xp.log}
    step = steps.get(op_type)
    return lambda x, *_: x if step is None else step(x)


@semantics("ReduceMax", "ReduceMin", host=(1,))
def _extreme(call: OpCall, backend: Backend) -> Runner:
    xp, axes, keep = backend.xp, _axes(call), bool(call.integer("keepdims", 1))
    largest, kind = call.node.op_type == "ReduceMax", call.out()
    if not axes:
        return lambda x, *_: x
    if call.type(0).elements == 0:
        return lambda *_: xp.full(
            kind.shape, _identity(kind.dtype, largest), dtype=backend.dtype(kind.dtype))
    if kind.dtype == "bool":
        function = xp.any if largest else xp.all
        return lambda x, *_: function(x, axis=axes, keepdims=keep)
    extreme = xp.max if largest else xp.min
    return lambda x, *_: extreme(x, axis=axes, keepdims=keep)


def _identity(dtype: str, largest: bool) -> Any:
    """Extremum of no elements."""
    if dtype in FLOATS:
        return float("-inf") if largest else float("inf")
    if dtype == "bool":
        return not largest
    limits = np.iinfo(dtype)
    return limits.min if largest else limits.max


@semantics("Softmax")
def _softmax_node(call: OpCall, backend: Backend) -> Runner:
    axis = call.integer("axis", -1)
    return lambda x: _softmax(backend, x, axis)


@semantics("LogSoftmax")
def _log_softmax_node(call: OpCall, backend: Backend) -> Runner:
    axis = call.integer("axis", -1)
    return lambda x: log_softmax(backend, x, axis)


@semantics("GlobalAveragePool", "GlobalMaxPool")
def _global_pool(call: OpCall, backend: Backend) -> Runner:
    axes = tuple(range(2, len(call.shape(0))))
    if not axes:
        return lambda x: x
    xp = backend.xp
    function = xp.mean if call.node.op_type == "GlobalAveragePool" else xp.max
    return lambda x: function(x, axis=axes, keepdims=True)
