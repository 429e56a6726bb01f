"""Compile a segment into a flat list of steps over numbered slots. Runs once, at load.

Bit-identity (docs/adr/0008-bit-identity.md) is decided here, from the *whole* graph, so that the
choice is the same on every cut:

- Steps run in node-index order, and torch's engine runs backward in descending order of creation
  on one thread, so the terms of a gradient are added in descending order of the consumers' index.
- A node that may use one input in several places reads its own alias of it when other nodes read
  the value too: its terms are summed in the alias before they join the others'.
- Kernels may round differently on other memory layouts. A value that crosses between segments
  arrives row-major, so every node that computes reads row-major inputs and gets a row-major
  gradient, whether or not anything crosses. (Attention and rotary embedding choose a layout of
  their own instead, in which heads lie beside each other, and keep to it just as strictly.)
- An input through which the operator list passes no gradient is read detached.

Dense gradients, aliases, the order of folding and the layout of matmul operands were each seen to
matter: without one of them, some cut of a small model changes bits.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import torch
from torch import Tensor

from homespun.errors import Code, HomespunError
from ir.graph import INFER, Node
from ir.operators import RANDOM_OPERATORS
from ir.segment import BoundaryKind
from peer.executor.base import Array, SegmentProgram
from peer.executor.flow import Flow, needed_nodes, own_updates, separate_leaves
from peer.executor.torch_executor.adapters import (
    Preparation,
    alias,
    with_dense_gradients,
    with_prepared,
    with_row_major,
    with_stopped,
)
from peer.executor.torch_executor.failures import node_failure
from peer.executor.torch_executor.fusion import fused_nodes
from peer.executor.torch_executor.implementations import IMPLEMENTATIONS
from peer.executor.torch_executor.plan import Plan, SlotKey, Step
from peer.executor.torch_executor.run_state import RunState
from peer.executor.torch_executor.table import Call, Implementation, Runner
from peer.executor.torch_executor.tensors import row_major, to_numpy, to_torch

_CPU = torch.device("cpu")
_BY_MODE = RANDOM_OPERATORS | {"BatchNormalization"}
"""Operators whose result depends on what is running, not on their inputs alone."""
_NOTHING = 0
"""Slot that always holds None: what an omitted input reads."""


def compile_plan(
    program: SegmentProgram, flow: Flow, device: torch.device, state: RunState
) -> Plan:
    """Compile a segment.

    Args:
        program: the segment and its graph.
        flow: result of `gradient_flow` for the program.
        device: where per-microbatch values live.
        state: which microbatch is running; random operators read it.

    Raises:
        HomespunError: UNSUPPORTED_OP for an operator without an implementation, INVALID_GRAPH if a
            shape depends on data or a value has no source, EXECUTOR_FAILED if a constant part of
            the graph cannot be computed.
    """
    return _Compiler(program, flow, device, state).compile()


class _Compiler:
    """State of one compilation: slots as they are handed out, constants as they are found."""

    def __init__(
        self, program: SegmentProgram, flow: Flow, device: torch.device, state: RunState
    ) -> None:
        self._program, self._flow, self._device, self._state = program, flow, device, state
        self._graph = program.graph
        self._separate = separate_leaves(program, flow)
        self._table = IMPLEMENTATIONS
        self._nodes = fused_nodes(self._graph)
        self._producer = {name: node for node in self._graph.nodes for name in node.outputs if name}
        self._constants: dict[str, Tensor] = {}
        self._slots: dict[SlotKey, int] = {("", None): _NOTHING}
        self._initial: dict[int, Tensor] = {}

    def compile(self) -> Plan:
        steps = []
        self._open_inputs()
        for node in needed_nodes(
                self._nodes, self._program.segment.nodes, self._results()):
            implementation = self._implementation(node)
            if self._is_constant(node, implementation):
                self._fold(node, implementation)
            else:
                steps.append(self._step(node, implementation))
        for name in self._results():
            if (name, None) not in self._slots:
                self._slots[name, None] = self._source(name, None)
        initial = tuple(self._initial.get(slot) for slot in range(len(self._slots)))
        return Plan(tuple(_with_deaths(steps, self._lasting())), initial, self._slots)

    def _open_inputs(self) -> None:
        segment = self._program.segment
        outside = (*segment.data_inputs, *segment.parameters, *(t.value for t in segment.incoming))
        for name in outside:
            self._slot((name, None))
            for consumer in self._separate.get(name, ()):
                self._slot((name, consumer))

    def _results(self) -> list[str]:
        segment = self._program.segment
        leaving = [t.value for t in segment.outgoing if t.kind == BoundaryKind.ACTIVATION]
        if self._program.kind == INFER:
            return [*(result.name for result in segment.results), *leaving]
        if segment.has_loss:
            leaving.insert(0, self._graph.outputs[0])
        return [*leaving, *own_updates(self._program).values()]

    def _lasting(self) -> frozenset[int]:
        """Slots that are never emptied: results, and what the slots hold before a microbatch."""
        results = {self._slots[name, None] for name in self._results()}
        return frozenset(results | set(self._initial) | {_NOTHING})

    def _implementation(self, node: Node) -> Implementation:
        implementation = self._table.get(node.op_type)
        if implementation is None:
            raise HomespunError(
                Code.UNSUPPORTED_OP,
                f"Node '{node.name}' uses operator {node.op_type}, which the torch executor does "
                "not run.", node=node.name, op_type=node.op_type)
        return implementation

    def _constant(self, name: str) -> Tensor | None:
        if name not in self._constants and name in self._graph.constants:
            self._constants[name] = to_torch(self._graph.constants[name], _CPU)
        return self._constants.get(name)

    def _host_value(self, name: str) -> Array | None:
        value = self._constant(name)
        return None if value is None else to_numpy(value, self._graph.types[name].dtype)

    def _is_constant(self, node: Node, implementation: Implementation) -> bool:
        if implementation.static:
            return True
        return node.op_type not in _BY_MODE and all(
            self._constant(name) is not None for name in node.inputs if name)

    def _fold(self, node: Node, implementation: Implementation) -> None:
        """Run a node that depends on nothing that changes, once, on the CPU."""
        call = self._call(node, _CPU)
        inputs = [
            None if value is None or slot in implementation.host else row_major(value)
            for slot, value in enumerate(map(self._constant, node.inputs))]
        try:
            with torch.no_grad():
                result = implementation.build(call)(*inputs)
        except HomespunError:
            raise
        except Exception as error:
            raise node_failure(error, node, _CPU) from error
        results = result if isinstance(result, tuple | list) else (result,)
        self._constants.update(
            (name, value) for name, value in zip(node.outputs, results, strict=False) if name)

    def _call(self, node: Node, device: torch.device) -> Call:
        types = self._graph.types
        return Call(
            node=node,
            inputs=tuple(types[name] if name else None for name in node.inputs),
            outputs=tuple(types[name] if name else None for name in node.outputs),
            constants=tuple(self._host_value(name) for name in node.inputs), training=False,
            transposed=tuple(self._is_transposed(name) for name in node.inputs),
            precision=self._program.training.precision, device=device, state=self._state,
            of_parameter=tuple(self._is_of_parameter(name) for name in node.inputs))

    def _is_of_parameter(self, name: str) -> bool:
        """Whether a value's gradient goes to a parameter's leaf alone, inside this segment."""
        if len(self._flow.consumers.get(name, ())) != 1:
            return False
        parameters, node = self._graph.parameters, self._producer.get(name)
        if node is None or not self._is_transposed(name):
            return name in parameters
        return node.inputs[0] in parameters and node.index in self._program.segment.nodes

    def _is_transposed(self, name: str) -> bool:
        node = self._producer.get(name)
        if node is None or node.op_type != "Transpose":
            return False
        rank = len(self._graph.types[name].shape)
        order = node.attributes.get("perm", tuple(reversed(range(rank))))
        return rank >= 2 and order == (*range(rank - 2), rank - 1, rank - 2)

    def _step(self, node: Node, implementation: Implementation) -> Step:
        try:
            run = implementation.build(self._call(node, self._device))
        except (AssertionError, IndexError, ValueError, TypeError) as error:
            raise HomespunError(
                Code.INVALID_GRAPH,
                f"Node '{node.name}' ({node.op_type}) cannot be compiled: {error}.",
                node=node.name, op_type=node.op_type) from error
        sources = tuple(
            _NOTHING if slot in implementation.host else self._source(name, node)
            for slot, name in enumerate(node.inputs))
        run = self._with_own_inputs(node, implementation, run)
        stopped = frozenset(
            place for place, name in enumerate(node.outputs) if name in self._graph.stopped)
        if stopped:
            run = with_stopped(run, stopped)
        if self._wants_dense_gradient(node, implementation):
            run = with_dense_gradients(run)
        targets = tuple(self._slot((name or "unwanted output", None)) for name in node.outputs)
        return Step(node, run, sources, targets, len(targets) == 1, ())

    def _source(self, name: str, node: Node | None) -> int:
        consumers = self._separate.get(name, ())
        if node is not None and node.index in consumers:
            return self._slots[name, node.index]
        slot = self._slots.get((name, None))
        if slot is not None:
            return slot
        value = self._constant(name)
        if value is None:
            reader = f"node '{node.name}'" if node else "the segment's results"
            raise HomespunError(
                Code.INVALID_GRAPH,
                f"Value '{name}', read by {reader}, has no source in segment "
                f"{self._program.segment.index}.", value=name)
        slot = self._slot((name, None))
        self._initial[slot] = row_major(value).to(self._device)
        return slot

    def _slot(self, key: SlotKey) -> int:
        return self._slots.setdefault(key, len(self._slots))

    def _with_own_inputs(
        self, node: Node, implementation: Implementation, run: Runner
    ) -> Runner:
        """Prepare inputs as the rules in the module's docstring say; nothing where none applies."""
        prepare: list[Preparation] = []
        for slot, name in enumerate(node.inputs):
            if not name or slot in implementation.host:
                continue
            if name in self._flow.differentiable and not self._flow.adds(node, name):
                prepare.append((slot, torch.Tensor.detach))
            elif self._needs_alias(node, implementation, name):
                prepare.append((slot, alias))
        if prepare:
            run = with_prepared(run, tuple(prepare), node.inputs)
        return run if implementation.strided else with_row_major(run)

    def _needs_alias(self, node: Node, implementation: Implementation, name: str) -> bool:
        if len(self._flow.consumers.get(name, ())) < 2 or name in self._separate:
            return False
        return not implementation.once or node.inputs.count(name) > 1

    def _wants_dense_gradient(self, node: Node, implementation: Implementation) -> bool:
        """Whether a consumer of an output may hand back a gradient that is not row-major."""
        if implementation.moves or implementation.lays_out:
            return False
        readers = (index for name in node.outputs if name in self._flow.differentiable
                   for index in self._flow.consumers.get(name, ()))
        return any(not self._is_dense(self._nodes[index]) for index in readers)

    def _is_dense(self, node: Node) -> bool:
        implementation = self._table.get(node.op_type)
        return implementation is not None and implementation.dense


def _with_deaths(steps: list[Step], lasting: Iterable[int]) -> list[Step]:
    """Mark at each step the slots that it is the last to touch, so that memory is freed early."""
    seen, result = set(lasting), []
    for step in reversed(steps):
        touched = set(step.sources) | set(step.targets)
        result.append(replace(step, dead=tuple(sorted(touched - seen))))
        seen |= touched
    return result[::-1]
