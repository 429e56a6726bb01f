"""What becomes of something that a neighbour sent: taken, dropped, held, or refused.

After a takeover neighbours send again what they sent before, and a replayed segment runs behind
them. So what was here before is dropped without a word, and what is too early waits: its link
brings nothing more until it is taken, which bounds what a neighbour can make us hold. Replay over
ordered links cannot deadlock by that (docs/adr/0026-takeover.md, "Arrivals"). Only what no correct
neighbour ever sends is refused.
"""

from __future__ import annotations

from enum import StrEnum

from ir.graph import TRAIN
from ir.segment import LEAD, BoundaryKind, BoundaryTensor, Segment
from peer.core.clipping import NormGathering
from peer.core.dataflow import SegmentRun, TensorKey, is_acknowledged
from peer.core.events import NormsReceived, ScaleReceived, TensorKind, TensorReceived
from peer.core.phases import Mode, Phase
from peer.core.state import Arrival, LeasePhase, LeaseRecord

HELD_MAX = 1_024
"""Arrivals that may wait at once: one for each link, and links are bounded by a job's segments."""


class Verdict(StrEnum):
    """What to do with an arrival."""

    TAKE = "take"
    DROP = "drop"
    HOLD = "hold"
    REFUSE = "refuse"


def judge(lease: LeaseRecord, arrival: Arrival) -> Verdict:
    """Judge anything that came for a lease. Before the lease runs nothing is taken yet."""
    run, clips = lease.run, lease.assignment.spec.training.clip_norm > 0
    is_lead = lease.segment == LEAD
    match arrival:
        case TensorReceived():
            verdict = judge_tensor(run, key_of(arrival))
        case NormsReceived():
            verdict = judge_norms(
                run, lease.gathering, arrival.step, arrival.source, is_asked=clips and is_lead)
        case ScaleReceived():
            verdict = judge_scale(
                run, arrival.step, arrival.scale, is_asked=clips and not is_lead)
    is_early = lease.phase in (LeasePhase.LOADING, LeasePhase.READY)
    return Verdict.HOLD if is_early and verdict is Verdict.TAKE else verdict


def key_of(arrival: TensorReceived) -> TensorKey:
    """Which tensor it is."""
    return arrival.kind, arrival.edge, arrival.mode, arrival.step, arrival.microbatch


def same(one: Arrival, other: Arrival) -> bool:
    """Whether two arrivals are the same thing, sent twice."""
    match one, other:
        case TensorReceived(), TensorReceived():
            return key_of(one) == key_of(other)
        case NormsReceived(), NormsReceived():
            return (one.source, one.step) == (other.source, other.step)
        case ScaleReceived(), ScaleReceived():
            return one.step == other.step
    return False


def described(arrival: Arrival) -> str:
    """What arrived, for people."""
    match arrival:
        case NormsReceived():
            return f"norms of step {arrival.step} from segment {arrival.source}"
        case ScaleReceived():
            return f"a gradient scale of {arrival.scale} for step {arrival.step}"
    return (f"{arrival.kind} of edge {arrival.edge}, {arrival.mode} step {arrival.step}, "
            f"microbatch {arrival.microbatch},")


def sender_of(lease: LeaseRecord, arrival: Arrival) -> int:
    """The segment that an arrival came from; -1 if nobody sends such a thing."""
    match arrival:
        case NormsReceived():
            return arrival.source
        case ScaleReceived():
            return LEAD
    tensor = tensor_of(lease.run.segment, key_of(arrival))
    ends = () if tensor is None else (tensor.source, tensor.target)
    return next((end for end in ends if end != lease.segment), -1)


def tensor_of(segment: Segment, key: TensorKey) -> BoundaryTensor | None:
    """The segment's boundary tensor that an arriving tensor claims to be of; None if none is."""
    kind, edge = key[:2]
    arrives = kind in (TensorKind.ACTIVATION, TensorKind.PARAMETER)
    tensors = segment.incoming if arrives else segment.outgoing
    wide = kind in (TensorKind.PARAMETER, TensorKind.PARAMETER_GRADIENT)
    wanted = BoundaryKind.PARAMETER if wide else BoundaryKind.ACTIVATION
    return next((t for t in tensors if t.edge == edge and t.kind is wanted), None)


def judge_tensor(run: SegmentRun, key: TensorKey) -> Verdict:
    """Judge a tensor by its key alone."""
    tensor = tensor_of(run.segment, key)
    if tensor is None or not _exists(run, key, tensor):
        return Verdict.REFUSE
    return Verdict.DROP if key in run.arrived else when_due(run, key, tensor)


