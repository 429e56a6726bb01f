"""The closed list of operators that a job may contain, and the facts about each one.

Everything is of the default ONNX domain. The list is data: the checker refuses what is
not here, the cost model reads the class, the differentiator reads `differentiable` and
`inert_inputs`, and every executor must run all of it. docs/operators.md is generated from it by
scripts/operators_doc.py. Arity and attributes follow the ONNX operator reference
(onnx/docs/Operators.md at the last of `OPSETS`), and a test compares them with the `onnx` package.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from ir.graph import Node
from ir.operators import (
    elementwise,
    image,
    neural,
    quantization,
    random,
    recurrent,
    reductions,
    shape_ops,
    signal,
)
from ir.operators.info import OPSET, OPSETS, OpClass, OperatorInfo

__all__ = [
    "FAMILIES", "OPERATORS", "OPSET", "OPSETS", "RANDOM_OPERATORS", "OpClass", "OperatorInfo",
    "misuse", "opset_of"]

_FAMILIES: Mapping[str, Mapping[str, OperatorInfo]] = {
    "Element-wise": elementwise.ELEMENTWISE,
    "Shape, indexing and copies": shape_ops.SHAPE,
    "Reductions": reductions.REDUCTIONS,
    "Neural network": neural.NEURAL,
    "Sequences": recurrent.RECURRENT,
    "Images": image.IMAGE,
    "Signals": signal.SIGNAL,
    "Quantisation": quantization.QUANTIZATION,
    "Random": random.RANDOM,
}

OPERATORS: Mapping[str, OperatorInfo] = MappingProxyType(dict(sorted(
    (name, info) for family in _FAMILIES.values() for name, info in family.items())))
"""op_type -> its facts, in alphabetical order."""

RANDOM_OPERATORS = frozenset(name for name, info in OPERATORS.items() if info.random)
"""Operators that draw: never folded, never computed in more than one segment."""

FAMILIES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {title: tuple(sorted(family)) for title, family in _FAMILIES.items()})
"""Title of a family -> its operators, for documentation."""


def misuse(node: Node) -> str | None:
    """What is wrong with the arity or the attributes of a node, in words; None if nothing.

    Unknown attributes are refused: an executor that ignored one would compute something else.
    """
    info = OPERATORS[node.op_type]
    given, most = len(node.inputs), info.max_inputs
    if given < info.min_inputs or (most is not None and given > most):
        return f"it has {given} inputs; the operator takes {_span(info.min_inputs, most)}"
    if not node.outputs or (info.max_outputs is not None and len(node.outputs) > info.max_outputs):
        return f"it has {len(node.outputs)} outputs; the operator has {_span(1, info.max_outputs)}"
    if most is None and "" in node.inputs:
        return "an input is left out, but all inputs of this operator are required"
    for position in range(info.min_inputs):
        if not node.inputs[position]:
            return f"input {position} is left out, but it is required"
    for name in info.required:
        if name not in node.attributes:
            return f"attribute '{name}' is missing"
    for name in sorted(node.attributes):
        if name not in info.required and name not in info.optional:
            return f"attribute '{name}' is not one of this operator's"
    return None


def opset_of(node: Node) -> int:
    """First version of the default domain, `OPSET` or newer, that has all that a node uses."""
    info = OPERATORS[node.op_type]
    used = (*node.attributes, *(f"input {at}" for at, name in enumerate(node.inputs) if name))
    return max(info.since, *(info.newer.get(part, OPSET) for part in used), OPSET)


def _span(least: int, most: int | None) -> str:
    if most is None:
        return f"{least} or more"
    return str(least) if least == most else f"{least} to {most}"
