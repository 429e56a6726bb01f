"""Element-wise operators, with ONNX broadcasting (which is the Array API's)."""

from __future__ import annotations

from collections.abc import Mapping

from ir.semantics.backend import Backend
from ir.semantics.call import OpCall
from ir.semantics.registry import Builder, Runner, semantics

_SAME_NAME: Mapping[str, str] = {
    "Abs": "abs", "Acos": "acos", "Acosh": "acosh", "Asin": "asin", "Asinh": "asinh",
    "Atan": "atan", "Atanh": "atanh", "Ceil": "ceil", "Cos": "cos", "Cosh": "cosh", "Exp": "exp",
    "Floor": "floor", "IsNaN": "isnan", "Log": "log", "Neg": "negative", "Not": "logical_not",
    "Round": "round", "Sign": "sign", "Sin": "sin", "Sinh": "sinh", "Sqrt": "sqrt", "Tan": "tan",
    "Tanh": "tanh", "Add": "add", "Sub": "subtract", "Mul": "multiply", "And": "logical_and",
    "Or": "logical_or", "Xor": "logical_xor", "Equal": "equal", "Greater": "greater",
    "GreaterOrEqual": "greater_equal", "Less": "less", "LessOrEqual": "less_equal",
}
"""Operators that the standard has under another name."""


def _standard(function: str) -> Builder:
    def build(call: OpCall, backend: Backend) -> Runner:
        run: Runner = getattr(backend.xp, function)
        return run

    return build


for _name, _function in _SAME_NAME.items():
    semantics(_name)(_standard(_function))


@semantics("Erf")
def _erf(call: OpCall, backend: Backend) -> Runner:
    return backend.erf
