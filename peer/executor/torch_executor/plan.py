"""Compile a segment into a flat list of steps over numbered slots. Runs once, at load.

Bit-identity (docs/adr/0008-bit-identity.md) is decided here, from the *whole* graph, so that the
choice is the same on every cut:

- Steps run in node-index order, and torch's engine runs backward in descending order of creation
  on one thread, so the terms of a gradient are added in descending order of the consumers' index.
- A node that may use one input in several places reads its own alias of it when other nodes read
  the value too: its terms are summed in the alias before they join the others'.
- Kernels may round differently on other memory layouts. A value that crosses between segments
  arrives row-major, so every node that computes reads row-major inputs and gets a row-major
  gradient, whether or not anything crosses.
- An input through which the operator list passes no gradient is read detached.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from homespun.errors import Code, HomespunError
from ir.gradient import differentiable_values, gives_gradient
from ir.graph import Graph, Node
from ir.segment import BoundaryKind
from peer.executor.base import SegmentProgram
from peer.executor.torch_executor.failures import node_failure
from peer.executor.torch_executor.fusion import fused_nodes
from peer.executor.torch_executor.random_draws import RunState
from peer.executor.torch_executor.table import Call, Implementation, Runner, implementations
from peer.executor.torch_executor.tensors import DTYPES, row_major, to_torch

_CPU = torch.device("cpu")
_NOTHING = 0
"""Slot that always holds None: what an omitted input reads."""

SlotKey = tuple[str, int | None]
"""(value, None), or (value, consumer index) where each consumer has a leaf of its own."""


@dataclass(frozen=True, slots=True, eq=False)
class Step:
    """One node, ready to run: `values[target] = run(*values[sources])`.

    Attributes:
        node: for messages.
        run: the implementation, bound to the node.
        sources: slot of each input.
        targets: slot of each output; one that nobody wants has slot `_NOTHING`'s neighbour, a bin.
        single: whether `run` gives one tensor, not a tuple.
        dead: slots that nobody reads afterwards.
    """

    node: Node
    run: Runner
    sources: tuple[int, ...]
    targets: tuple[int, ...]
    single: bool
    dead: tuple[int, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """A compiled segment.

    Attributes:
        steps: in node-index order.
        initial: what the slots hold before a microbatch: constants, else None.
        slots: slot of each value that comes from outside (data, parameters, boundary tensors) or
            is a result (loss, outgoing boundary tensors).
    """

    steps: tuple[Step, ...]
    initial: tuple[Tensor | None, ...]
    slots: Mapping[SlotKey, int]


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
        self._table = implementations()
        self._nodes = fused_nodes(self._graph)
        self._producer = {name: node for node in self._graph.nodes for name in node.outputs if name}
        self._constants: dict[str, Tensor] = {}
        self._slots: dict[SlotKey, int] = {("", None): _NOTHING}
        self._initial: dict[int, Tensor] = {}

    def compile(self) -> Plan:
        steps = []
        self._open_inputs()
        for node in self._needed():
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
        return [*self._graph.outputs[:1], *leaving] if segment.has_loss else leaving

    def _lasting(self) -> frozenset[int]:
        """Slots that are never emptied: results, and what the slots hold before a microbatch."""
        results = {self._slots[name, None] for name in self._results()}
        return frozenset(results | set(self._initial) | {_NOTHING})

    def _needed(self) -> list[Node]:
        """The segment's nodes that a result depends on, ascending."""
        wanted, needed = set(self._results()), []
        for index in reversed(self._program.segment.nodes):
            node = self._nodes[index]
            if any(name in wanted for name in node.outputs):
                needed.append(node)
                wanted.update(node.inputs)
        return needed[::-1]

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

    def _is_constant(self, node: Node, implementation: Implementation) -> bool:
        if implementation.static:
            return True
        return node.op_type != "Dropout" and all(
            self._constant(name) is not None for name in node.inputs if name)

    def _fold(self, node: Node, implementation: Implementation) -> None:
        """Run a node that depends on nothing that changes, once, on the CPU."""
        call = self._call(node, _CPU)
        inputs = [
            None if value is None or slot in implementation.host else row_major(value)
            for slot, value in enumerate(call.constants)]
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
            constants=tuple(self._constant(name) for name in node.inputs),
            transposed=tuple(self._is_transposed(name) for name in node.inputs),
            precision=self._program.training.precision, device=device, state=self._state)

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
        if self._wants_dense_gradient(node, implementation):
            run = _with_dense_gradients(run)
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
        prepare: list[tuple[int, Callable[[Tensor], Tensor]]] = []
        for slot, name in enumerate(node.inputs):
            if not name or slot in implementation.host:
                continue
            if name in self._flow.differentiable and not self._flow.adds(node, name):
                prepare.append((slot, torch.Tensor.detach))
            elif self._needs_alias(node, implementation, name):
                prepare.append((slot, _alias))
        if prepare:
            run = _with_prepared(run, tuple(prepare), node.inputs)
        return run if implementation.strided else _with_row_major(run)

    def _needs_alias(self, node: Node, implementation: Implementation, name: str) -> bool:
        if len(self._flow.consumers.get(name, ())) < 2 or name in self._separate:
            return False
        return not implementation.once or node.inputs.count(name) > 1

    def _wants_dense_gradient(self, node: Node, implementation: Implementation) -> bool:
        """Whether a consumer of an output may hand back a gradient that is not row-major."""
        if implementation.moves:
            return False
        readers = (index for name in node.outputs if name in self._flow.differentiable
                   for index in self._flow.consumers.get(name, ()))
        return any(not self._is_dense(self._nodes[index]) for index in readers)

    def _is_dense(self, node: Node) -> bool:
        implementation = self._table.get(node.op_type)
        return implementation is not None and implementation.dense


