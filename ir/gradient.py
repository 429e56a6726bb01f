"""Which values of a graph carry a gradient: between the trainable parameters and the loss.

Everybody who needs to know (cut, cost, executors) asks here, so that all agree which boundary
tensors return a gradient and which consumers add to it.
"""

from __future__ import annotations

from collections.abc import Iterator

from ir.graph import FLOATS, Graph, Node
from ir.operators import OPERATORS


def differentiable_values(graph: Graph, trainable: frozenset[str]) -> frozenset[str]:
    """Names of the values that have a gradient.

    A value has one if it is a float, depends on a trainable parameter through differentiable
    operators, and the loss (the first graph output) depends on it through differentiable operators,
    each time without a stopped value (`Graph.stopped`) on the way or at the end.
    Trainable parameters that the loss depends on, and the loss itself, are members.

    Args:
        graph: any graph whose values all have types.
        trainable: parameters that the optimizer updates; names that are not parameters of the
            graph are ignored.

    Cost: O(nodes + edges).
    """
    reached = {name for name in graph.parameters if name in trainable and _is_float(graph, name)}
    for node in graph.nodes:
        if any(name in reached for name in gradient_inputs(graph, node)):
            reached.update(set(_gradient_outputs(graph, node)) - graph.stopped)
    wanted = set(graph.outputs[:1]) & reached
    for node in reversed(graph.nodes):
        if any(name in wanted for name in node.outputs):
            wanted.update(name for name in gradient_inputs(graph, node) if name in reached)
    return frozenset(wanted)


def gradient_inputs(graph: Graph, node: Node) -> Iterator[str]:
    """Inputs of `node` through which its operator passes a gradient: float and not inert."""
    info = OPERATORS.get(node.op_type)
    if info is None or not info.differentiable:
        return
    for position, name in enumerate(node.inputs):
        if name and position not in info.inert_inputs and _is_float(graph, name):
            yield name


def _gradient_outputs(graph: Graph, node: Node) -> Iterator[str]:
    """Outputs of `node` through which its operator passes a gradient back: float and not inert."""
    inert = OPERATORS[node.op_type].inert_outputs
    for position, name in enumerate(node.outputs):
        if name and position not in inert and _is_float(graph, name):
            yield name


def gives_gradient(graph: Graph, node: Node, value: str, differentiable: frozenset[str]) -> bool:
    """Tell whether `node` adds to the gradient of its input `value`.

    Args:
        graph: the graph of the node.
        node: a consumer of the value.
        value: the value that it reads.
        differentiable: the result of `differentiable_values`.
    """
    return (
        value in differentiable
        and any(name in differentiable for name in node.outputs)
        and value in gradient_inputs(graph, node)
    )


def _is_float(graph: Graph, name: str) -> bool:
    return graph.types[name].dtype in FLOATS
