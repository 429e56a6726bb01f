"""An executor without numbers: which tensors a task takes and gives, checked strictly."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from ir.segment import BoundaryKind, BoundaryTensor, Segment
from peer.core.dataflow import TensorKey
from peer.core.events import Task, TaskKind, TensorKind
from peer.core.phases import Mode

Output = tuple[int, TensorKey]
"""(target segment, tensor)"""


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
    """

    segment: Segment
    microbatches: int
    arrived: set[TensorKey] = field(default_factory=set)
    kept: list[tuple[int, int]] = field(default_factory=list)
    deferred: list[tuple[int, int]] = field(default_factory=list)
    done: list[Task] = field(default_factory=list)
    most_in_flight: int = 0
    results: list[int] = field(default_factory=list)

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

    def _forward(self, task: Task) -> Iterator[Output]:
        for tensor in self._edges(False, BoundaryKind.ACTIVATION):
            self._take(TensorKind.ACTIVATION, tensor, task)
        if task.microbatch == 0 and task.step > 0 and self._needs_parameters(task):
            for tensor in self._edges(False, BoundaryKind.PARAMETER):
                self._take_key((TensorKind.PARAMETER, tensor.edge, Mode.TRAIN, task.step, 0))
        if task.mode is Mode.TRAIN:
            self.kept.append((task.step, task.microbatch))
            self.most_in_flight = max(self.most_in_flight, len(self.kept))
        if task.mode is Mode.INFER and self.segment.results:
            self.results.append(task.microbatch)
        for tensor in self._edges(True, BoundaryKind.ACTIVATION):
            yield tensor.target, _key(TensorKind.ACTIVATION, tensor, task)

    def _backward(self, task: Task) -> Iterator[Output]:
        self._require(self.kept[:1] == [(task.step, task.microbatch)], task)
        self.kept.pop(0)
        for tensor in self._edges(True, BoundaryKind.ACTIVATION):
            if tensor.differentiable:
                self._take(TensorKind.GRADIENT, tensor, task)
        for tensor in self._edges(False, BoundaryKind.ACTIVATION):
            if tensor.differentiable:
                if not self.has_deferred(task):
                    self.deferred.append((task.step, task.microbatch))
                yield tensor.source, _key(TensorKind.GRADIENT, tensor, task)

    def has_deferred(self, task: Task) -> bool:
        """Whether the microbatch of a backward has weight gradients that wait."""
        return (task.step, task.microbatch) in self.deferred

    def _accumulate(self, task: Task) -> Iterator[Output]:
        self._require(self.deferred[:1] == [(task.step, task.microbatch)], task)
        self.deferred.pop(0)
        yield from ()

    def _collect(self, task: Task) -> Iterator[Output]:
        self._require(self._backwards(task.step) == self.microbatches, task)
        self._require(not self.deferred, task)
        for tensor in self._edges(False, BoundaryKind.PARAMETER):
            if tensor.differentiable:
                yield tensor.source, _key(TensorKind.PARAMETER_GRADIENT, tensor, task)

    def _measure(self, task: Task) -> Iterator[Output]:
        self._require(self._backwards(task.step) == self.microbatches and not self.kept, task)
        self._require(not self.deferred, task)
        for tensor in self._edges(True, BoundaryKind.PARAMETER):
            if tensor.differentiable:
                self._take(TensorKind.PARAMETER_GRADIENT, tensor, task)
        yield from ()

    def _update(self, task: Task) -> Iterator[Output]:
        last = self.done[-1] if self.done else None
        measured = last is not None and last.kind is TaskKind.MEASURE and last.step == task.step
        self._require(measured and self.steps_applied() == list(range(task.step)), task)
        for tensor in self._edges(True, BoundaryKind.PARAMETER):
            yield tensor.target, (TensorKind.PARAMETER, tensor.edge, Mode.TRAIN, task.step + 1, 0)

    def _backwards(self, step: int) -> int:
        return sum(t.kind is TaskKind.BACKWARD and t.step == step for t in self.done)

    def _needs_parameters(self, task: Task) -> bool:
        return not any(t.kind is TaskKind.FORWARD and t.step == task.step for t in self.done)

    def _edges(self, outgoing: bool, kind: BoundaryKind) -> list[BoundaryTensor]:
        tensors = self.segment.outgoing if outgoing else self.segment.incoming
        return [tensor for tensor in tensors if tensor.kind is kind]

    def _take(self, kind: TensorKind, tensor: BoundaryTensor, task: Task) -> None:
        self._take_key(_key(kind, tensor, task))

    def _take_key(self, key: TensorKey) -> None:
        if key not in self.arrived:
            raise ExecutorMisused(f"segment {self.segment.index} lacks {key}")
        self.arrived.remove(key)

    def _require(self, condition: bool, task: Task) -> None:
        if not condition:
            raise ExecutorMisused(f"segment {self.segment.index} cannot run {task} after "
                                  f"{self.done[-3:]}, keeping {self.kept}")


def _key(kind: TensorKind, tensor: BoundaryTensor, task: Task) -> TensorKey:
    return kind, tensor.edge, task.mode, task.step, task.microbatch
