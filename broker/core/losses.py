"""Peers and links that are gone: what their segments lose by it, and when somebody is replaced.

A segment whose holder is gone is vacant at once. A finished one is not: its result is stored, and
its neighbours need it again only if they lack something that its log had. Two segments that cannot
reach each other though both are there get some time before a backup takes the place of one.
"""

from __future__ import annotations

from broker.core import limits, pool
from broker.core.jobs import put_back_to_queue
from broker.core.leases import lose_log
from broker.core.snapshots import step_seconds
from broker.core.state import (
    NS_PER_MS,
    STARTED,
    JobRecord,
    JobState,
    LeasePhase,
    LeaseRecord,
    LinkTrouble,
    PeerRecord,
    PeerState,
    Turn,
)
from broker.core.takeover import hand_over, is_vacant, neighbours, vacate


def segment_lost(turn: Turn, lease: LeaseRecord, peer: PeerRecord, what: str) -> None:
    """The holder of a segment is gone. Who takes it over is decided at the end of the turn.

    Only then it is known what else is vacant: who has many choices leaves the one taker to another.

    Args:
        turn: the event being applied.
        lease: the lease that nobody fulfils any more; still valid.
        peer: who held it.
        what: what happened, to follow the peer's name in a sentence.
    """
    job = turn.state.jobs[lease.job_id]
    if lease.phase is LeasePhase.FINISHED:
        log_lost(turn, lease, peer, what)
        return
    peer.losses += 1
    why = f"peer {peer.label}, which held segment {lease.index} of {len(job.leases)}, {what}"
    if job.state is JobState.PREPARING:
        put_back_to_queue(turn, job, f"is planned again, as {why}")
        return
    vacate(turn, job, lease, why)


# --- finished segments --------------------------------------------------------------------------


def log_lost(turn: Turn, lease: LeaseRecord, peer: PeerRecord, what: str) -> None:
    """The peer of a finished segment is gone, and with it what it had sent."""
    job = turn.state.jobs[lease.job_id]
    lose_log(turn, lease)
    turn.note(job.job_id, "peer_lost", f"Peer {peer.label} {what}; its segment was finished.")
    if any(near.phase in (LeasePhase.ASSIGNED, LeasePhase.READY) for near in _near(job, lease)):
        vacate(turn, job, lease, "its finished result's boundary log is needed for a replay")
        return
    _watch(turn, job, lease)


def _near(job: JobRecord, lease: LeaseRecord) -> list[LeaseRecord]:
    return [job.leases[index] for index in sorted(neighbours(job, lease.segment))]


def _watch(turn: Turn, job: JobRecord, lease: LeaseRecord) -> None:
    """Neighbours that still work may have all they need: look again whether they come further."""
    near = _near(job, lease)
    lease.watched_steps = sum(other.steps_done for other in near)
    works = any(other.phase is not LeasePhase.FINISHED for other in near)
    lease.deadline_ns = turn.now_ns + _patience_ns(job) if works else None


def _judge_gone_log(turn: Turn, job: JobRecord, lease: LeaseRecord) -> None:
    if lease.deadline_ns is None or lease.deadline_ns > turn.now_ns:
        return
    come_further = sum(near.steps_done for near in _near(job, lease)) > lease.watched_steps
    works = any(near.phase is LeasePhase.RUNNING for near in _near(job, lease))
    if come_further or not works or job.state is JobState.RECOVERING:
        _watch(turn, job, lease)
        return
    lease.deadline_ns = None
    hand_over(turn, lease, "a neighbour seems to lack something that its lost log had")


# --- links --------------------------------------------------------------------------------------


def note_trouble(
    turn: Turn, job: JobRecord, lease: LeaseRecord, neighbour: int, message: str
) -> None:
    """Two segments have lost each other though both are there: they get some time."""
    other = job.leases[neighbour]
    lease.trouble = LinkTrouble(
        neighbour, other.peer_id, lease.steps_done, turn.now_ns + _patience_ns(job), message)
    text = f"Segment {lease.index} lacks segment {neighbour}: {message}"
    turn.note(job.job_id, "neighbour_lost", text[: limits.MAX_MESSAGE])


def _patience_ns(job: JobRecord) -> int:
    return max(limits.LINK_GRACE_MS, int(2_000 * step_seconds(job))) * NS_PER_MS


def is_missed(job: JobRecord, peer: PeerRecord) -> bool:
    """Whether a neighbour lacks the segment that a peer holds, and has not come further since."""
    return any(
        lease.trouble is not None and lease.trouble.peer_id == peer.peer_id
        and job.leases[lease.trouble.neighbour].peer_id == peer.peer_id
        and lease.steps_done <= lease.trouble.steps_done
        for lease in job.leases)


def judge(turn: Turn) -> None:
    """Replace who is blamed, if time is over and nothing moved, and somebody can take over."""
    for job in list(turn.state.unfinished.values()):
        if job.state in STARTED:
            for lease in list(job.leases):
                _judge_trouble(turn, job, lease)
                if lease.phase is LeasePhase.FINISHED and lease.is_log_gone:
                    _judge_gone_log(turn, job, lease)


def _judge_trouble(turn: Turn, job: JobRecord, lease: LeaseRecord) -> None:
    trouble = lease.trouble
    if trouble is None or trouble.deadline_ns > turn.now_ns:
        return
    lease.trouble = None
    other = job.leases[trouble.neighbour]
    same = other.peer_id == trouble.peer_id and not is_vacant(other)
    if not same or lease.phase is not LeasePhase.RUNNING or lease.steps_done > trouble.steps_done:
        return
    moved = _replaceable(turn, job, lease, other)
    if moved is None:
        note_trouble(turn, job, lease, trouble.neighbour, trouble.message)
        return
    hand_over(turn, moved, f"segments {lease.index} and {other.index} cannot reach each other")


def _replaceable(
    turn: Turn, job: JobRecord, lease: LeaseRecord, other: LeaseRecord
) -> LeaseRecord | None:
    """The one that more neighbours miss, of those that a backup is ready for."""
    state = turn.state
    missed = {end.index: sum(
        segment.trouble is not None and segment.trouble.neighbour == end.index
        for segment in job.leases) for end in (other, lease)}
    ready = [end for end in (other, lease) if pool.is_covered(state, job, end.index)
             and end.phase is LeasePhase.RUNNING
             and state.peers[end.peer_id].state is PeerState.LIVE]
    return max(ready, key=lambda end: missed[end.index], default=None)


def next_deadline_ns(job: JobRecord) -> int | None:
    """When a trouble of the job's segments, or a finished one's lost log, must be judged."""
    times = [lease.trouble.deadline_ns for lease in job.leases if lease.trouble is not None]
    times += [lease.deadline_ns for lease in job.leases
              if lease.is_log_gone and lease.deadline_ns is not None]
    return min(times, default=None)