def _alias(value: Tensor) -> Tensor:
    return value.view_as(value)


def _with_prepared(
    run: Runner, prepare: tuple[tuple[int, Callable[[Tensor], Tensor]], ...],
    names: tuple[str, ...],
) -> Runner:
    """Run with some inputs prepared; a value in two input slots is prepared once."""
    first = {slot: names.index(names[slot]) for slot, _ in prepare}

    def prepared(*values: Tensor) -> object:
        inputs = list(values)
        for slot, function in prepare:
            origin = first[slot]
            inputs[slot] = function(values[slot]) if origin == slot else inputs[origin]
        return run(*inputs)

    return prepared


def _with_row_major(run: Runner) -> Runner:
    def ordered(*values: Tensor | None) -> object:
        for value in values:
            if value is not None and not value.is_contiguous():
                return run(*(None if v is None else v.contiguous() for v in values))
        return run(*values)

    return ordered


def _with_dense_gradients(run: Runner) -> Runner:
    def hooked(*values: Tensor | None) -> object:
        result = run(*values)
        for tensor in result if isinstance(result, tuple | list) else (result,):
            if tensor is not None and tensor.requires_grad:
                tensor.register_hook(_dense)
        return result

    return hooked


def _dense(gradient: Tensor) -> Tensor | None:
    return None if gradient.is_contiguous() else gradient.contiguous()


def _with_deaths(steps: list[Step], lasting: Iterable[int]) -> list[Step]:
    """Mark at each step the slots that it is the last to touch, so that memory is freed early."""
    seen, result = set(lasting), []
    for step in reversed(steps):
        touched = set(step.sources) | set(step.targets)
        result.append(replace(step, dead=tuple(sorted(touched - seen))))
        seen |= touched
    return result[::-1]


def execute(plan: Plan, values: list[Tensor | None], device: torch.device) -> None:
    """Run all steps over `values`, which holds the inputs; results are left in their slots.

    Raises:
        HomespunError: OUT_OF_MEMORY or EXECUTOR_FAILED, naming the node.
    """
    step = None
    try:
        for step in plan.steps:
            result = step.run(*[values[source] for source in step.sources])
            if step.single:
                values[step.targets[0]] = result
            else:
                for target, part in zip(step.targets, result, strict=False):
                    values[target] = part
            for slot in step.dead:
                values[slot] = None
    except HomespunError:
        raise
    except Exception as error:
        assert step is not None
        raise node_failure(error, step.node, device) from error


def check_types(plan: Plan, graph: Graph) -> Plan:
    """The same plan with steps that compare each result with the graph's types.

    Raises (when run):
        HomespunError: INVALID_GRAPH, naming the node and both types.
    """
    return replace(plan, steps=tuple(
        replace(step, run=_checked(step.run, step.node, graph)) for step in plan.steps))


def _checked(run: Runner, node: Node, graph: Graph) -> Runner:
    def checked(*values: Tensor | None) -> object:
        result = run(*values)
        results = result if isinstance(result, tuple | list) else (result,)
        for name, tensor in zip(node.outputs, results, strict=False):
            if not name:
                continue
            kind = graph.types[name]
            if tuple(tensor.shape) != kind.shape or tensor.dtype != DTYPES[kind.dtype]:
                raise HomespunError(
                    Code.INVALID_GRAPH,
                    f"Node '{node.name}' ({node.op_type}) gives {tensor.dtype} "
                    f"{tuple(tensor.shape)} for '{name}', but the graph says {kind.dtype} "
                    f"{kind.shape}.", node=node.name, op_type=node.op_type)
        return result

    return checked
