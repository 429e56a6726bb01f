"""Normalisations. Short floats are normalised in float32, as `stash_type` 1 says."""

from __future__ import annotations

from math import prod
from typing import Any

from ir.semantics.backend import Array, Backend
from ir.semantics.call import SHORT_FLOATS, OpCall
from ir.semantics.registry import Runner, semantics
from ir.semantics.taps import along, powered, safe_root


def _stash(call: OpCall) -> str:
    """Dtype to compute statistics in."""
    dtype = call.type(0).dtype
    return "float32" if dtype in SHORT_FLOATS else dtype


def _centred(
    backend: Backend, x: Array, axes: tuple[int, ...], epsilon: float
) -> tuple[Array, Array, Array]:
    """Normalised values, mean, inverse of the standard deviation."""
    xp = backend.xp
    mean = xp.mean(x, axis=axes, keepdims=True)
    centred = x - mean
    inverse = 1 / xp.sqrt(xp.mean(centred * centred, axis=axes, keepdims=True) + epsilon)
    return centred * inverse, mean, inverse


def _trailing(call: OpCall) -> tuple[int, ...]:
    rank = len(call.shape(0))
    return tuple(range(call.integer("axis", -1) % rank, rank))


@semantics("LayerNormalization")
def _layer_norm(call: OpCall, backend: Backend) -> Runner:
    axes, epsilon, stash = _trailing(call), call.number("epsilon", 1e-5), _stash(call)
    dtype, measured = call.type(0).dtype, call.wants(1) or call.wants(2)
    others = tuple(None if kind is None else kind.dtype for kind in call.outputs[1:])

    def run(x: Array, scale: Array, bias: Array | None = None) -> Any:
        normal, *statistics = _centred(backend, backend.cast(x, stash), axes, epsilon)
        result = normal * backend.cast(scale, stash)
        if bias is not None:
            result = result + backend.cast(bias, stash)
        result = backend.cast(result, dtype)
        if not measured:
            return result
        return (result, *(None if kind is None else backend.cast(value, kind)
                          for value, kind in zip(statistics, others, strict=False)))

    return run


@semantics("RMSNormalization")
def _rms_norm(call: OpCall, backend: Backend) -> Runner:
    xp, axes, epsilon = backend.xp, _trailing(call), call.number("epsilon", 1e-5)
    stash, dtype = _stash(call), call.type(0).dtype

    def run(x: Array, scale: Array) -> Array:
        wide = backend.cast(x, stash)
        size = xp.sqrt(xp.mean(wide * wide, axis=axes, keepdims=True) + epsilon)
        return backend.cast(wide / size * backend.cast(scale, stash), dtype)

    return run


@semantics("GroupNormalization")
def _group_norm(call: OpCall, backend: Backend) -> Runner:
    # Before opset 21 there was one scale per group, not per channel.
    repeats = call.shape(0)[1] // max(prod(call.shape(1)), 1)
    return _grouped(call, backend, call.integer("num_groups", 1), repeats)


@semantics("InstanceNormalization")
def _instance_norm(call: OpCall, backend: Backend) -> Runner:
    return _grouped(call, backend, call.shape(0)[1], 1)


def _grouped(call: OpCall, backend: Backend, groups: int, repeats: int) -> Runner:
    xp, shape, epsilon = backend.xp, call.shape(0), call.number("epsilon", 1e-5)
    stash, dtype = _stash(call), call.type(0).dtype
    grouped = (shape[0], groups, prod(shape[1:]) // groups)
    per_channel = (-1, *(1,) * (len(shape) - 2))

    def spread(value: Array) -> Array:
        every = xp.repeat(value, repeats) if repeats != 1 else value
        return backend.cast(xp.reshape(every, per_channel), stash)

    def run(x: Array, scale: Array, bias: Array) -> Array:
        flat = xp.reshape(backend.cast(x, stash), grouped)
        normal = xp.reshape(_centred(backend, flat, (2,), epsilon)[0], shape)
        return backend.cast(normal * spread(scale) + spread(bias), dtype)

    return run


@semantics("LpNormalization")
def _lp_norm(call: OpCall, backend: Backend) -> Runner:
    xp, axis, power = backend.xp, call.integer("axis", -1), call.integer("p", 2)

    def run(x: Array) -> Array:
        norm = safe_root(
            backend, xp.sum(powered(backend, x, power), axis=axis, keepdims=True), power)
        return x / xp.where(norm == 0, xp.ones_like(norm), norm)

    return run


@semantics("MeanVarianceNormalization")
def _mean_variance(call: OpCall, backend: Backend) -> Runner:
    xp, axes, stash, dtype = backend.xp, call.integers("axes"), _stash(call), call.type(0).dtype
    axes = (0, 2, 3) if axes is None else axes

    def run(x: Array) -> Array:
        wide = backend.cast(x, stash)
        centred = wide - xp.mean(wide, axis=axes, keepdims=True)
        deviation = xp.sqrt(xp.mean(centred * centred, axis=axes, keepdims=True))
        return backend.cast(centred / (deviation + 1e-9), dtype)

    return run


@semantics("Det")
def _det(call: OpCall, backend: Backend) -> Runner:
    stash, dtype = _stash(call), call.type(0).dtype
    return lambda x: backend.cast(backend.xp.linalg.det(backend.cast(x, stash)), dtype)


@semantics("Hardmax")
def _hardmax(call: OpCall, backend: Backend) -> Runner:
    xp, shape = backend.xp, call.shape(0)
    axis = call.integer("axis", -1) % max(len(shape), 1)
    classes = backend.constant(along(axis, len(shape), shape[axis]))
    return lambda x: backend.cast(
        xp.argmax(x, axis=axis, keepdims=True) == classes, call.type(0).dtype)
