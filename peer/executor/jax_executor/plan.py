"""A segment as steps over named values, to be traced by JAX."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import jax
import numpy as np

from homespun.errors import Code, HomespunError
from ir.graph import Graph, Node
from ir.semantics.call import OpCall
from ir.semantics.draws import DrawKey
from ir.semantics.registry import Draw, Runner
from peer.executor.base import Array
from peer.executor.gradients import EVERY_CONSUMER
from peer.executor.jax_executor.failures import node_failures

Key = tuple[str, int]
"""(value, consumer that has a leaf of its own, else `EVERY_CONSUMER`)."""
Values = dict[Key, jax.Array]
Draws = Mapping[int, tuple[Array, ...]]
"""Index of a drawing node -> what it draws for one microbatch."""


@dataclass(frozen=True, slots=True, eq=False)
class Step:
    """One node, ready to be traced.

    Attributes:
        node: for messages.
        run: its implementation.
        sources: key of each input; None where it is omitted or known.
        detached: for each input, whether no gradient flows through it.
    """

    node: Node
    run: Runner
    sources: tuple[Key | None, ...]
    detached: tuple[bool, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Drawing:
    """A node that draws."""

    draw: Draw
    call: OpCall


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """What a segment does with one microbatch in one mode.

    Attributes:
        steps: in node-index order.
        constants: values known before the run that the steps read or the segment gives.
        drawings: index of a node -> how to draw for it.
    """

    steps: tuple[Step, ...]
    constants: Mapping[str, Array]
    drawings: Mapping[int, Drawing]

    def draws(self, seed: int, step: int, microbatch: int) -> Draws:
        """All random arrays of one microbatch, made on the host."""
        return {
            index: drawing.draw(drawing.call, DrawKey(seed, step, microbatch, index))
            for index, drawing in self.drawings.items()}


def trace(plan: Plan, graph: Graph, values: Values, draws: Draws) -> None:
    """Run the steps on tracers: adds every node's results to `values`.

    Raises:
        HomespunError: INVALID_GRAPH if a result is not of the graph's type, OUT_OF_MEMORY or
            EXECUTOR_FAILED if a node cannot be traced; all name the node.
    """
    for step in plan.steps:
        inputs = [
            None if source is None
            else jax.lax.stop_gradient(values[source]) if is_detached else values[source]
            for source, is_detached in zip(step.sources, step.detached, strict=True)]
        with node_failures(step.node):
            result = step.run(*inputs, *draws.get(step.node.index, ()))
        for name, array in named_results(step.node, result, graph).items():
            is_end = name in graph.stopped
            values[name, EVERY_CONSUMER] = jax.lax.stop_gradient(array) if is_end else array


def named_results(node: Node, result: object, graph: Graph) -> dict[str, jax.Array]:
    """A node's results by name, each checked against the graph's type.

    Raises:
        HomespunError: INVALID_GRAPH, naming the node and both types.
    """
    results = result if isinstance(result, tuple | list) else (result,)
    named = {}
    for name, array in zip(node.outputs, results, strict=False):
        if not name:
            continue
        kind = graph.types[name]
        if np.shape(array) != kind.shape or array.dtype.name != kind.dtype:
            raise HomespunError(
                Code.INVALID_GRAPH,
                f"Node '{node.name}' ({node.op_type}) gives {array.dtype.name} {np.shape(array)} "
                f"for '{name}', but the graph says {kind.dtype} {kind.shape}.",
                node=node.name, op_type=node.op_type)
        named[name] = array
    return named
