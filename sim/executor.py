"""An executor whose numbers are lineages: a value is named by all that went into it.

Two segments in the same state have applied the same updates, in the same order, to the same inputs.
Which tensors a task takes and gives is checked strictly.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any

from ir.segment import BoundaryKind, BoundaryTensor, Segment
from peer.core.dataflow import TensorKey
from peer.core.events import Task, TaskKind, TensorKind
from peer.core.phases import Mode

Output = tuple[int, TensorKey, str]
"""(target segment, tensor, its value)"""


def lineage(*parts: Any) -> str:
    """The name of a value that was made from others."""
    return blake2b(repr(parts).encode(), digest_size=8).hexdigest()


@dataclass(frozen=True, slots=True)
class State:
    """What a snapshot has: parameters, or what was predicted so far."""

    parameters: str
    results: tuple[tuple[int, str], ...] = ()


class ExecutorMisused(Exception):  # noqa: N818 - it says what happened
    """The core asked for what a real executor could not have done."""


@dataclass(slots=True)
class SymbolicExecutor:
    """One loaded segment.

    Attributes:
        segment: what it runs.
        microbatches: of a training step.
        arrived: tensors that were sent to it and not used.
        kept: forwards that wait for their backward.
        deferred: backwards whose weight gradients wait: where somebody waits for the gradient.
        done: every task, in order.
        most_in_flight: the most forwards that ever waited.
        results: microbatches whose results were given, in order.
        first: the position that it began at.
        parameters: their value.
        shared: values of foreign parameters by edge, as of step `shared_at`.
        sums: what the step's gradients are made from so far.
    """

    segment: Segment
    microbatches: int
    arrived: dict[TensorKey, str] = field(default_factory=dict)
    kept: dict[tuple[int, int], str] = field(default_factory=dict)
    deferred: dict[tuple[int, int], str] = field(default_factory=dict)
    done: list[Task] = field(default_factory=list)
    most_in_flight: int = 0
    results: dict[int, str] = field(default_factory=dict)
    first: int = 0
    parameters: str = "as submitted"
    shared: dict[int, str] = field(default_factory=dict)
    shared_at: int = 0
    sums: list[str] = field(default_factory=list)

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

    def squared_norm(self) -> float:
        """Of the step's gradients: a number that depends on them."""
        return 1.0 + int(lineage(self.sums)[:6], 16)

    def state(self, position: int) -> State:
        """What a snapshot of a position has; it is taken when the segment is there."""
        kept = tuple((at, value) for at, value in self.results.items() if at < position)
        return State(self.parameters, kept)

    def restore(self, state: State, position: int) -> list[Output]:
        """Go on from a snapshot; returns what others need who go on from there too."""
        self.first, self.parameters = position, state.parameters
        self.results = dict(state.results)
        return [] if self.results else list(self._shared_values(position))

    def _forward(self, task: Task) -> Iterator[Output]:
        inputs = [self._take(TensorKind.ACTIVATION, tensor, task)
                  for tensor in self._edges(False, BoundaryKind.ACTIVATION)]
        if self.shared_at != task.step:
            self.shared_at = task.step
            for tensor in self._edges(False, BoundaryKind.PARAMETER):
                key = (TensorKind.PARAMETER, tensor.edge, Mode.TRAIN, task.step, 0)
                self.shared[tensor.edge] = self._take_key(key)
        value = lineage(self.segment.index, self.parameters, self.shared, str(task.mode),
                        task.step, task.microbatch, inputs)
        if task.mode is Mode.TRAIN:
            self.kept[task.step, task.microbatch] = value
            self.most_in_flight = max(self.most_in_flight, len(self.kept))
        if task.mode is Mode.INFER and self.segment.results:
            self._require(task.microbatch not in self.results, task)
            self.results[task.microbatch] = value
        for tensor in self._edges(True, BoundaryKind.ACTIVATION):
            yield (tensor.target, _key(TensorKind.ACTIVATION, tensor, task),
                   lineage(value, tensor.edge))

    def _backward(self, task: Task) -> Iterator[Output]:
        at = task.step, task.microbatch
        self._require(next(iter(self.kept), None) == at, task)
        gradients = [self._take(TensorKind.GRADIENT, tensor, task)
                     for tensor in self._edges(True, BoundaryKind.ACTIVATION)
                     if tensor.differentiable]
        value = lineage(self.kept.pop(at), gradients)
        back = [tensor for tensor in self._edges(False, BoundaryKind.ACTIVATION)
                if tensor.differentiable]
        if back:
            self.deferred[at] = value
        else:
            self.sums.append(value)
        for tensor in back:
            yield (tensor.source, _key(TensorKind.GRADIENT, tensor, task),
                   lineage(value, tensor.edge))

    def has_deferred(self, task: Task) -> bool:
        """Whether the microbatch of a backward has weight gradients that wait."""
        return (task.step, task.microbatch) in self.deferred

    def _accumulate(self, task: Task) -> Iterator[Output]:
        at = task.step, task.microbatch
        self._require(next(iter(self.deferred), None) == at, task)
        self.sums.append(self.deferred.pop(at))
        yield from ()

    def _collect(self, task: Task) -> Iterator[Output]:
        self._require(self._backwards(task.step) == self.microbatches, task)
        self._require(not self.deferred, task)
        for tensor in self._edges(False, BoundaryKind.PARAMETER):
            if tensor.differentiable:
                yield (tensor.source, _key(TensorKind.PARAMETER_GRADIENT, tensor, task),
                       lineage(self.sums, tensor.edge))

    def _measure(self, task: Task) -> Iterator[Output]:
        self._require(self._backwards(task.step) == self.microbatches and not self.kept, task)
        self._require(not self.deferred, task)
        for tensor in self._edges(True, BoundaryKind.PARAMETER):
            if tensor.differentiable:
                self.sums.append(self._take(TensorKind.PARAMETER_GRADIENT, tensor, task))
        yield from ()

    def _update(self, task: Task) -> Iterator[Output]:
        last = self.done[-1] if self.done else None
        measured = last is not None and last.kind is TaskKind.MEASURE and last.step == task.step
        steps = list(range(self.first, task.step))
        self._require(measured and self.steps_applied() == steps, task)
        self.parameters = lineage(self.parameters, self.sums, task.scale)
        self.sums = []
        yield from self._shared_values(task.step + 1)

    def _shared_values(self, position: int) -> Iterator[Output]:
        for tensor in self._edges(True, BoundaryKind.PARAMETER):
            key = (TensorKind.PARAMETER, tensor.edge, Mode.TRAIN, position, 0)
            yield tensor.target, key, lineage(self.parameters, tensor.edge)

    def _backwards(self, step: int) -> int:
        return sum(t.kind is TaskKind.BACKWARD and t.step == step for t in self.done)

    def _edges(self, outgoing: bool, kind: BoundaryKind) -> list[BoundaryTensor]:
        tensors = self.segment.outgoing if outgoing else self.segment.incoming
        return [tensor for tensor in tensors if tensor.kind is kind]

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
