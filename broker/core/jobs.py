"""The life of a job: submission, its states, how it ends. docs/broker-state.md has the diagram.

Every change of state goes through `move`, which knows the whole table; every end goes through
`_end`, so a job ends once. What a lost segment means for its job is decided in `takeover`.
"""

from __future__ import annotations

from collections.abc import Mapping

from broker.core import limits, partial
from broker.core.admission import problem_with
from broker.core.commands import Reject, Reply
from broker.core.events import CancelRequested, JobSubmitted
from broker.core.invariants import InvariantViolation
from broker.core.leases import end_all, preparation_ms, tell_all
from broker.core.pool import choose_interval, end_all_standbys
from broker.core.state import (
    TERMINAL,
    JobRecord,
    JobState,
    LeasePhase,
    Turn,
)
from homespun.errors import Code

TRANSITIONS: Mapping[JobState, tuple[JobState, ...]] = {
    JobState.SUBMITTED: (JobState.PLANNING, JobState.FAILED, JobState.CANCELLED),
    JobState.PLANNING: (
        JobState.SUBMITTED, JobState.PREPARING, JobState.FAILED, JobState.CANCELLED),
    JobState.PREPARING: (
        JobState.SUBMITTED, JobState.RUNNING, JobState.FAILED, JobState.CANCELLED),
    JobState.RUNNING: (
        JobState.RECOVERING, JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED),
    JobState.RECOVERING: (JobState.RUNNING, JobState.FAILED, JobState.CANCELLED),
    JobState.SUCCEEDED: (),
    JobState.FAILED: (),
    JobState.CANCELLED: (),
}


_KNOWN_CODES = frozenset(code.value for code in Code)


def known_code(code: str) -> str:
    """An error code that somebody else chose, or INTERNAL where there is no such code."""
    return code if code in _KNOWN_CODES else Code.INTERNAL


def submitted(turn: Turn, event: JobSubmitted) -> None:
    """Take a job in, once per (owner, submission id)."""
    state = turn.state
    key = (event.owner_id, event.submission_id)
    known = state.jobs.get(state.submissions.get(key, ""))
    if known is not None:
        _answer_again(turn, event, known)
        return
    refusal = _refusal(turn, event)
    if refusal is not None:
        code, message = refusal
        turn.emit(Reject(request_id=event.request_id, code=code, message=message))
        return
    state.last_job += 1
    job = JobRecord(
        job_id=f"job_{state.last_job:06d}",
        owner_id=event.owner_id,
        submission_id=event.submission_id,
        spec=event.spec,
        submitted_at_ns=turn.now_ns,
        reason="waits to be planned",
    )
    state.jobs[job.job_id] = job
    state.unfinished[job.job_id] = job
    state.submissions[key] = job.job_id
    turn.emit(Reply(request_id=event.request_id, value=job.job_id))
    turn.note(job.job_id, "job_submitted", f"{event.owner_id} submitted {job.spec.name!r}.")


def _answer_again(turn: Turn, event: JobSubmitted, known: JobRecord) -> None:
    if known.spec == event.spec:
        turn.emit(Reply(request_id=event.request_id, value=known.job_id))
        return
    message = (
        f"Request id {event.submission_id!r} already made {known.job_id}, with another "
        "description. Use a new request id for a new job."
    )
    turn.emit(Reject(request_id=event.request_id, code=Code.CONFLICT, message=message))


def _refusal(turn: Turn, event: JobSubmitted) -> tuple[Code, str] | None:
    state = turn.state
    if not 0 < len(event.submission_id) <= limits.MAX_TEXT:
        return Code.INVALID_ARGUMENT, (
            f"request_id has {len(event.submission_id)} characters; "
            f"expected 1 to {limits.MAX_TEXT}.")
    if len(state.jobs) >= limits.MAX_JOBS:
        return Code.LIMIT_EXCEEDED, f"This broker has seen {limits.MAX_JOBS} jobs, its limit."
    if len(state.unfinished) >= limits.MAX_UNFINISHED_JOBS:
        return Code.OVERLOADED, (
            f"{limits.MAX_UNFINISHED_JOBS} jobs wait or run already, the limit. "
            "Try again when one has ended.")
    own = sum(job.owner_id == event.owner_id for job in state.unfinished.values())
    if own >= limits.MAX_UNFINISHED_JOBS_PER_OWNER:
        return Code.LIMIT_EXCEEDED, (
            f"{own} of your jobs wait or run already, the limit per submitter. "
            "Cancel one, or wait until one has ended.")
    return problem_with(event.spec)


