"""Patterns of the graph that one torch kernel runs: found in the whole graph, never in a segment.

A fused node computes its result from the pattern's inputs and ignores the intermediate value. So it
runs the same kernel on the same numbers also where a cut separates the pattern: what arrives for
the intermediate value is not read, and its gradient is zero.

What a standard operator can say is fused when a model is imported instead (`ir.passes.fusions`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from ir.graph import Graph, Node

FUSED_OPERATORS = frozenset({"Silu"})
"""Operators that exist only here; no job can name them."""


def fused_nodes(graph: Graph) -> tuple[Node, ...]:
    """The graph's nodes, with fused ones in place of the last node of each pattern.

    Index, name and outputs stay. A value that stops a gradient is never fused over.
    """
    producer = {name: node for node in graph.nodes for name in node.outputs
                if name and name not in graph.stopped}
    return tuple(_fused(node, producer) for node in graph.nodes)


def _fused(node: Node, producer: Mapping[str, Node]) -> Node:
    for fuse in KERNELS.values():
        fused = fuse(node, producer)
        if fused is not None:
            return fused
    return node


def _silu(node: Node, producer: Mapping[str, Node]) -> Node | None:
    """`x * Sigmoid(x)`."""
    if node.op_type != "Mul":
        return None
    for value, gate in (node.inputs, node.inputs[::-1]):
        origin = producer.get(gate)
        if origin is not None and origin.op_type == "Sigmoid" and origin.inputs == (value,):
            return Node(node.index, node.name, "Silu", (value,), node.outputs)
    return None


KERNELS: dict[str, Callable[[Node, Mapping[str, Node]], Node | None]] = {"silu": _silu}
"""Name -> what a node becomes if it ends the pattern, else None."""
