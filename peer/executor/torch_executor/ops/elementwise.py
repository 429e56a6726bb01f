"""Element-wise operators, with ONNX broadcasting (which is numpy's and torch's)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import reduce
from math import inf
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from ir.graph import STORED_FLOATS, STORED_INTEGERS
from ir.semantics.conversion import convert
from ir.semantics.draws import keep_mask
from ir.semantics.dropout import dropout_ratio
from peer.executor.torch_executor.backend import TorchBackend
from peer.executor.torch_executor.table import Call, Runner, operator

_UNARY: Mapping[str, Callable[[Tensor], Tensor]] = {
    "Abs": torch.abs, "Acos": torch.acos, "Acosh": torch.acosh, "Asin": torch.asin,
    "Asinh": torch.asinh, "Atan": torch.atan, "Atanh": torch.atanh, "Ceil": torch.ceil,
    "Cos": torch.cos, "Cosh": torch.cosh, "Erf": torch.erf, "Exp": torch.exp,
    "Floor": torch.floor, "HardSwish": F.hardswish, "Log": torch.log,
    "Mish": F.mish, "Neg": torch.neg, "Not": torch.logical_not, "Reciprocal": torch.reciprocal,
    "Relu": torch.relu, "Round": torch.round, "Sigmoid": torch.sigmoid, "Sign": torch.sign,
    "Silu": F.silu, "Sin": torch.sin, "Sinh": torch.sinh, "Softplus": F.softplus,
    "Softsign": F.softsign, "Sqrt": torch.sqrt, "Tan": torch.tan, "Tanh": torch.tanh,
}
_BINARY: Mapping[str, Callable[[Tensor, Tensor], Tensor]] = {
    "Add": torch.add, "Sub": torch.sub, "Mul": torch.mul,
    "And": torch.logical_and, "Or": torch.logical_or, "Xor": torch.logical_xor,
    "Equal": torch.eq, "Greater": torch.gt, "GreaterOrEqual": torch.ge, "Less": torch.lt,
    "LessOrEqual": torch.le,
}
_COMPOSED = frozenset({"Softsign", "Reciprocal"})
"""Those whose torch function may be several autograd steps: their input counts as used often."""
_WIDER: Mapping[torch.dtype, torch.dtype] = {
    torch.uint16: torch.int64, torch.uint32: torch.int64, torch.uint64: torch.int64}
"""torch stores but hardly computes with wide unsigned integers; results wrap the same way."""


def _plain(function: Callable[..., Tensor]) -> Callable[[Call], Runner]:
    def build(call: Call) -> Runner:
        wide = _WIDER.get(call.dtype(0))
        if wide is None:
            return function
        dtype = call.out_dtype()
        return lambda *values: function(*(value.to(wide) for value in values)).to(dtype)

    return build


for _name, _unary in _UNARY.items():
    operator(_name, once=_name not in _COMPOSED, dense=True)(_plain(_unary))
for _name, _binary in _BINARY.items():
    operator(_name, once=True, dense=True)(_plain(_binary))


@operator("Div", once=True, dense=True)
def _div(call: Call) -> Runner:
    if call.dtype(0).is_floating_point:
        return torch.div
    return _plain(lambda a, b: torch.div(a, b, rounding_mode="trunc"))(call)


@operator("Mod", dense=True)
def _mod(call: Call) -> Runner:
    return _plain(torch.fmod if call.integer("fmod", 0) else torch.remainder)(call)


@operator("Pow", dense=True)
def _pow(call: Call) -> Runner:
    dtype = call.out_dtype()
    exponent = call.constants[1]
    if exponent is not None and exponent.size == 1 and dtype.is_floating_point:
        power = float(exponent.reshape(()))
        if call.out().shape == call.shape(0):
            # The usual x ** 2: a Python exponent takes the kernel that multiplies.
            return lambda x, _: torch.pow(x, power)
    wide = _WIDER.get(call.dtype(1), call.dtype(1))
    return lambda x, y: torch.pow(x, y.to(wide)).to(dtype)


def _fold(function: Callable[[Tensor, Tensor], Tensor]) -> Callable[[Call], Runner]:
    def build(call: Call) -> Runner:
        shape = call.out().shape
        pair = _plain(function)(call)
        return lambda *values: reduce(pair, values[1:], values[0].expand(shape))

    return build


operator("Sum", dense=True)(_fold(torch.add))
operator("Max")(_fold(torch.maximum))
operator("Min")(_fold(torch.minimum))


@operator("Mean")
def _mean(call: Call) -> Runner:
    count, shape = len(call.inputs), call.out().shape
    return lambda *values: reduce(torch.add, values[1:], values[0].expand(shape)) / count


@operator("Clip", dense=True)
def _clip(call: Call) -> Runner:
    wide, dtype = _WIDER.get(call.dtype(0)), call.dtype(0)

    def run(x: Tensor, low: Tensor | None = None, high: Tensor | None = None) -> Tensor:
        if low is None and high is None:
            return x.view_as(x)
        if wide is None:
            return torch.clamp(x, min=low, max=high)
        limits = (None if limit is None else limit.to(wide) for limit in (low, high))
        return torch.clamp(x.to(wide), *limits).to(dtype)

    return run


@operator("Where", once=True, dense=True)
def _where(call: Call) -> Runner:
    return torch.where


@operator("LeakyRelu", once=True, dense=True)
def _leaky_relu(call: Call) -> Runner:
    alpha = call.number("alpha", 0.01)
    return lambda x: F.leaky_relu(x, alpha)


@operator("Elu", once=True, dense=True)
def _elu(call: Call) -> Runner:
    alpha = call.number("alpha", 1.0)
    return lambda x: F.elu(x, alpha)


@operator("Celu", dense=True)
def _celu(call: Call) -> Runner:
    alpha = call.number("alpha", 1.0)
    return lambda x: F.celu(x, alpha)


@operator("Selu", dense=True)
def _selu(call: Call) -> Runner:
    alpha = call.number("alpha", 1.6732632423543772)
    gamma = call.number("gamma", 1.0507009873554805)
    return lambda x: gamma * F.elu(x, alpha)


@operator("Gelu", once=True, dense=True)
def _gelu(call: Call) -> Runner:
    approximate = call.text("approximate", "none")
    return lambda x: F.gelu(x, approximate=approximate)


@operator("HardSigmoid", dense=True)
def _hard_sigmoid(call: Call) -> Runner:
    alpha, beta = call.number("alpha", 0.2), call.number("beta", 0.5)
    return lambda x: torch.clamp(x * alpha + beta, 0.0, 1.0)


@operator("ThresholdedRelu", once=True, dense=True)
def _thresholded_relu(call: Call) -> Runner:
    alpha = call.number("alpha", 1.0)
    return lambda x: F.threshold(x, alpha, 0.0)


@operator("PRelu", dense=True)
def _prelu(call: Call) -> Runner:
    if not call.dtype(0).is_floating_point:
        return lambda x, slope: _plain(torch.mul)(call)(
            x, torch.where(x.to(torch.int64) < 0, slope, torch.ones_like(slope)))
    return lambda x, slope: torch.where(x < 0, x * slope, x)


def _widened(x: Tensor) -> Tensor:
    """Torch compares no floats of 8 bits; float32 holds them all."""
    return x.to(torch.float32) if x.itemsize == 1 else x


@operator("IsNaN")
def _is_nan(call: Call) -> Runner:
    return lambda x: torch.isnan(_widened(x))


@operator("IsInf")
def _is_inf(call: Call) -> Runner:
    wanted = [value for name, value in (("detect_positive", inf), ("detect_negative", -inf))
              if call.integer(name, 1)]

    def run(x: Tensor) -> Tensor:
        x = _widened(x)
        hits = [x == value for value in wanted]
        return reduce(torch.logical_or, hits, torch.zeros_like(x, dtype=torch.bool))

    return run


@operator("Identity", moves=True, once=True)
def _identity(call: Call) -> Runner:
    return lambda x: x.view_as(x)


@operator("Cast", "CastLike", moves=True, once=True)
def _cast(call: Call) -> Runner:
    source, target, dtype = call.type(0).dtype, call.out().dtype, call.out_dtype()
    if source == target:
        # Never the input itself: each node's result must be a value of its own (docs/adr/0008).
        return lambda x, *_: x.view_as(x)
    if (STORED_FLOATS | STORED_INTEGERS).isdisjoint((source, target)):
        return lambda x, *_: x.to(dtype)
    backend, saturate = TorchBackend(call.device), bool(call.integer("saturate", 1))
    rounding = call.text("round_mode", "up")
    return lambda x, *_: convert(
        backend, x, source, target, saturate=saturate, rounding=rounding)


@operator("Dropout", host=(1, 2), once=True, dense=True)
def _dropout(call: Call) -> Runner:
    ratio = dropout_ratio(replace(call, training=True))
    state, index, shape = call.state, call.node.index, call.shape(0)
    scale = 1.0 / (1.0 - ratio) if ratio < 1.0 else 0.0
    masked = call.wants(1)

    def run(x: Tensor, *_: Any) -> Any:
        if not (ratio and state.training):
            kept = torch.ones(shape, dtype=torch.bool, device=x.device) if masked else None
            return (x.view_as(x), kept) if masked else x.view_as(x)
        kept = torch.from_numpy(keep_mask(state.key(index), shape, ratio)).to(x.device)
        result = x * (kept.to(x.dtype) * scale)
        return (result, kept) if masked else result

    return run
