"""Which task a running segment can do next: event-driven dataflow with 1F1B's memory bound.

A task is ready when its inputs are there. Backward goes before forward; both go in microbatch
order, so sums over microbatches have one order; at most `in_flight` microbatches are between
forward and retirement. That is 1F1B (Narayanan et al. 2021, arXiv:2104.04473, section 2.2) stated
as a local rule, which holds for any DAG of segments. Where no gradient comes back (evaluation,
inference, integer tensors) an acknowledgement retires the microbatch, so back-pressure is the same
everywhere. Weight gradients, which no other segment waits for, may follow later (Qi et al. 2023,
arXiv:2401.10241, section 2): when there is nothing better to do, or when too many wait.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import fsum

from dag.schedule import DEFERRED_MICROBATCHES_MAX
from ir.segment import BoundaryKind, BoundaryTensor, Segment
from peer.core.events import Task, TaskKind, TensorKind
from peer.core.phases import Mode, Phase, PhaseOrder

TensorKey = tuple[TensorKind, int, Mode, int, int]
"""(kind, edge, mode, step, microbatch); step-wide tensors have mode train and microbatch 0."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """What a segment cannot go on without.

    Attributes:
        what: for people, names the tensor.
        segment: the segment that owes it.
    """

    what: str
    segment: int


@dataclass(slots=True)
class SegmentRun:
    """Progress of one segment through the phases of its job. Mutable; owned by `machine.Peer`."""

    segment: Segment
    order: PhaseOrder
    in_flight: int
    segments: int
    phase: Phase | None
    arrived: set[TensorKey] = field(default_factory=set)
    """Tensors that are here and not used yet. Asked for membership only, never iterated."""
    forwarded: int = 0
    retired: int = 0
    deferred: list[int] = field(default_factory=list)
    """Microbatches whose backward left weight gradients for later, oldest first."""
    losses: list[float] = field(default_factory=list)
    collected: bool = False
    measured: bool = False
    scale: float | None = None
    """Factor on the gradients of the current step, once the lead has decided it."""

    @classmethod
    def begin(
        cls, segment: Segment, order: PhaseOrder, in_flight: int, segments: int, position: int = 0
    ) -> SegmentRun:
        """A run at a position, of a job with so many segments."""
        run = cls(segment, order, max(1, in_flight), segments, order.at(position))
        if run.phase is not None and run.phase.mode is Mode.INFER:
            run.forwarded = run.retired = position
        return run

    def edges(self, outgoing: bool, kind: BoundaryKind) -> tuple[BoundaryTensor, ...]:
        """The segment's boundary tensors of one direction and kind, in edge order."""
        tensors = self.segment.outgoing if outgoing else self.segment.incoming
        return tuple(tensor for tensor in tensors if tensor.kind is kind)


def next_action(run: SegmentRun) -> Task | Waiting | None:
    """What the segment can do now, what it waits for, or None when all phases are done."""
    phase = run.phase
    if phase is None:
        return None
    if run.deferred and (
        run.retired == phase.microbatches or len(run.deferred) > DEFERRED_MICROBATCHES_MAX
    ):
        return _accumulate(run, phase)
    if phase.mode is Mode.TRAIN and run.retired == phase.microbatches:
        return _step_end(run, phase)
    action = _exchange(run, phase)
    return _accumulate(run, phase) if isinstance(action, Waiting) and run.deferred else action


def _accumulate(run: SegmentRun, phase: Phase) -> Task:
    """The oldest deferred weight gradients: in microbatch order, so the sums have one order."""
    return Task(
        kind=TaskKind.ACCUMULATE, mode=phase.mode, step=phase.step, microbatch=run.deferred[0]
    )


def _exchange(run: SegmentRun, phase: Phase) -> Task | Waiting:
    """The task that neighbours wait for: backward before forward."""
    backward = _retirement(run, phase)
    if isinstance(backward, Task):
        return backward
    if run.forwarded == phase.microbatches or run.forwarded - run.retired >= run.in_flight:
        return backward
    return _forward(run, phase)


def _retirement(run: SegmentRun, phase: Phase) -> Task | Waiting:
    """Backward of the oldest microbatch in flight, or what it waits for."""
    if run.retired == run.forwarded:
        return Waiting("its own forward", run.segment.index)
    for key, tensor in _returns(run, phase, run.retired):
        if key not in run.arrived:
            return Waiting(_describe(key, tensor), tensor.target)
    return Task(
        kind=TaskKind.BACKWARD, mode=phase.mode, step=phase.step, microbatch=run.retired
    )


def _forward(run: SegmentRun, phase: Phase) -> Task | Waiting:
    for key, tensor in _needs(run, phase, run.forwarded):
        if key not in run.arrived:
            return Waiting(_describe(key, tensor), tensor.source)
    return Task(
        kind=TaskKind.FORWARD, mode=phase.mode, step=phase.step, microbatch=run.forwarded
    )


