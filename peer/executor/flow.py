"""Who adds to which gradient, and which values from outside need one leaf per consumer.

Answers come from the whole graph and `ir.gradient`, so they are the same on every cut.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from ir.gradient import differentiable_values, gives_gradient
from ir.graph import Graph, Node
from ir.segment import BoundaryKind
from peer.executor.base import SegmentProgram


@dataclass(frozen=True, slots=True, eq=False)
class Flow:
    """Who adds to which gradient, in the whole graph.

    Attributes:
        differentiable: values with a gradient.
        consumers: value -> indices of the nodes that add to its gradient, ascending.
    """

    differentiable: frozenset[str]
    consumers: Mapping[str, tuple[int, ...]]

    def adds(self, node: Node, value: str) -> bool:
        """Whether `node` adds to the gradient of `value`."""
        return node.index in self.consumers.get(value, ())


def gradient_flow(graph: Graph, trainable: frozenset[str]) -> Flow:
    """Who adds to which gradient. Cost: O(nodes + edges)."""
    differentiable = differentiable_values(graph, trainable)
    consumers: dict[str, list[int]] = {}
    for node in graph.nodes:
        for name in dict.fromkeys(node.inputs):
            if name and gives_gradient(graph, node, name, differentiable):
                consumers.setdefault(name, []).append(node.index)
    return Flow(differentiable, {name: tuple(nodes) for name, nodes in consumers.items()})


def separate_leaves(program: SegmentProgram, flow: Flow) -> Mapping[str, tuple[int, ...]]:
    """Values from outside whose consumers each need a leaf of their own, with those consumers.

    These are parameters with several consumers in the whole graph, whose sums over microbatches are
    kept apart, and incoming activations whose gradients are sent unsummed.
    """
    segment, here = program.segment, frozenset(program.segment.nodes)
    foreign = [t.value for t in segment.incoming if t.kind == BoundaryKind.PARAMETER]
    result: dict[str, tuple[int, ...]] = {}
    for name in (*segment.parameters, *foreign):
        consumers = flow.consumers.get(name, ())
        if len(consumers) > 1:
            result[name] = tuple(index for index in consumers if index in here)
    for tensor in segment.incoming:
        if tensor.kind == BoundaryKind.ACTIVATION and tensor.contributions > 1:
            result[tensor.value] = tensor.consumers
    return result


def own_updates(program: SegmentProgram) -> dict[str, str]:
    """The graph's updates of the segment's own parameters: name -> value that replaces it."""
    updates = program.graph.updates
    return {name: updates[name] for name in program.segment.parameters if name in updates}


def needed_nodes(
    nodes: Sequence[Node], indices: Sequence[int], wanted: Iterable[str]
) -> list[Node]:
    """Those of a segment's nodes that a wanted value depends on, ascending.

    Args:
        nodes: the whole graph's.
        indices: of the segment's nodes, ascending.
        wanted: names of values.
    """
    names, needed = set(wanted), []
    for index in reversed(indices):
        node = nodes[index]
        if any(name in names for name in node.outputs):
            needed.append(node)
            names.update(node.inputs)
    return needed[::-1]
