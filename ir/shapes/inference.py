"""Infer the type of every value of a graph, and values that are known before the run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from homespun.errors import Code, HomespunError
from ir.graph import FLOATS, Graph, Node, TensorType
from ir.operators import OPERATORS, OPSET, misuse
from ir.shapes import (
    convolution,
    elementwise,
    image,
    indexing,
    neural,
    quantization,
    random,
    recurrent,
    reductions,
    shape_ops,
    signal,
)
from ir.shapes.call import Call, Rule, Value
from ir.shapes.host import EXACT, EXACT_FLOATS, TYPED, fold
from ir.shapes.limits import MAX_HOST_ELEMENTS, check_limits, exceeds_limits

RULES: Mapping[str, Rule] = {
    **elementwise.RULES, **shape_ops.RULES, **indexing.RULES, **reductions.RULES, **neural.RULES,
    **convolution.RULES, **image.RULES, **quantization.RULES, **random.RULES, **recurrent.RULES,
    **signal.RULES,
}
"""op_type -> type rule; a test proves that it covers the closed list."""


_INEXACT = FLOATS - EXACT_FLOATS


@dataclass(frozen=True, slots=True)
class Inferred:
    """What inference found.

    Attributes:
        types: type of every value: those given, and each node's outputs.
        values: constants, and values of at most `MAX_HOST_ELEMENTS` elements that depend on no
            data, mostly integers and booleans: the host work of a graph, done.
    """

    types: Mapping[str, TensorType]
    values: Mapping[str, Value]


def infer(
    nodes: Iterable[Node], types: Mapping[str, TensorType], constants: Mapping[str, Value]
) -> Inferred:
    """Infer the types of all nodes' outputs.

    Args:
        nodes: in topological order.
        types: types of inputs and parameters (of constants too, or they are taken from the
            arrays). Types of node outputs that are in it are ignored.
        constants: value name -> array; dtypes are keys of `ITEM_BYTES`.

    Raises:
        HomespunError: UNSUPPORTED_OP for an operator outside the list, LIMIT_EXCEEDED for a tensor
            over a limit, INVALID_GRAPH for anything that contradicts an operator; each names the
            node.

    Cost: O(nodes * rank), plus at most `MAX_HOST_ELEMENTS` operations per node on the host.
    """
    found: dict[str, TensorType] = dict(types)
    values: dict[str, Value] = {}
    for name, array in constants.items():
        found.setdefault(name, TensorType(str(array.dtype), array.shape))
        if array.size <= MAX_HOST_ELEMENTS:
            values[name] = array
    for name, type_ in found.items():
        if exceeds_limits(type_):
            check_limits(type_, f"value '{name}'")
    for node in nodes:
        call = _call(node, found, values)
        outputs = _output_types(call)
        folded = _fold(call, outputs)
        for place, name in enumerate(node.outputs):
            if name:
                found[name] = outputs[place]
                values.pop(name, None)
                if folded is not None:
                    values[name] = folded[place]
    return Inferred(found, {**constants, **values})


def verify_types(graph: Graph) -> None:
    """Prove that the declared type of every value is the one its node produces.

    Raises:
        HomespunError: INVALID_GRAPH naming node, expected and declared type where they differ or a
            declaration is missing; otherwise as `infer`.
    """
    inferred = infer(graph.nodes, _source_types(graph), graph.constants)
    for name, array in graph.constants.items():
        actual = TensorType(str(array.dtype), array.shape)
        if graph.types.get(name) != actual:
            raise _mismatch(f"Constant '{name}'", actual, graph.types.get(name))
    for node in graph.nodes:
        for name in node.outputs:
            if name and graph.types.get(name) != inferred.types[name]:
                raise _mismatch(
                    f"Node {node.index} '{node.name}' ({node.op_type}), output '{name}'",
                    inferred.types[name], graph.types.get(name))


def _source_types(graph: Graph) -> dict[str, TensorType]:
    names = (*graph.inputs, *graph.parameters)
    missing = [name for name in names if name not in graph.types]
    if missing:
        raise HomespunError(
            Code.INVALID_GRAPH, f"Input '{missing[0]}' has no declared type.", value=missing[0])
    return {name: graph.types[name] for name in names}


def _mismatch(what: str, expected: TensorType, declared: TensorType | None) -> HomespunError:
    shown = "nothing" if declared is None else f"{declared.dtype} {declared.shape}"
    return HomespunError(
        Code.INVALID_GRAPH,
        f"{what}: expected {expected.dtype} {expected.shape}, but {shown} is declared.",
        expected=expected, declared=shown)


def _call(node: Node, types: Mapping[str, TensorType], values: Mapping[str, Value]) -> Call:
    if node.op_type not in OPERATORS:
        raise HomespunError(
            Code.UNSUPPORTED_OP,
            f"Node {node.index} '{node.name}' uses operator {node.op_type}, which is not in the "
            f"list for opset {OPSET}.", op=node.op_type, node=node.index, opset=OPSET)
    for name in node.inputs:
        if name and name not in types:
            raise HomespunError(
                Code.INVALID_GRAPH,
                f"Node {node.index} '{node.name}' ({node.op_type}) reads '{name}', which nothing "
                "before it produces.", node=node.index, value=name)
    call = Call(
        node, tuple(types[name] if name else None for name in node.inputs),
        tuple(values.get(name) for name in node.inputs))
    problem = misuse(node)
    if problem:
        raise call.fail(problem)
    return call


def _output_types(call: Call) -> list[TensorType]:
    outputs = list(RULES[call.node.op_type](call))
    for name, type_ in zip(call.node.outputs, outputs, strict=False):
        if exceeds_limits(type_):
            check_limits(
                type_, f"Output '{name}' of node {call.node.index} '{call.node.name}' "
                f"({call.node.op_type})")
    return outputs


def _fold(call: Call, outputs: list[TensorType]) -> tuple[Value, ...] | None:
    """Values of the outputs where they are small and known."""
    wanted = outputs[: len(call.node.outputs)]
    refused = _INEXACT if call.node.op_type in EXACT else FLOATS
    if any(type_.dtype in refused or type_.elements > MAX_HOST_ELEMENTS for type_ in wanted):
        return None
    if call.node.op_type not in TYPED and any(
        type_ is not None and value is None
        for type_, value in zip(call.types, call.values, strict=True)
    ):
        return None
    return fold(call, wanted)
