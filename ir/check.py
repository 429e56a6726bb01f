"""Decide whether a graph may be trained or run: everything that can be known before it runs.

`problems` collects, `check` raises the first. After `check` passes, shapes, dtypes, operators,
arities and outputs are right, so executors and the planner need not look again.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from homespun.errors import Code, HomespunError
from ir.graph import FLOATS, ITEM_BYTES, STORED_FLOATS, STORED_INTEGERS, TRAIN, Graph, Node
from ir.operators import OPERATORS, OPSET, OPSETS, misuse, opset_of
from ir.shapes import verify_types


@dataclass(frozen=True, slots=True)
class Problem:
    """One reason to refuse a graph.

    Attributes:
        code: UNSUPPORTED_OP, INVALID_GRAPH or LIMIT_EXCEEDED.
        message: one sentence that names what is wrong and what was expected.
        node: index of the node at fault, or None.
    """

    code: Code
    message: str
    node: int | None = None


def check(graph: Graph, kind: str = TRAIN) -> None:
    """Refuse a graph that has a problem.

    Args:
        graph: any graph.
        kind: what it is for, `TRAIN` or `INFER`.

    Raises:
        HomespunError: the first of `problems`, with the number of the others in its details.

    Cost: that of `problems`.
    """
    found = problems(graph, kind)
    if found:
        first = found[0]
        node = {} if first.node is None else {"node": first.node}
        raise HomespunError(first.code, first.message, others=len(found) - 1, **node)


def problems(graph: Graph, kind: str = TRAIN) -> tuple[Problem, ...]:
    """Everything that is wrong with a graph of a kind; empty if it may run.

    Checked: opset; operators against the closed list (UNSUPPORTED_OP names operator, node and
    opset); arity and attributes; every value produced once, before it is read; updates; the
    outputs, of which a graph to train has the loss first, a scalar float computed by a node, while
    each output of a graph to run is computed by a node and named once; every data input and node
    used; types, only when all of that holds, because inference needs it.

    Cost: O(nodes + edges).
    """
    found = [*_opset(graph), *_operators(graph), *_names(graph)]
    if not found:
        outputs = _loss(graph) if kind == TRAIN else _results(graph)
        found += [*outputs, *_unused(graph)]
    # Last, because it costs most: a hostile graph should be refused before.
    return tuple(found) or tuple(_types(graph))


def _opset(graph: Graph) -> Iterator[Problem]:
    if graph.opset not in OPSETS:
        yield Problem(
            Code.INVALID_GRAPH,
            f"The graph follows opset {graph.opset}; expected {OPSETS[0]} to {OPSETS[-1]}. Export "
            f"it with opset {OPSET}.")


def _operators(graph: Graph) -> Iterator[Problem]:
    for node in graph.nodes:
        if node.op_type not in OPERATORS:
            yield Problem(
                Code.UNSUPPORTED_OP,
                f"Operator {node.op_type} of node {node.index} '{node.name}' is not supported "
                f"(opset {graph.opset}).", node.index)
        elif opset_of(node) > max(graph.opset, OPSET):
            yield Problem(
                Code.INVALID_GRAPH,
                f"{_title(node)}: the operator, or what it uses, is new in opset "
                f"{opset_of(node)}, but the graph follows opset {graph.opset}.", node.index)
        elif fault := misuse(node):
            yield Problem(Code.INVALID_GRAPH, f"{_title(node)}: {fault}.", node.index)


def _names(graph: Graph) -> Iterator[Problem]:
    """Single assignment, and definition before use."""
    defined: set[str] = set()
    for name in (*graph.inputs, *graph.parameters, *graph.constants):
        if not name or name in defined:
            yield Problem(
                Code.INVALID_GRAPH,
                f"Value '{name}' is given twice among inputs, parameters and constants, or has no "
                "name.")
        defined.add(name)
    for position, node in enumerate(graph.nodes):
        if node.index != position:
            yield Problem(
                Code.INVALID_GRAPH,
                f"{_title(node)} is at position {position}; the index must be the position.",
                node.index)
        for name in node.inputs:
            if name and name not in defined:
                yield Problem(
                    Code.INVALID_GRAPH,
                    f"{_title(node)} reads '{name}', which nothing before it produces.", node.index)
        for name in filter(None, node.outputs):
            if name in defined:
                yield Problem(
                    Code.INVALID_GRAPH, f"{_title(node)} produces '{name}', which exists already.",
                    node.index)
            defined.add(name)
    for name in graph.outputs:
        if name not in defined:
            yield Problem(Code.INVALID_GRAPH, f"Nothing produces the graph output '{name}'.")
    yield from _updates(graph)
    yield from _stopped(graph)


def _updates(graph: Graph) -> Iterator[Problem]:
    """Each update replaces a parameter by what a node makes, of the same type."""
    made = {name for node in graph.nodes for name in node.outputs}
    for name, value in graph.updates.items():
        if name not in graph.parameters or value not in made:
            yield Problem(
                Code.INVALID_GRAPH,
                f"The update of '{name}' by '{value}' must name a parameter and a node's result.")
        elif graph.types.get(name) != graph.types.get(value):
            yield Problem(
                Code.INVALID_GRAPH,
                f"The update of '{name}' by '{value}' changes its type from "
                f"{graph.types.get(name)} to {graph.types.get(value)}.")


def _stopped(graph: Graph) -> Iterator[Problem]:
    made = {name for node in graph.nodes for name in node.outputs}
    for name in sorted(graph.stopped - made):
        yield Problem(
            Code.INVALID_GRAPH, f"The stopped gradient of '{name}' must be of a node's result.")


def _types(graph: Graph) -> Iterator[Problem]:
    for name, type_ in graph.types.items():
        if type_.dtype not in ITEM_BYTES or any(extent < 0 for extent in type_.shape):
            yield Problem(
                Code.INVALID_GRAPH,
                f"Value '{name}' has type {type_.dtype} {type_.shape}; expected a supported dtype "
                "and extents of at least 0.")
            return
    try:
        verify_types(graph)
    except HomespunError as error:
        node = error.details.get("node")
        yield Problem(error.code, error.message, None if node is None else int(node))


def _loss(graph: Graph) -> Iterator[Problem]:
    if not graph.outputs:
        yield Problem(Code.INVALID_GRAPH, "The graph has no output; the first must be the loss.")
        return
    name = graph.outputs[0]
    type_ = graph.types.get(name)
    if type_ is not None and (type_.dtype not in FLOATS or type_.shape):
        yield Problem(
            Code.INVALID_GRAPH,
            f"The first output '{name}' is {type_.dtype} {type_.shape}; expected the loss, a "
            "scalar float.")
    if not any(name in node.outputs for node in graph.nodes):
        yield Problem(
            Code.INVALID_GRAPH,
            f"The first output '{name}' is no node's result; expected the loss, computed from the "
            "inputs.")


def _results(graph: Graph) -> Iterator[Problem]:
    if not graph.outputs:
        yield Problem(Code.INVALID_GRAPH, "The graph has no output, so there is no result.")
    made = {name for node in graph.nodes for name in node.outputs}
    for position, name in enumerate(graph.outputs):
        if name not in made:
            yield Problem(
                Code.INVALID_GRAPH,
                f"The output '{name}' is no node's result; expected a value computed from the "
                "inputs.")
        if (type_ := graph.types.get(name)) and type_.dtype in STORED_FLOATS | STORED_INTEGERS:
            yield Problem(
                Code.INVALID_GRAPH,
                f"The output '{name}' is {type_.dtype}; results cannot be stored so. Cast it to a "
                "type of at least 8 bits that numpy or torch has.")
        if name in graph.outputs[:position]:
            yield Problem(Code.INVALID_GRAPH, f"The output '{name}' is named twice.")


def _unused(graph: Graph) -> Iterator[Problem]:
    """Nodes and data inputs that no output depends on: work and transfers for nothing."""
    needed = {*graph.outputs, *graph.updates.values()}
    for node in reversed(graph.nodes):
        if any(name in needed for name in node.outputs):
            needed.update(node.inputs)
        else:
            yield Problem(
                Code.INVALID_GRAPH,
                f"{_title(node)} is unused: no graph output depends on it. Remove it.", node.index)
    for name in graph.inputs:
        if name not in needed:
            yield Problem(
                Code.INVALID_GRAPH,
                f"Data input '{name}' is unused: no graph output depends on it. Remove the column.")


def _title(node: Node) -> str:
    return f"Node {node.index} '{node.name}' ({node.op_type})"
