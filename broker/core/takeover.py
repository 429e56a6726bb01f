"""What becomes of a job when a segment has no holder: it restarts elsewhere, the others wait.

One mechanism serves every case (docs/adr/0026-takeover.md): a peer that is lost (`losses`), that
failed, that was drained or is too slow. `vacate` takes the lease back; `recover` gives vacant
segments to other peers at the complete position. Why a job waits is in `JobRecord.reason`.
"""

from __future__ import annotations

from broker.core import limits, pool, snapshots
from broker.core.failures import failure_of
from broker.core.jobs import move
from broker.core.leases import assignment, count_steps, grant, preparation_ms, revoke, tell_all
from broker.core.state import (
    NS_PER_MS,
    VALID_PHASES,
    JobRecord,
    JobState,
    LeasePhase,
    LeaseRecord,
    PeerRecord,
    PeerState,
    State,
    Turn,
)
from ir.segment import Segment, are_partners


def vacate(turn: Turn, job: JobRecord, lease: LeaseRecord, why: str) -> None:
    """Take the lease of a segment back; from here on the segment is vacant."""
    if job.state is JobState.RUNNING:
        move(job, JobState.RECOVERING)
    turn.note(job.job_id, "segment_vacant", f"Segment {lease.index} is vacant: {why}.")
    lease.ending = why
    if lease.is_log_gone:
        lease.phase = LeasePhase.RELEASED
    elif lease.phase in VALID_PHASES:
        revoke(turn, lease, why)


def is_vacant(lease: LeaseRecord) -> bool:
    """Whether the newest lease of a segment is nobody's any more."""
    return lease.phase not in VALID_PHASES


def recover(turn: Turn, job: JobRecord, to: PeerRecord | None = None) -> None:
    """Give vacant segments to peers that can take them over, as far as there are any.

    Args:
        turn: the event being applied.
        job: whose segments.
        to: who goes before all others.

    Cost: O(segments * peers).
    """
    if job.state is not JobState.RECOVERING:
        return
    _vacate_what_must_restart_too(turn, job)
    vacant = [lease.index for lease in job.leases if is_vacant(lease)]
    if not vacant or _are_awaited(turn, job):
        return
    lacking = [index for index in vacant
               if not snapshots.can_restart(turn.state, job, index, job.position)]
    if lacking and not _go_back(turn, job, lacking[0]):
        return
    job.fallback_ns = None
    vacant = [lease.index for lease in job.leases if is_vacant(lease)]
    planned, job.growth.awaited = job.growth.awaited, {}
    wanted = planned if to is None else dict.fromkeys(vacant, to.peer_id)
    for index, peer in pool.takers(turn.state, job, vacant, wanted):
        job.takeovers += index not in planned
        _take_over(turn, job, index, peer)
    _say_what_is_waited_for(turn.state, job)
    tell_all(turn, job)


def _are_awaited(turn: Turn, job: JobRecord) -> bool:
    """Whether a job that was just cut anew waits until its peers have let their old segments go.

    For those that are away for a moment, too: who took their segments now would not be the planned.
    """
    growth = job.growth
    awaited = [peer for peer_id in growth.awaited.values()
               if (peer := turn.state.peers[peer_id]).state is PeerState.SUSPECT
               or (peer.state is PeerState.LIVE and any(
                   lease.job_id == job.job_id for lease in peer.leases.values()))]
    if not awaited or growth.awaited_until_ns <= turn.now_ns:
        return False
    labels = ", ".join(peer.label for peer in awaited)
    job.reason = f"is cut anew; waits until {labels} let their old segments go"
    return True


def _vacate_what_must_restart_too(turn: Turn, job: JobRecord) -> None:
    """A finished segment whose log is gone cannot serve a neighbour's replay: it is done again."""
    while True:
        vacant = {lease.index for lease in job.leases if is_vacant(lease)}
        gone = [lease for lease in job.leases
                if lease.phase is LeasePhase.FINISHED and lease.is_log_gone
                and not vacant.isdisjoint(neighbours(job, lease.segment))]
        if not gone:
            return
        for lease in gone:
            vacate(turn, job, lease, "its finished result's boundary log is needed again")


def neighbours(job: JobRecord, segment: Segment) -> set[int]:
    """Indices of the segments that exchange anything with one."""
    with_lead = job.spec.training.clip_norm > 0
    return {lease.index for lease in job.leases
            if are_partners(segment, lease.index, with_lead=with_lead)}


def _go_back(turn: Turn, job: JobRecord, lacking: int) -> bool:
    """Let all segments restart at an earlier position, if waiting for a holder does not pay.

    Returns:
        False while it is worth waiting: as long as the work would take again.
    """
    state = turn.state
    target = snapshots.common_position(state, job)
    if job.fallback_ns is None:
        lost_ms = int(1_000 * (job.steps_done - target) * snapshots.step_seconds(job))
        wait_ms = min(lost_ms, limits.FALLBACK_WAIT_MAX_MS)
        job.fallback_ns = turn.now_ns + wait_ms * NS_PER_MS
    if turn.now_ns < job.fallback_ns:
        job.reason = (
            f"segment {lacking}: its snapshot of position {job.position} is on peers that are "
            f"away; waits for one of them, or else all segments restart at {target}")
        return False
    go_back_to(turn, job, target, f"no snapshot of segment {lacking} at {job.position} is left")
    return True


