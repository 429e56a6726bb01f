"""Activation functions. Gradients at a kink are torch's: that of the left side."""

from __future__ import annotations

from collections.abc import Callable
from math import pi, sqrt
from typing import Any

from ir.graph import FLOATS
from ir.semantics.backend import Array, Backend
from ir.semantics.call import SHORT_FLOATS, OpCall
from ir.semantics.registry import Builder, Runner, semantics

_TANH_GELU_CUBE = 0.044715
"""Factor of x**3 in the tanh form (Hendrycks & Gimpel 2016, arXiv:1606.08415, section 2)."""


def sigmoid(xp: Any, x: Array) -> Array:
    """Logistic function, without overflow on either side."""
    return xp.exp(_not_above_zero(xp, x)) / (1 + xp.exp(-xp.abs(x)))


def softplus(xp: Any, x: Array) -> Array:
    """log(1 + exp(x)), without overflow."""
    return xp.maximum(x, xp.zeros_like(x)) + xp.log1p(xp.exp(-xp.abs(x)))


def _not_above_zero(xp: Any, x: Array) -> Array:
    return xp.minimum(x, xp.zeros_like(x))


def _within_unit(xp: Any, x: Array) -> Array:
    return xp.where(x < 0, xp.zeros_like(x), xp.where(x > 1, xp.ones_like(x), x))


def _elu(xp: Any, x: Array, alpha: float, width: float = 1.0) -> Array:
    """`x` above zero, `alpha * (exp(x / width) - 1)` below."""
    below = xp.where(x > 0, xp.zeros_like(x), x)
    return xp.where(x > 0, x, alpha * xp.expm1(below / width))


def _activation(name: str) -> Callable[[Builder], Builder]:
    """Register a builder that computes short floats in float32."""

    def register(build: Builder) -> Builder:
        def build_wide(call: OpCall, backend: Backend) -> Runner:
            run, dtype = build(call, backend), call.type(0).dtype
            if dtype not in SHORT_FLOATS:
                return run
            return lambda *values: backend.cast(
                run(*(backend.cast(value, "float32") for value in values)), dtype)

        return semantics(name)(build_wide)

    return register


@semantics("Relu")
def _relu(call: OpCall, backend: Backend) -> Runner:
    xp = backend.xp
    return lambda x: xp.where(x <= 0, xp.zeros_like(x), x)


@_activation("LeakyRelu")
def _leaky_relu(call: OpCall, backend: Backend) -> Runner:
    xp, alpha = backend.xp, call.number("alpha", 0.01)
    return lambda x: xp.where(x > 0, x, x * alpha)


@semantics("PRelu")
def _prelu(call: OpCall, backend: Backend) -> Runner:
    xp = backend.xp
    return lambda x, slope: xp.where(x < 0, x * slope, x)


@_activation("ThresholdedRelu")
def _thresholded_relu(call: OpCall, backend: Backend) -> Runner:
    xp, alpha = backend.xp, call.number("alpha", 1.0)
    return lambda x: xp.where(x > alpha, x, xp.zeros_like(x))


@_activation("Elu")
def _elu_node(call: OpCall, backend: Backend) -> Runner:
    xp, alpha = backend.xp, call.number("alpha", 1.0)
    return lambda x: _elu(xp, x, alpha)


@_activation("Celu")
def _celu(call: OpCall, backend: Backend) -> Runner:
    xp, alpha = backend.xp, call.number("alpha", 1.0)
    return lambda x: _elu(xp, x, alpha, alpha)


@_activation("Selu")
def _selu(call: OpCall, backend: Backend) -> Runner:
    xp = backend.xp
    alpha = call.number("alpha", 1.6732632423543772)
    gamma = call.number("gamma", 1.0507009873554805)
    return lambda x: gamma * _elu(xp, x, alpha)


@_activation("Gelu")
def _gelu(call: OpCall, backend: Backend) -> Runner:
    xp = backend.xp
    if call.text("approximate", "none") == "none":
        return lambda x: 0.5 * x * (1 + backend.erf(x * sqrt(0.5)))
    return lambda x: 0.5 * x * (
        1 + xp.tanh(sqrt(2 / pi) * (x + _TANH_GELU_CUBE * (x * x * x))))


@_activation("HardSigmoid")
def _hard_sigmoid(call: OpCall, backend: Backend) -> Runner:
    xp, alpha, beta = backend.xp, call.number("alpha", 0.2), call.number("beta", 0.5)
    return lambda x: _within_unit(xp, x * alpha + beta)


@_activation("HardSwish")
def _hard_swish(call: OpCall, backend: Backend) -> Runner:
    xp = backend.xp
    return lambda x: x * _within_unit(xp, x / 6 + 0.5)


@_activation("Mish")
def _mish(call: OpCall, backend: Backend) -> Runner:
    xp = backend.xp
    return lambda x: x * xp.tanh(softplus(xp, x))


@_activation("Sigmoid")
def _sigmoid(call: OpCall, backend: Backend) -> Runner:
    xp = backend.xp
    return lambda x: sigmoid(xp, x)


@_activation("Softplus")
def _softplus(call: OpCall, backend: Backend) -> Runner:
    xp = backend.xp
    return lambda x: softplus(xp, x)


@_activation("Softsign")
def _softsign(call: OpCall, backend: Backend) -> Runner:
    xp = backend.xp
    return lambda x: x / (1 + xp.abs(x))


@_activation("Swish")
def _swish(call: OpCall, backend: Backend) -> Runner:
    xp, alpha = backend.xp, call.number("alpha", 1.0)
    return lambda x: x * sigmoid(xp, alpha * x)


@_activation("SwiGLU")
def _swiglu(call: OpCall, backend: Backend) -> Runner:
    xp, alpha = backend.xp, call.number("alpha", 1.0)
    return lambda gate, x: gate * sigmoid(xp, alpha * gate) * x


@semantics("Shrink")
def _shrink(call: OpCall, backend: Backend) -> Runner:
    xp, bias, limit = backend.xp, call.number("bias", 0.0), call.number("lambd", 0.5)
    dtype = call.type(0).dtype
    stash = dtype if dtype in FLOATS else "float64"

    def run(x: Array) -> Array:
        wide = backend.cast(x, stash)
        outer = xp.where(wide < 0, wide + bias, wide - bias)
        kept = xp.where(xp.abs(wide) > limit, outer, xp.zeros_like(wide))
        return backend.cast(kept, dtype)

    return run
