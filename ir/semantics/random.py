"""Operators that draw; the numbers are made on the host, keyed by the job (`draws`)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ir.semantics.backend import Array, Backend
from ir.semantics.call import OpCall
from ir.semantics.draws import DrawKey, normal, uniform
from ir.semantics.registry import Runner, semantics
from ir.tensor_proto import numpy_dtype

Drawn = tuple[npt.NDArray[np.generic], ...]
_BELOW_ONE = np.float32(1 - 2.0**-24)


def _uniform(call: OpCall, key: DrawKey) -> Drawn:
    kind, low, high = call.out(), call.number("low", 0.0), call.number("high", 1.0)
    return ((low + (high - low) * uniform(key, kind.shape)).astype(numpy_dtype(kind.dtype)),)


def _normal(call: OpCall, key: DrawKey) -> Drawn:
    kind, mean, scale = call.out(), call.number("mean", 0.0), call.number("scale", 1.0)
    return ((mean + scale * normal(key, kind.shape)).astype(numpy_dtype(kind.dtype)),)


def _shares(call: OpCall, key: DrawKey) -> Drawn:
    """Uniform float32 below 1, so that what has probability 1 always happens."""
    return (np.minimum(uniform(key, call.out().shape).astype(np.float32), _BELOW_ONE),)


def _given(call: OpCall, backend: Backend) -> Runner:
    return lambda *values: values[-1]


semantics("RandomUniform", "RandomUniformLike", draw=_uniform)(_given)
semantics("RandomNormal", "RandomNormalLike", draw=_normal)(_given)


@semantics("Bernoulli", draw=_shares)
def _bernoulli(call: OpCall, backend: Backend) -> Runner:
    dtype = call.out().dtype
    return lambda p, share: backend.cast(share < backend.cast(p, "float32"), dtype)


@semantics("Multinomial", draw=_shares)
def _multinomial(call: OpCall, backend: Backend) -> Runner:
    xp, classes, dtype = backend.xp, call.shape(0)[1], call.out().dtype

    def run(scores: Array, share: Array) -> Array:
        wide = backend.cast(scores, "float32")
        weights = xp.exp(wide - xp.max(wide, axis=1, keepdims=True))
        reached = xp.cumulative_sum(weights, axis=1)
        wanted = xp.expand_dims(share, axis=2) * xp.expand_dims(reached[:, -1:], axis=2)
        passed = xp.expand_dims(reached, axis=1) <= wanted
        chosen = xp.sum(backend.cast(passed, "int32"), axis=2)
        return backend.cast(xp.clip(chosen, 0, classes - 1), dtype)

    return run
