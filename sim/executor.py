"""An executor whose numbers are lineages: a value is named by all that went into it.

Two segments in the same state have applied the same updates, in the same order, to the same inputs.
Every node computes for itself, whichever segment it is in, so the same lineages come out of every
cut. Which tensors a task takes and gives is checked strictly.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any

from ir.segment import BoundaryKind, BoundaryTensor, Segment
from peer.core.dataflow import TensorKey
from peer.core.events import Task, TaskKind, TensorKind
from peer.core.phases import Mode
from sim.topologies import Edge

AS_SUBMITTED = "as submitted"
"""Every parameter's first value."""

Output = tuple[int, TensorKey, str]
"""(target segment, tensor, its value)"""

Ends = tuple[int, int]
"""The nodes at the two ends of an edge of the graph."""


def lineage(*parts: Any) -> str:
    """The name of a value that was made from others."""
    return blake2b(repr(parts).encode(), digest_size=8).hexdigest()


def ends_of(tensor: BoundaryTensor) -> Ends:
    """The nodes that make and read a boundary tensor (see `topologies.segments_of`)."""
    return int(tensor.value[1:].partition("_")[0]), tensor.consumers[0]


@dataclass(frozen=True, slots=True)
class State:
    """What a snapshot has: each node's parameter, or what was predicted so far."""

    parameters: tuple[tuple[int, str], ...]
    results: tuple[tuple[int, str], ...] = ()


class ExecutorMisused(Exception):  # noqa: N818 - it says what happened
    """The core asked for what a real executor could not have done."""


