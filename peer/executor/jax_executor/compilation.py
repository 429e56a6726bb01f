"""From a segment to plans, one per mode. Runs once, when the segment is loaded.

What depends on nothing that changes, shape arithmetic above all, is computed here by numpy; only
the rest is traced and compiled by XLA.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from homespun.errors import Code, HomespunError
from ir.graph import Node
from ir.semantics.numpy_backend import NumpyBackend
from ir.semantics.registry import Semantics
from peer.executor.base import Array, SegmentProgram
from peer.executor.flow import Flow, needed_nodes, separate_leaves
from peer.executor.gradients import EVERY_CONSUMER
from peer.executor.jax_executor.backend import JaxBackend
from peer.executor.jax_executor.failures import node_failures
from peer.executor.jax_executor.implementations import IMPLEMENTATIONS, is_host_work
from peer.executor.jax_executor.plan import Drawing, Key, Plan, Step, named_results
from peer.executor.jax_executor.table import Call


class Compiler:
    """Plans of one segment. Constants are found once, for all modes.

    Raises (from `plan`):
        HomespunError: UNSUPPORTED_OP for an operator without an implementation, INVALID_GRAPH if a
            shape depends on data or a value has no source, EXECUTOR_FAILED if a constant part of
            the graph cannot be computed.
    """

    def __init__(self, program: SegmentProgram, flow: Flow) -> None:
        segment = program.segment
        self._program, self._flow, self._graph = program, flow, program.graph
        self._separate = separate_leaves(program, flow)
        self._given = {
            *segment.data_inputs, *segment.parameters, *(t.value for t in segment.incoming)}
        self._constants = dict(program.graph.constants)

    def plan(self, results: Sequence[str], training: bool) -> Plan:
        """What computes `results` in a mode."""
        steps, drawings, made = [], {}, set(self._given)
        for node in needed_nodes(self._graph.nodes, self._program.segment.nodes, results):
            entry = self._entry(node)
            if self._is_constant(node, entry):
                self._fold(node, entry)
                continue
            call = self._call(node, training)
            steps.append(self._step(node, entry, call, made))
            made.update(node.outputs)
            if entry.draw is not None:
                drawings[node.index] = Drawing(entry.draw, call)
        read = {source[0] for step in steps for source in step.sources if source is not None}
        constants = {name: self._constants[name] for name in sorted({*read, *results})
                     if name in self._constants and name not in made}
        self._check_sources(results, made)
        return Plan(tuple(steps), constants, drawings)

    def _entry(self, node: Node) -> Semantics:
        entry = IMPLEMENTATIONS.get(node.op_type)
        if entry is None:
            raise HomespunError(
                Code.UNSUPPORTED_OP,
                f"Node '{node.name}' uses operator {node.op_type}, which the JAX executor does "
                "not run.", node=node.name, op_type=node.op_type)
        return entry

    def _is_constant(self, node: Node, entry: Semantics) -> bool:
        if entry.static:
            return True
        return is_host_work(node.op_type) and all(
            name in self._constants for name in node.inputs if name)

    def _fold(self, node: Node, entry: Semantics) -> None:
        """Run a node that depends on nothing that changes, once, in numpy."""
        if all(name in self._constants for name in node.outputs if name):
            return
        inputs = [None if slot in entry.host else self._constants.get(name)
                  for slot, name in enumerate(node.inputs)]
        with node_failures(node), np.errstate(all="ignore"):
            result = entry.build(self._call(node, False), NumpyBackend())(*inputs)
            results = result if isinstance(result, tuple | list) else (result,)
            arrays = tuple(None if item is None else np.asarray(item) for item in results)
        self._constants.update(named_results(node, arrays, self._graph))

    def _call(self, node: Node, training: bool) -> Call:
        types = self._graph.types
        return Call(
            node=node,
            inputs=tuple(types[name] if name else None for name in node.inputs),
            outputs=tuple(types[name] if name else None for name in node.outputs),
            constants=tuple(self._host_value(name) for name in node.inputs),
            training=training, precision=self._program.training.precision)

    def _host_value(self, name: str) -> Array | None:
        return self._constants.get(name)

    def _step(self, node: Node, entry: Semantics, call: Call, made: set[str]) -> Step:
        try:
            run = entry.build(call, JaxBackend())
        except (AssertionError, IndexError, ValueError, TypeError) as error:
            raise HomespunError(
                Code.INVALID_GRAPH,
                f"Node '{node.name}' ({node.op_type}) cannot be compiled: {error}.",
                node=node.name, op_type=node.op_type) from error
        sources = tuple(
            self._source(node, name, made) if name and slot not in entry.host else None
            for slot, name in enumerate(node.inputs))
        detached = tuple(
            name in self._flow.differentiable and not self._flow.adds(node, name)
            for name in node.inputs)
        return Step(node, run, sources, detached)

    def _source(self, node: Node, name: str, made: set[str]) -> Key:
        if name not in made and name not in self._constants:
            raise self._sourceless(name, f"node '{node.name}'")
        is_separate = node.index in self._separate.get(name, ())
        return (name, node.index if is_separate else EVERY_CONSUMER)

    def _check_sources(self, results: Sequence[str], made: set[str]) -> None:
        for name in results:
            if name not in made and name not in self._constants:
                raise self._sourceless(name, "the segment's results")

    def _sourceless(self, name: str, reader: str) -> HomespunError:
        return HomespunError(
            Code.INVALID_GRAPH,
            f"Value '{name}', read by {reader}, has no source in segment "
            f"{self._program.segment.index}.", value=name)
