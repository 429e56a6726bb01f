"""What peers report about their segments: numbered, fenced, applied once, in order.

Three guards come before any change of state: the number (a repeat is acknowledged and otherwise
ignored), the token (a stale one changes nothing, I3), and the step counter of the segment (a step
counts once and none is skipped, I4). A report that contradicts the segment's own history fails the
job: going on would hide lost or doubled work.
"""

from __future__ import annotations

from dataclasses import replace
from math import isfinite

from broker.core import failures, limits, losses, membership, pace, pool, snapshots, takeover
from broker.core.commands import AcknowledgeReports
from broker.core.events import (
    EvaluationDone,
    NeighbourLost,
    PeerReport,
    SegmentFailed,
    SegmentFinished,
    SegmentPace,
    SegmentReady,
    SegmentReleased,
    SnapshotStored,
    StandbyReady,
    StepsDone,
)
from broker.core.jobs import (
    fail,
    known_code,
    start_when_ready,
    succeed_when_finished,
)
from broker.core.leases import count_steps, find, release_revoked
from broker.core.state import (
    STARTED,
    EvaluationRecord,
    JobRecord,
    JobState,
    LeasePhase,
    LeaseRecord,
    PeerRecord,
    Turn,
)
from dag.cluster import problem_with_corrections
from homespun.errors import Code
from homespun.ids import is_digest

AnyReport = (
    SegmentReady | StepsDone | EvaluationDone | SegmentFailed | SegmentFinished | SegmentReleased
    | SnapshotStored | NeighbourLost | StandbyReady | SegmentPace
)


def reported(turn: Turn, event: AnyReport) -> None:
    """Apply one report and acknowledge it."""
    peer = turn.state.peers.get(event.peer_id)
    if peer is None:
        turn.note(event.peer_id, "report_ignored", f"{event.peer_id} never connected.")
        return
    peer.last_seen_ns = turn.now_ns
    if event.number > peer.last_report:
        peer.last_report = event.number
        _apply(turn, peer, event)
    turn.emit(AcknowledgeReports(peer_id=peer.peer_id, through_number=peer.last_report))


def _apply(turn: Turn, peer: PeerRecord, event: AnyReport) -> None:
    lease = find(peer, event.job_id, event.segment, event.token)
    if isinstance(event, SegmentReleased):
        _released(turn, peer, lease)
        return
    if isinstance(event, StandbyReady):
        job = pool.prepared(turn, peer, event)
        if job is not None:
            pace.move_the_slowest(turn, job)
        return
    if lease is None or lease.phase is LeasePhase.REVOKED:
        text = (f"{type(event).__name__} of {peer.label} for segment {event.segment} of "
                f"{event.job_id}: token {event.token} is stale.")
        turn.note(peer.peer_id, "stale_token", text)
        return
    job = turn.state.jobs[lease.job_id]
    match event:
        case SegmentReady():
            _ready(turn, job, lease)
        case StepsDone():
            _steps_done(turn, job, lease, peer, event)
        case EvaluationDone():
            _evaluation_done(turn, job, lease, peer, event)
        case SegmentFailed():
            _failed(turn, job, lease, peer, event)
        case SegmentFinished():
            _finished(turn, job, lease, peer, event)
        case SnapshotStored():
            # Of any phase: a segment that moves tells of the snapshot that it begins with.
            if job.state in STARTED:
                snapshots.stored(turn, job, lease, event)
                pool.choose_interval(turn, job)
        case NeighbourLost():
            if not _is_out_of_turn(turn, lease, peer, event, or_finished=True):
                membership.neighbour_lost(turn, job, lease, event)
        case SegmentPace():
            if not _is_out_of_turn(turn, lease, peer, event):
                pace.measured(turn, job, lease, event)


def _ready(turn: Turn, job: JobRecord, lease: LeaseRecord) -> None:
    if lease.phase is not LeasePhase.ASSIGNED:
        return
    lease.phase = LeasePhase.READY
    if job.state is JobState.RECOVERING:
        takeover.ready(turn, job, lease)
    else:
        start_when_ready(turn, job)


def _steps_done(
    turn: Turn, job: JobRecord, lease: LeaseRecord, peer: PeerRecord, event: StepsDone
) -> None:
    if _is_out_of_turn(turn, lease, peer, event):
        return
    last = event.first_step + event.count
    if event.count >= 1 and event.first_step >= 0 and last <= lease.steps_done:
        turn.note(job.job_id, "report_ignored", f"{peer.label} reported steps below {last} again.")
        return
    wanted_losses = event.count if lease.segment.has_loss else 0
    if event.count < 1 or event.first_step != lease.steps_done or last > job.spec.training.steps:
        what = (f"reported steps {event.first_step} to {last - 1}, but the next step of segment "
                f"{lease.index} is {lease.steps_done} of {job.spec.training.steps}")
        _contradicted(turn, job, peer, what)
    elif len(event.losses) != wanted_losses:
        what = f"reported {len(event.losses)} losses for {wanted_losses} expected"
        _contradicted(turn, job, peer, what)
    else:
        _count_steps(turn, job, lease, peer, event)


def _count_steps(
    turn: Turn, job: JobRecord, lease: LeaseRecord, peer: PeerRecord, event: StepsDone
) -> None:
    finite = next((i for i, loss in enumerate(event.losses) if not isfinite(loss)), event.count)
    # Steps that a takeover repeats are in the books already.
    new = event.losses[: finite][max(0, len(job.losses) - event.first_step):]
    job.losses.extend(new)
    job.losses_at_ns.extend([turn.now_ns] * len(new))
    lease.steps_done += finite
    if lease.trouble is not None and lease.steps_done > lease.trouble.steps_done:
        lease.trouble = None
    if new and len(job.losses) % limits.PACE_STEPS < len(new):
        pool.choose_interval(turn, job)
    count_steps(job)
    if finite < event.count:
        message = (f"The loss became {event.losses[finite]} at step {event.first_step + finite} "
                   f"(segment {lease.index} on peer {peer.label}).")
        fail(turn, job, Code.LOSS_NOT_FINITE, message)
    elif pace.is_watched(job):
        pace.move_the_slowest(turn, job)


