"""Segments that a better peer could run faster, and neighbours that cannot reach each other.

Both are answered by moving a segment to a ready backup, and only if that pays: the pipeline waits
for its slowest segment, so no other is worth a move.
"""

from __future__ import annotations

from math import isfinite
from statistics import median

from broker.core import limits, pool
from broker.core.events import SegmentPace
from broker.core.snapshots import step_seconds
from broker.core.state import (
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
from broker.core.takeover import hand_over, is_vacant


def measured(turn: Turn, job: JobRecord, lease: LeaseRecord, event: SegmentPace) -> None:
    """A peer says what a microbatch takes on it; the slowest segment may move."""
    if isfinite(event.microbatch_s) and event.microbatch_s > 0 and event.microbatches > 0:
        lease.pace_s = event.microbatch_s
        move_the_slowest(turn, job)


def move_the_slowest(turn: Turn, job: JobRecord) -> None:
    """Move the segment that the pipeline waits for, if a ready backup is worth it.

    That is so for a peer that has become slow, and for a faster one that has joined.
    """
    if job.state is not JobState.RUNNING or not job.ranking or not all(
            lease.pace_s for lease in job.leases):
        return
    slowest = max(job.leases, key=lambda lease: (lease.pace_s, -lease.index))
    best = _best_backup(turn, job, slowest)
    if best is None:
        return
    peer, expected_s = best
    others_s = max((lease.pace_s for lease in job.leases if lease is not slowest), default=0.0)
    steps_left = job.spec.training.steps - job.steps_done
    gain_s = slowest.pace_s - max(expected_s, others_s)
    saved_s = gain_s * job.spec.training.microbatches * steps_left
    price_s = limits.PAYBACK_S + turn.state.policy.replay_budget_ms / 1_000
    if gain_s >= limits.GAIN_MIN * slowest.pace_s and saved_s > price_s:
        hand_over(turn, slowest, (
            f"a microbatch takes {slowest.pace_s:.3g} s on "
            f"{turn.state.peers[slowest.peer_id].label} and should take {expected_s:.3g} s on "
            f"{peer.label}: that saves {saved_s:.0f} s"), to=peer)


def _best_backup(
    turn: Turn, job: JobRecord, lease: LeaseRecord
) -> tuple[PeerRecord, float] | None:
    """The ready backup on which a segment's microbatch should take the least time, and that time.

    Predictions are corrected by how wrong they are for this job: for the segment itself, unless
    that is beyond `limits.SLOW_FACTOR`, when its peer is at fault and the other segments tell.
    """
    predicted = dict(job.ranking[lease.index])
    times = [(predicted[standby.peer_id], standby.peer_id) for standby in job.standbys.values()
             if standby.index == lease.index and standby.peer_id in predicted
             and pool.is_ready(turn.state, standby)]
    if not times or not pool.is_covered(turn.state, job, lease.index):
        return None
    errors = {other.index: _error(job, other) for other in job.leases}
    rest = [error for index, error in errors.items() if index != lease.index]
    usual = median(rest) if rest else 1.0
    is_sick = errors[lease.index] > limits.SLOW_FACTOR * max(usual, 1.0)
    best_s, peer_id = min(times)
    error = usual if is_sick else errors[lease.index]
    return turn.state.peers[peer_id], best_s * error


def _error(job: JobRecord, lease: LeaseRecord) -> float:
    """Measured over predicted time of a microbatch on its present peer."""
    assert job.placement is not None
    placed = job.placement.segments[lease.index]
    planned_s = placed.forward_s + placed.backward_s
    predicted_s = dict(job.ranking[lease.index]).get(lease.peer_id, planned_s)
    return lease.pace_s / predicted_s if predicted_s > 0 else 1.0


def note_trouble(
    turn: Turn, job: JobRecord, lease: LeaseRecord, neighbour: int, message: str
) -> None:
    """Two segments have lost each other though both are there: they get some time."""
    other = job.leases[neighbour]
    grace_ms = max(limits.LINK_GRACE_MS, int(2_000 * step_seconds(job)))
    lease.trouble = LinkTrouble(
        neighbour, other.peer_id, lease.steps_done, turn.now_ns + grace_ms * 1_000_000, message)
    text = f"Segment {lease.index} lacks segment {neighbour}: {message}"
    turn.note(job.job_id, "neighbour_lost", text[: limits.MAX_MESSAGE])


def judge_troubles(turn: Turn) -> None:
    """Replace who is blamed, if time is over and nothing moved, and somebody can take over."""
    for job in list(turn.state.unfinished.values()):
        if job.state in STARTED:
            for lease in list(job.leases):
                _judge_trouble(turn, job, lease)


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
    """When a trouble of the job's segments must be judged."""
    times = [lease.trouble.deadline_ns for lease in job.leases if lease.trouble is not None]
    return min(times, default=None)