def _step_end(run: SegmentRun, phase: Phase) -> Task | Waiting:
    """Collect foreign gradients, measure, wait for the scale, update."""
    step = phase.step
    foreign = run.edges(False, BoundaryKind.PARAMETER)
    if not run.collected and any(tensor.differentiable for tensor in foreign):
        return Task(kind=TaskKind.COLLECT, mode=Mode.TRAIN, step=step)
    if not run.measured:
        for tensor in run.edges(True, BoundaryKind.PARAMETER):
            key = (TensorKind.PARAMETER_GRADIENT, tensor.edge, Mode.TRAIN, step, 0)
            if tensor.differentiable and key not in run.arrived:
                return Waiting(_describe(key, tensor), tensor.target)
        return Task(kind=TaskKind.MEASURE, mode=Mode.TRAIN, step=step)
    if run.scale is None:
        return Waiting(f"the gradient scale of step {step}", 0)
    return Task(kind=TaskKind.UPDATE, mode=Mode.TRAIN, step=step, scale=run.scale)


def _needs(
    run: SegmentRun, phase: Phase, microbatch: int
) -> list[tuple[TensorKey, BoundaryTensor]]:
    """Tensors that a forward reads. Step-wide parameters of step 0 came with the blobs."""
    needs: list[tuple[TensorKey, BoundaryTensor]] = []
    for tensor in run.segment.incoming:
        if tensor.kind is BoundaryKind.ACTIVATION:
            key = (TensorKind.ACTIVATION, tensor.edge, phase.mode, phase.step, microbatch)
            needs.append((key, tensor))
        elif phase.step > 0:
            needs.append(
                ((TensorKind.PARAMETER, tensor.edge, Mode.TRAIN, phase.step, 0), tensor)
            )
    return needs


def _returns(
    run: SegmentRun, phase: Phase, microbatch: int
) -> list[tuple[TensorKey, BoundaryTensor]]:
    """What must come back for a microbatch before it is retired."""
    returns: list[tuple[TensorKey, BoundaryTensor]] = []
    for tensor in run.edges(True, BoundaryKind.ACTIVATION):
        kind = TensorKind.ACKNOWLEDGE if is_acknowledged(tensor, phase) else TensorKind.GRADIENT
        returns.append(((kind, tensor.edge, phase.mode, phase.step, microbatch), tensor))
    return returns


def is_acknowledged(tensor: BoundaryTensor, phase: Phase) -> bool:
    """Whether the consumer answers an activation with an acknowledgement, not a gradient."""
    return phase.mode is not Mode.TRAIN or not tensor.differentiable


def finish_task(
    run: SegmentRun, task: Task, loss: float | None, *, has_deferred: bool = False
) -> None:
    """Account for a finished task: what it used is gone, what it did is done."""
    phase = run.phase
    assert phase is not None
    assert (phase.mode, phase.step) == (task.mode, task.step)
    if task.kind is TaskKind.FORWARD:
        for key, tensor in _needs(run, phase, task.microbatch):
            if tensor.kind is BoundaryKind.ACTIVATION:
                run.arrived.discard(key)
        run.forwarded += 1
        if loss is not None:
            run.losses.append(loss)
    elif task.kind is TaskKind.BACKWARD:
        for key, _ in _returns(run, phase, task.microbatch):
            run.arrived.discard(key)
        run.retired += 1
        if has_deferred:
            run.deferred.append(task.microbatch)
    elif task.kind is TaskKind.ACCUMULATE:
        run.deferred.remove(task.microbatch)
    elif task.kind is TaskKind.COLLECT:
        run.collected = True
    elif task.kind is TaskKind.MEASURE:
        for tensor in run.edges(True, BoundaryKind.PARAMETER):
            run.arrived.discard(
                (TensorKind.PARAMETER_GRADIENT, tensor.edge, Mode.TRAIN, task.step, 0)
            )
        run.measured = True


def free_retirement(run: SegmentRun) -> Task | None:
    """A backward that needs no executor, if due: only training keeps what to differentiate."""
    if run.phase is None or run.phase.mode is Mode.TRAIN:
        return None
    action = next_action(run)
    return action if isinstance(action, Task) and action.kind is TaskKind.BACKWARD else None


def end_phase(run: SegmentRun) -> tuple[Phase, float | None]:
    """Close the current phase and move to the next.

    Returns:
        The phase that ended, and the mean loss over its microbatches where the segment has it. The
        mean is `fsum / n`, exact in the sum, so it does not depend on the machine.
    """
    phase = run.phase
    assert phase is not None
    loss = fsum(run.losses) / len(run.losses) if run.losses else None
    for tensor in run.edges(False, BoundaryKind.PARAMETER):
        if phase.mode is Mode.TRAIN:
            run.arrived.discard((TensorKind.PARAMETER, tensor.edge, Mode.TRAIN, phase.step, 0))
    run.phase = run.order.after(phase)
    run.forwarded = run.retired = 0
    run.losses = []
    run.collected = run.measured = False
    run.scale = None
    if run.phase is None:
        run.arrived.clear()  # the last update sends parameters that no forward will use
    return phase, loss


def is_phase_over(run: SegmentRun) -> bool:
    """Whether a phase without an update has nothing left to do."""
    phase = run.phase
    return (
        phase is not None
        and phase.mode is not Mode.TRAIN
        and run.retired == phase.microbatches
    )


def _describe(key: TensorKey, tensor: BoundaryTensor) -> str:
    kind, edge, mode, step, microbatch = key
    where = f"edge {edge}, {mode} step {step}"
    if kind not in (TensorKind.PARAMETER, TensorKind.PARAMETER_GRADIENT):
        where += f", microbatch {microbatch}"
    return f"{kind} of '{tensor.value}' ({where})"
