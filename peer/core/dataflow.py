"""Which task a running segment can do next: event-driven dataflow with 1F1B's memory bound.

A task is ready when its inputs are there. Backward goes before forward; both go in microbatch
order, so sums over microbatches have one order; at most `in_flight` microbatches are between
forward and retirement. That is 1F1B (Narayanan et al. 2021, arXiv:2104.04473, section 2.2) stated
as a local rule, which holds for any DAG of segments. Where no gradient comes back (evaluation,
integer tensors) an acknowledgement retires the microbatch, so back-pressure is the same everywhere.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import fsum

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
    phase: Phase | None
    arrived: set[TensorKey] = field(default_factory=set)
    """Tensors that are here and not used yet. Asked for membership only, never iterated."""
    forwarded: int = 0
    retired: int = 0
    losses: list[float] = field(default_factory=list)
    collected: bool = False
    measured: bool = False
    scales: dict[int, float] = field(default_factory=dict)
    """step -> factor on its gradients, as the lead decided it."""

    @classmethod
    def begin(cls, segment: Segment, order: PhaseOrder, in_flight: int) -> SegmentRun:
        """A run that has done nothing yet."""
        return cls(segment, order, max(1, in_flight), order.first())

    def edges(self, outgoing: bool, kind: BoundaryKind) -> tuple[BoundaryTensor, ...]:
        """The segment's boundary tensors of one direction and kind, in edge order."""
        tensors = self.segment.outgoing if outgoing else self.segment.incoming
        return tuple(tensor for tensor in tensors if tensor.kind is kind)


def next_action(run: SegmentRun) -> Task | Waiting | None:
    """What the segment can do now, what it waits for, or None when all phases are done."""
    phase = run.phase
    if phase is None:
        return None
    if phase.mode is Mode.TRAIN and run.retired == phase.microbatches:
        return _step_end(run, phase)
    backward = _retirement(run, phase)
    if isinstance(backward, Task):
        return backward
    if run.forwarded == phase.microbatches or run.forwarded - run.retired >= run.in_flight:
        return backward
    return _forward(run, phase)


def _retirement(run: SegmentRun, phase: Phase) -> Task | Waiting:
    """Backward of the oldest microbatch in flight, or what it waits for."""
    task = Task(
        kind=TaskKind.BACKWARD, mode=phase.mode, step=phase.step, microbatch=run.retired
    )
    if run.retired == run.forwarded:
        return Waiting("its own forward", run.segment.index)
    for key, tensor in _returns(run, phase, run.retired):
        if key not in run.arrived:
            return Waiting(_describe(key, tensor), tensor.target)
    return task


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
    if step not in run.scales:
        return Waiting(f"the gradient scale of step {step}", 0)
    return Task(kind=TaskKind.UPDATE, mode=Mode.TRAIN, step=step, scale=run.scales[step])


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
    return phase.mode is Mode.EVALUATE or not tensor.differentiable


def accept(run: SegmentRun, key: TensorKey) -> str | None:
    """Note that a tensor arrived.

    Returns:
        None, or why it is not acceptable: unknown edge, wrong direction, repeated, out of range, or
        further ahead than a correct neighbour can be. Bounds what a neighbour can make us hold.
    """
    problem = _problem(run, key)
    if problem is None:
        run.arrived.add(key)
    return problem


def _problem(run: SegmentRun, key: TensorKey) -> str | None:
    kind, edge, mode, step, microbatch = key
    arrives = kind in (TensorKind.ACTIVATION, TensorKind.PARAMETER)
    tensors = run.segment.incoming if arrives else run.segment.outgoing
    wide = kind in (TensorKind.PARAMETER, TensorKind.PARAMETER_GRADIENT)
    wanted = BoundaryKind.PARAMETER if wide else BoundaryKind.ACTIVATION
    if not any(tensor.edge == edge and tensor.kind is wanted for tensor in tensors):
        return f"{kind} of edge {edge} does not belong to segment {run.segment.index}"
    if key in run.arrived:
        return f"{kind} of edge {edge}, step {step}, microbatch {microbatch} came twice"
    if run.phase is None or not run.phase.step <= step <= run.phase.step + 1:
        return f"{kind} of edge {edge} is of step {step}, which is not due"
    limit = run.order.microbatches if mode is Mode.TRAIN else run.order.evaluation_microbatches
    if not 0 <= microbatch < (1 if wide else limit):
        return f"{kind} of edge {edge} has microbatch {microbatch} of {limit}"
    return None


def finish_task(run: SegmentRun, task: Task, loss: float | None) -> None:
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
    elif task.kind is TaskKind.COLLECT:
        run.collected = True
    elif task.kind is TaskKind.MEASURE:
        for tensor in run.edges(True, BoundaryKind.PARAMETER):
            run.arrived.discard(
                (TensorKind.PARAMETER_GRADIENT, tensor.edge, Mode.TRAIN, task.step, 0)
            )
        run.measured = True


def free_retirement(run: SegmentRun) -> Task | None:
    """A backward that needs no executor, if due: evaluation keeps nothing to differentiate."""
    action = next_action(run)
    is_free = (
        isinstance(action, Task)
        and action.kind is TaskKind.BACKWARD
        and action.mode is Mode.EVALUATE
    )
    return action if is_free and isinstance(action, Task) else None


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
    run.scales.pop(phase.step, None)
    return phase, loss


def is_phase_over(run: SegmentRun) -> bool:
    """Whether an evaluation phase has nothing left to do (training phases end with an update)."""
    phase = run.phase
    return (
        phase is not None
        and phase.mode is Mode.EVALUATE
        and run.retired == phase.microbatches
    )


def _describe(key: TensorKey, tensor: BoundaryTensor) -> str:
    kind, edge, mode, step, microbatch = key
    where = f"edge {edge}, {mode} step {step}"
    if kind not in (TensorKind.PARAMETER, TensorKind.PARAMETER_GRADIENT):
        where += f", microbatch {microbatch}"
    return f"{kind} of '{tensor.value}' ({where})"