def go_back_to(turn: Turn, job: JobRecord, position: int, why: str) -> None:
    """Let all segments of a started job restart at a position that all still have."""
    turn.note(job.job_id, "job_went_back",
              f"All segments restart at position {position}: {why}.")
    for lease in job.leases:
        if not is_vacant(lease):
            vacate(turn, job, lease, f"all segments restart at position {position}")
    snapshots.restart_at(job, position)


def _take_over(turn: Turn, job: JobRecord, index: int, peer: PeerRecord) -> None:
    assert job.placement is not None
    state = turn.state
    standby, last = pool.standby_of(job, index, peer), job.leases[index]
    pool.end_standby(turn, job, index, peer)
    lease = grant(turn, job, job.placement.segments[index], peer, job.position)
    lease.reason = _reason(state, last, peer, standby.level if standby else "")
    lease.deadline_ns = turn.now_ns + preparation_ms(turn, job) * NS_PER_MS
    count_steps(job)  # an earlier holder may have come further than the last one
    _assign(turn, job, lease)
    text = f"Peer {peer.label} takes segment {index} over at position {job.position}."
    turn.note(job.job_id, "segment_moves", text)


def _reason(state: State, last: LeaseRecord, peer: PeerRecord, level: str) -> str:
    """Why a peer has a segment: whom it follows, and what it had ready; "" if it was planned."""
    if not last.ending and last.peer_id == peer.peer_id:
        return ""  # of a new cut
    as_what = f"as its backup ({level})" if level else "as the best that was free"
    why = last.ending[: limits.MAX_REASON].rstrip(".") or "planned for it, and not free in time"
    return f"It took the segment over {as_what}, after {state.peers[last.peer_id].label}: {why}."


def assign_again(turn: Turn, job: JobRecord, lease: LeaseRecord) -> None:
    """Tell a peer again of a lease that it has not heard of, or whose process is new."""
    if not snapshots.can_restart(turn.state, job, lease.index, lease.position):
        hand_over(turn, lease, f"its snapshot of position {lease.position} is on no live peer")
        return
    lease.phase = LeasePhase.ASSIGNED
    _assign(turn, job, lease)


def _assign(turn: Turn, job: JobRecord, lease: LeaseRecord) -> None:
    at = (turn.state, job, lease.index, lease.position)
    turn.emit(assignment(turn, job, lease, snapshots.source(*at), snapshots.parts(*at)))


def _say_what_is_waited_for(state: State, job: JobRecord) -> None:
    parts = []
    for lease in job.leases:
        if is_vacant(lease):
            why = pool.shortage(state, job, lease.index)
            parts.append(f"segment {lease.index} waits for a peer: {why}")
        elif lease.phase in (LeasePhase.ASSIGNED, LeasePhase.READY):
            parts.append(f"segment {lease.index} moves to {state.peers[lease.peer_id].label}")
    job.reason = "; ".join(parts)


def retry_waiting(turn: Turn) -> None:
    """Look again at jobs that wait for a peer. Cost: O(unfinished jobs) where none does."""
    for job in list(turn.state.unfinished.values()):
        if job.state is JobState.RECOVERING and any(is_vacant(lease) for lease in job.leases):
            recover(turn, job)


def ready(turn: Turn, job: JobRecord, lease: LeaseRecord) -> None:
    """A segment that moved is loaded: it starts, and its neighbours learn where it is."""
    lease.phase = LeasePhase.RUNNING
    lease.deadline_ns = None
    tell_all(turn, job)
    if all(other.phase in (LeasePhase.RUNNING, LeasePhase.FINISHED) for other in job.leases):
        move(job, JobState.RUNNING)
        turn.note(job.job_id, "job_running", "Every segment has a holder again.")
    else:
        _say_what_is_waited_for(turn.state, job)


def hand_over(turn: Turn, lease: LeaseRecord, why: str, to: PeerRecord | None = None) -> None:
    """Move a segment from a peer that still works to a backup, the best or the one given."""
    job = turn.state.jobs[lease.job_id]
    vacate(turn, job, lease, why)
    recover(turn, job, to)


def not_ready_in_time(turn: Turn, lease: LeaseRecord) -> None:
    """A peer that was to take a segment over has not loaded it: somebody else is asked."""
    job = turn.state.jobs[lease.job_id]
    seconds = preparation_ms(turn, job) // 1_000
    why = f"did not load it within {seconds} s"
    failure_of(job, lease).avoided[lease.peer_id] = why
    hand_over(turn, lease, f"{turn.state.peers[lease.peer_id].label} {why}")


def nobody_else(state: State, job: JobRecord) -> bool:
    """Whether every peer that is here has failed a vacant segment or cannot run it.

    Waiting for a peer that does not exist yet would hide the failure from who could cure it.
    """
    vacant = [lease.index for lease in job.leases if is_vacant(lease)]
    return any(
        all(pool.refusal(state, job, index, peer) for peer in state.peers.values()
            if peer.state is not PeerState.LOST and peer.peer_id not in
            {lease.peer_id for lease in job.leases if not is_vacant(lease)})
        for index in vacant)