def _evaluation_done(
    turn: Turn, job: JobRecord, lease: LeaseRecord, peer: PeerRecord, event: EvaluationDone
) -> None:
    if _is_out_of_turn(turn, lease, peer, event):
        return
    last = job.evaluations[-1].step if job.evaluations else -1
    if 0 <= event.step <= last:
        text = f"{peer.label} reported the evaluation after step {event.step} again."
        turn.note(job.job_id, "report_ignored", text)
    elif not lease.segment.has_loss or event.step != lease.steps_done:
        what = (f"reported an evaluation after {event.step} steps, but segment {lease.index} "
                f"has done {lease.steps_done}")
        _contradicted(turn, job, peer, what)
    elif not isfinite(event.loss):
        message = (f"The validation loss is {event.loss} after {event.step} steps "
                   f"(segment {lease.index} on peer {peer.label}).")
        fail(turn, job, Code.LOSS_NOT_FINITE, message)
    else:
        record = EvaluationRecord(step=event.step, loss=event.loss, at_ns=turn.now_ns)
        job.evaluations.append(record)


def _failed(
    turn: Turn, job: JobRecord, lease: LeaseRecord, peer: PeerRecord, event: SegmentFailed
) -> None:
    if lease.phase is LeasePhase.FINISHED:
        text = f"{peer.label} reported a failure of segment {lease.index}, which is finished."
        turn.note(job.job_id, "report_ignored", text)
        return
    code = known_code(event.code)
    blamed = turn.state.peers.get(event.blamed_peer)
    cause = f" Caused by peer {blamed.label}." if blamed is not None else ""
    what = f"Peer {peer.label}, segment {event.segment}: {event.message}{cause}"
    if code == Code.NOT_FOUND and snapshots.was_gone(turn, job, lease):
        takeover.hand_over(turn, lease, what)
        return
    is_own = blamed is None or blamed is peer
    ends = failures.count(job, lease, event, is_own=is_own)
    if ends or job.state is JobState.PREPARING:
        fail(turn, job, code, f"{what} ({ends or 'before the job had started'}).")
        return
    for other in list(job.leases):
        if blamed is not None and other.peer_id == blamed.peer_id and other is not lease:
            failures.avoid(job, other, f"was blamed by segment {lease.index}: {event.message}")
            takeover.vacate(turn, job, other, f"segment {lease.index} blames its peer: {what}")
    takeover.vacate(turn, job, lease, what)
    takeover.recover(turn, job)
    if takeover.nobody_else(turn.state, job):
        fail(turn, job, code, f"{what} (no other peer is here to compute it again).")


def _finished(
    turn: Turn, job: JobRecord, lease: LeaseRecord, peer: PeerRecord, event: SegmentFinished
) -> None:
    if _is_out_of_turn(turn, lease, peer, event):
        return
    steps = job.spec.training.steps
    if lease.steps_done != steps:
        what = (f"reported the end of segment {lease.index} after {lease.steps_done} "
                f"of {steps} steps")
        _contradicted(turn, job, peer, what)
    elif not is_digest(event.result_digest) or not (
        0 <= event.result_bytes <= lease.result_bytes_max
    ):
        what = (f"reported a result of {event.result_bytes} bytes with digest "
                f"{event.result_digest[:80]!r}; expected at most {lease.result_bytes_max} bytes")
        _contradicted(turn, job, peer, what)
    else:
        lease.phase = LeasePhase.FINISHED
        lease.deadline_ns = None
        lease.result_digest = event.result_digest
        lease.result_bytes = event.result_bytes
        _learn(turn, peer, event)
        succeed_when_finished(turn, job)


def _learn(turn: Turn, peer: PeerRecord, event: SegmentFinished) -> None:
    """Plan with what the peer's tasks have taught, if it can be true."""
    if not event.corrections:
        return
    if problem := problem_with_corrections(event.corrections):
        turn.note(peer.peer_id, "corrections_ignored", f"{peer.label}: {problem}.")
        return
    rates = replace(peer.hardware.rates, corrections=event.corrections)
    peer.hardware = replace(peer.hardware, rates=rates)


def _released(turn: Turn, peer: PeerRecord, lease: LeaseRecord | None) -> None:
    """Confirm a revoke. Without one, the peer has given up its segment."""
    if lease is None:
        return
    if lease.phase is not LeasePhase.REVOKED:
        losses.segment_lost(turn, lease, peer, "gave its segment up though nobody took it back")
    release_revoked(turn, lease)
    takeover.recover(turn, turn.state.jobs[lease.job_id])


def _is_out_of_turn(
    turn: Turn, lease: LeaseRecord, peer: PeerRecord, event: PeerReport, *,
    or_finished: bool = False,
) -> bool:
    """Progress of a segment that does not run (yet, or any more) is nobody's progress."""
    if lease.phase is LeasePhase.RUNNING or (
            or_finished and lease.phase is LeasePhase.FINISHED):
        return False
    text = (f"{type(event).__name__} of {peer.label} for segment {lease.index}, "
            f"which is {lease.phase}.")
    turn.note(lease.job_id, "report_ignored", text)
    return True


def _contradicted(turn: Turn, job: JobRecord, peer: PeerRecord, what: str) -> None:
    fail(turn, job, Code.INTERNAL, f"Peer {peer.label} {what}.")