def cancel_requested(turn: Turn, event: CancelRequested) -> None:
    """End a job because its owner or an operator wants it."""
    job = turn.state.jobs.get(event.job_id)
    if job is None:
        code, message = Code.NOT_FOUND, f"There is no job {event.job_id!r}."
    elif event.by != job.owner_id and not event.by.startswith("operator_"):
        code, message = Code.NOT_ALLOWED, f"{event.job_id} belongs to another submitter."
    elif job.state in TERMINAL:
        code, message = Code.CONFLICT, f"{event.job_id} has already ended: {job.state}."
    else:
        why = f": {event.reason[: limits.MAX_REASON]}" if event.reason else "."
        _end(turn, job, JobState.CANCELLED, Code.CANCELLED, f"Cancelled by {event.by}{why}")
        turn.emit(Reply(request_id=event.request_id, value=job.job_id))
        return
    turn.emit(Reject(request_id=event.request_id, code=code, message=message))


def move(job: JobRecord, target: JobState) -> None:
    """Change a job's state.

    Raises:
        InvariantViolation: the table has no such transition: a defect of the core.
    """
    if target not in TRANSITIONS[job.state]:
        raise InvariantViolation(f"{job.job_id} cannot go from {job.state} to {target}")
    job.state = target
    job.deadline_ns = None
    job.reason = ""


def start_when_ready(turn: Turn, job: JobRecord) -> None:
    """Let a prepared job run once every segment is loaded."""
    if job.state is not JobState.PREPARING:
        return
    if any(lease.phase is not LeasePhase.READY for lease in job.leases):
        return
    move(job, JobState.RUNNING)
    job.prepared_s = (turn.now_ns - job.placed_at_ns) / 1e9
    choose_interval(turn, job)
    for lease in job.leases:
        lease.phase = LeasePhase.RUNNING
    tell_all(turn, job)
    turn.note(job.job_id, "job_running", f"All {len(job.leases)} segments are loaded.")


def succeed_when_finished(turn: Turn, job: JobRecord) -> None:
    """End a job once every segment's result is stored."""
    if all(lease.phase is LeasePhase.FINISHED for lease in job.leases):
        _end(turn, job, JobState.SUCCEEDED, "", "")


def fail(turn: Turn, job: JobRecord, code: str, message: str) -> None:
    """End a job in failure; peers that hold a segment of it are told to drop it."""
    _end(turn, job, JobState.FAILED, code, message[: limits.MAX_MESSAGE])


def _end(turn: Turn, job: JobRecord, target: JobState, code: str, message: str) -> None:
    move(job, target)
    job.error_code = code
    job.error_message = message
    job.finished_at_ns = turn.now_ns
    job.endings += 1
    del turn.state.unfinished[job.job_id]
    if turn.state.planning_job == job.job_id:
        turn.state.planning_job = ""
    turn.note(job.job_id, f"job_{target}", message or f"All {job.steps_done} steps are done.")
    end_all(turn, job, f"{job.job_id} has ended: {target}")
    end_all_standbys(turn, job)
    if target is not JobState.SUCCEEDED:
        partial.begin(turn, job)
    job.snapshots, job.failures = [], {}
    job.growth.plan, job.growth.awaited = None, {}


def put_back_to_queue(turn: Turn, job: JobRecord, reason: str) -> None:
    """Let a job that was being prepared be planned again: nothing of it has run yet."""
    end_all(turn, job, f"{job.job_id} is planned again")
    job.leases = []
    job.placement = None
    move(job, JobState.SUBMITTED)
    job.reason = reason[: limits.MAX_MESSAGE]
    job.considered_version = -1
    turn.note(job.job_id, "job_waits", f"{job.job_id} {job.reason}.")


def deadline_passed(turn: Turn, job: JobRecord) -> None:
    """Fail a job that was planned or prepared for too long."""
    if job.state is JobState.PLANNING:
        seconds = limits.PLANNING_TIMEOUT_MS // 1000
        fail(turn, job, Code.TIMED_OUT, f"The planner gave no answer within {seconds} s.")
        return
    waiting = [
        f"{turn.state.peers[lease.peer_id].label} with segment {lease.index}"
        for lease in job.leases
        if lease.phase is LeasePhase.ASSIGNED
    ]
    seconds = preparation_ms(turn, job) // 1000
    message = f"Not ready after {seconds} s: {', '.join(waiting)}."
    fail(turn, job, Code.TIMED_OUT, message)