@dataclass(slots=True)
class SymbolicExecutor:
    """One loaded segment.

    Attributes:
        segment: what it runs.
        microbatches: of a training step.
        edges: of the whole graph; those with both ends in the segment need no boundary tensor.
        arrived: tensors that were sent to it and not used.
        kept: forwards that wait for their backward: each node's value.
        deferred: backwards whose weight gradients wait: where somebody waits for the gradient.
        done: every task, in order.
        most_in_flight: the most forwards that ever waited.
        results: microbatches whose results were given, in order.
        first: the position that it began at.
        parameters: each node's parameter's value.
        shared: values of foreign parameters by the edge's ends, as of step `shared_at`.
        sums: what each node's gradient of the step is made from so far.
    """

    segment: Segment
    microbatches: int
    edges: tuple[Edge, ...] = ()
    arrived: dict[TensorKey, str] = field(default_factory=dict)
    kept: dict[tuple[int, int], dict[int, str]] = field(default_factory=dict)
    deferred: dict[tuple[int, int], dict[int, str]] = field(default_factory=dict)
    done: list[Task] = field(default_factory=list)
    most_in_flight: int = 0
    results: dict[int, str] = field(default_factory=dict)
    first: int = 0
    parameters: dict[int, str] = field(init=False)
    shared: dict[Ends, str] = field(default_factory=dict)
    shared_at: int = 0
    sums: dict[int, list[str]] = field(init=False)

    def __post_init__(self) -> None:
        self.parameters = dict.fromkeys(self.segment.nodes, AS_SUBMITTED)
        self.sums = {node: [] for node in self.segment.nodes}

    def run(self, task: Task) -> list[Output]:
        """Run a task: what it takes must be here; returns what it sends.

        Raises:
            ExecutorMisused: a tensor is missing, or the order of calls is wrong.
        """
        outputs = list(getattr(self, f"_{task.kind.value}")(task))
        self.done.append(task)
        return outputs

    def steps_applied(self) -> list[int]:
        """Steps whose update was run, in order."""
        return [task.step for task in self.done if task.kind is TaskKind.UPDATE]

    def squared_norms(self) -> tuple[tuple[str, float], ...]:
        """Of the step's gradients: numbers that depend on them."""
        return tuple((f"w{node}", 1.0 + int(lineage(sums)[:6], 16))
                     for node, sums in self.sums.items())

    def state(self, position: int) -> State:
        """What a snapshot of a position has; it is taken when the segment is there."""
        kept = tuple((at, value) for at, value in self.results.items() if at < position)
        return State(tuple(self.parameters.items()), kept)

    def restore(self, states: Iterable[State], position: int) -> list[Output]:
        """Go on from snapshots that have the segment's state together.

        Returns:
            What others need who go on from there too.

        Raises:
            ExecutorMisused: a parameter is in none of them, or in two.
        """
        states = tuple(states)
        found = [item for state in states for item in state.parameters
                 if item[0] in self.parameters]
        if sorted(node for node, _ in found) != sorted(self.parameters):
            raise ExecutorMisused(f"segment {self.segment.index} is given {found}")
        self.first, self.parameters = position, {
            node: dict(found)[node] for node in self.segment.nodes}
        self.results = {at: value for state in states for at, value in state.results}
        return [] if self.results else list(self._shared_values(position))

    def _forward(self, task: Task) -> Iterator[Output]:
        passed = {ends_of(tensor): self._take(TensorKind.ACTIVATION, tensor, task)
                  for tensor in self._edges(False, BoundaryKind.ACTIVATION)}
        if self.shared_at != task.step:
            self.shared_at = task.step
            for tensor in self._edges(False, BoundaryKind.PARAMETER):
                key = (TensorKind.PARAMETER, tensor.edge, Mode.TRAIN, task.step, 0)
                self.shared[ends_of(tensor)] = self._take_key(key)
        values = self._node_values(task, passed)
        if task.mode is Mode.TRAIN:
            self.kept[task.step, task.microbatch] = values
            self.most_in_flight = max(self.most_in_flight, len(self.kept))
        if task.mode is Mode.INFER and self.segment.results:
            self._require(task.microbatch not in self.results, task)
            self.results[task.microbatch] = lineage(list(values.values()))
        for tensor in self._edges(True, BoundaryKind.ACTIVATION):
            yield (tensor.target, _key(TensorKind.ACTIVATION, tensor, task),
                   lineage(values[ends_of(tensor)[0]], ends_of(tensor)))

    def _node_values(self, task: Task, passed: Mapping[Ends, str]) -> dict[int, str]:
        """What each node makes of its inputs, of which those from outside have been passed."""
        values: dict[int, str] = {}
        within = self._within(shared=False)
        for node in self.segment.nodes:
            inputs = dict(passed) | {(source, node): lineage(values[source], (source, node))
                                     for source, target in within if target == node}
            values[node] = lineage(
                node, self.parameters[node], self._shared_with(node), str(task.mode), task.step,
                task.microbatch, sorted(item for item in inputs.items() if item[0][1] == node))
        return values

    def _shared_with(self, node: int) -> list[tuple[Ends, str]]:
        """Values of the foreign parameters that a node reads."""
        foreign = {ends_of(tensor): self.shared.get(
            ends_of(tensor), lineage(AS_SUBMITTED, ends_of(tensor)))
            for tensor in self._edges(False, BoundaryKind.PARAMETER)}
        own = {ends: lineage(self.parameters[ends[0]], ends)
               for ends in self._within(shared=True)}
        return sorted(item for item in (foreign | own).items() if item[0][1] == node)

    def _backward(self, task: Task) -> Iterator[Output]:
        at = task.step, task.microbatch
        self._require(next(iter(self.kept), None) == at, task)
        gradients = {ends_of(tensor): self._take(TensorKind.GRADIENT, tensor, task)
                     for tensor in self._edges(True, BoundaryKind.ACTIVATION)
                     if tensor.differentiable}
        kept, values = self.kept.pop(at), dict[int, str]()
        within = self._within(shared=False, gradient=True)
        for node in reversed(self.segment.nodes):
            values[node] = lineage(kept[node], sorted(
                item for item in gradients.items() if item[0][0] == node))
            gradients |= {ends: lineage(values[node], ends) for ends in within if ends[1] == node}
        back = [tensor for tensor in self._edges(False, BoundaryKind.ACTIVATION)
                if tensor.differentiable]
        if back:
            self.deferred[at] = values
        else:
            self._add(values)
        for tensor in back:
            yield (tensor.source, _key(TensorKind.GRADIENT, tensor, task),
                   lineage(values[ends_of(tensor)[1]], ends_of(tensor)))

    def has_deferred(self, task: Task) -> bool:
        """Whether the microbatch of a backward has weight gradients that wait."""
        return (task.step, task.microbatch) in self.deferred

    def _accumulate(self, task: Task) -> Iterator[Output]:
        at = task.step, task.microbatch
        self._require(next(iter(self.deferred), None) == at, task)
        self._add(self.deferred.pop(at))
        yield from ()

    def _add(self, values: Mapping[int, str]) -> None:
        for node, value in values.items():
            self.sums[node].append(value)

    def _collect(self, task: Task) -> Iterator[Output]:
        self._require(self._backwards(task.step) == self.microbatches, task)
        self._require(not self.deferred, task)
        for tensor in self._edges(False, BoundaryKind.PARAMETER):
            if tensor.differentiable:
                yield (tensor.source, _key(TensorKind.PARAMETER_GRADIENT, tensor, task),
                       self._shared_gradient(ends_of(tensor)))

    def _shared_gradient(self, ends: Ends) -> str:
        return lineage(self.sums[ends[1]], ends)

    def _measure(self, task: Task) -> Iterator[Output]:
        self._require(self._backwards(task.step) == self.microbatches and not self.kept, task)
        self._require(not self.deferred, task)
        given = {ends: self._shared_gradient(ends)
                 for ends in self._within(shared=True, gradient=True)}
        given |= {ends_of(tensor): self._take(TensorKind.PARAMETER_GRADIENT, tensor, task)
                  for tensor in self._edges(True, BoundaryKind.PARAMETER)
                  if tensor.differentiable}
        for ends, gradient in sorted(given.items()):
            self.sums[ends[0]].append(gradient)
        yield from ()

    def _update(self, task: Task) -> Iterator[Output]:
        last = self.done[-1] if self.done else None
        measured = last is not None and last.kind is TaskKind.MEASURE and last.step == task.step
        steps = list(range(self.first, task.step))
        self._require(measured and self.steps_applied() == steps, task)
        self.parameters = {node: lineage(value, self.sums[node], task.scale)
                           for node, value in self.parameters.items()}
        self.sums = {node: [] for node in self.segment.nodes}
        yield from self._shared_values(task.step + 1)

    def _shared_values(self, position: int) -> Iterator[Output]:
        for tensor in self._edges(True, BoundaryKind.PARAMETER):
            key = (TensorKind.PARAMETER, tensor.edge, Mode.TRAIN, position, 0)
            ends = ends_of(tensor)
            yield tensor.target, key, lineage(self.parameters[ends[0]], ends)

    def _backwards(self, step: int) -> int:
        return sum(t.kind is TaskKind.BACKWARD and t.step == step for t in self.done)

    def _edges(self, outgoing: bool, kind: BoundaryKind) -> list[BoundaryTensor]:
        tensors = self.segment.outgoing if outgoing else self.segment.incoming
        return [tensor for tensor in tensors if tensor.kind is kind]

    def _within(self, *, shared: bool, gradient: bool = False) -> list[Ends]:
        """Edges of a kind that lie inside the segment; with `gradient` those that one is sent."""
        own = self.segment.nodes
        return [(edge.source, edge.target) for edge in self.edges
                if edge.shared == shared and edge.source in own and edge.target in own
                and (edge.gradient or not gradient)]

    def _take(self, kind: TensorKind, tensor: BoundaryTensor, task: Task) -> str:
        return self._take_key(_key(kind, tensor, task))

    def _take_key(self, key: TensorKey) -> str:
        if key not in self.arrived:
            raise ExecutorMisused(f"segment {self.segment.index} lacks {key}")
        return self.arrived.pop(key)

    def _require(self, condition: bool, task: Task) -> None:
        if not condition:
            raise ExecutorMisused(f"segment {self.segment.index} cannot run {task} after "
                                  f"{self.done[-3:]}, keeping {self.kept}")


def _key(kind: TensorKind, tensor: BoundaryTensor, task: Task) -> TensorKey:
    return kind, tensor.edge, task.mode, task.step, task.microbatch