def when_due(run: SegmentRun, key: TensorKey, tensor: BoundaryTensor) -> Verdict:
    """Whether a tensor of the job is due now (TAKE), was before (DROP), or will be (HOLD)."""
    if run.phase is None:
        return Verdict.DROP
    if key[0] in (TensorKind.PARAMETER, TensorKind.PARAMETER_GRADIENT):
        return _judge_wide(run, run.phase, key, tensor)
    return _judge_microbatch(run, run.phase, key)


def _exists(run: SegmentRun, key: TensorKey, tensor: BoundaryTensor) -> bool:
    """Whether the job has such a tensor at any time."""
    kind, _, mode, step, microbatch = key
    if kind in (TensorKind.PARAMETER, TensorKind.PARAMETER_GRADIENT):
        first = int(kind is TensorKind.PARAMETER)  # those of step 0 come with the blobs
        is_due_back = kind is TensorKind.PARAMETER or tensor.differentiable
        last = run.order.steps if kind is TensorKind.PARAMETER else run.order.steps - 1
        is_train = run.order.kind == TRAIN and mode is Mode.TRAIN
        return is_train and microbatch == 0 and is_due_back and first <= step <= last
    phase = run.order.phase(mode, step)
    if phase is None or not 0 <= microbatch < phase.microbatches:
        return False
    if kind is TensorKind.ACTIVATION:
        return True
    return (kind is TensorKind.ACKNOWLEDGE) == is_acknowledged(tensor, phase)


def _judge_microbatch(run: SegmentRun, phase: Phase, key: TensorKey) -> Verdict:
    """Judge an activation or an answer to one.

    Activations come for the current phase and the next: the producer leaves a phase when all its
    microbatches were answered. Answers come for microbatches in flight, the one whose forward is
    just being run included: its tensors leave before its end is known here.
    """
    kind, _, mode, step, microbatch = key
    there, here = _place(mode, step), _place(phase.mode, phase.step)
    if there < here:
        return Verdict.DROP
    if kind is TensorKind.ACTIVATION:
        if there > here:
            following = run.order.after(phase)
            is_next = following is not None and there == _place(following.mode, following.step)
            return Verdict.TAKE if is_next else Verdict.HOLD
        return Verdict.DROP if microbatch < run.forwarded else Verdict.TAKE
    if there > here:
        return Verdict.HOLD
    if microbatch < run.retired:
        return Verdict.DROP
    return Verdict.TAKE if microbatch <= run.forwarded else Verdict.HOLD


def _judge_wide(
    run: SegmentRun, phase: Phase, key: TensorKey, tensor: BoundaryTensor
) -> Verdict:
    kind, _, _, step, _ = key
    if step < phase.step:
        return Verdict.DROP
    if kind is TensorKind.PARAMETER_GRADIENT:
        if step > phase.step:
            return Verdict.HOLD
        return Verdict.DROP if run.measured else Verdict.TAKE
    ahead = 1 if tensor.differentiable else run.segments
    return Verdict.TAKE if step <= phase.step + ahead else Verdict.HOLD


def _place(mode: Mode, step: int) -> tuple[int, int]:
    """Sorts the phases of a job as they are run: evaluation before training of the same step."""
    return step, int(mode is Mode.TRAIN)


def judge_norms(
    run: SegmentRun, gathering: NormGathering, step: int, source: int, *, is_asked: bool
) -> Verdict:
    """Judge another segment's norms; `is_asked`: this is the lead of a job that clips.

    A segment measures step `s` when it knows the scale of `s - 1`; the lead may still be busy with
    the update of `s - 1` then.
    """
    if not is_asked or not 0 < source < gathering.segments or not 0 <= step < run.order.steps:
        return Verdict.REFUSE
    if run.phase is None or step < run.phase.step or gathering.has(step, source):
        return Verdict.DROP
    if step == run.phase.step and run.scale is not None:
        return Verdict.DROP
    return Verdict.TAKE if step <= run.phase.step + 1 else Verdict.HOLD


def judge_scale(run: SegmentRun, step: int, scale: float, *, is_asked: bool) -> Verdict:
    """Judge a gradient factor; `is_asked`: this is not the lead, of a job that clips."""
    is_factor = 0 <= scale <= 1  # false for NaN, too
    if not is_asked or not is_factor or not 0 <= step < run.order.steps:
        return Verdict.REFUSE
    if run.phase is None or step < run.phase.step:
        return Verdict.DROP
    if step > run.phase.step or not run.measured:
        return Verdict.HOLD
    return Verdict.TAKE if run.scale is None else Verdict.DROP
