"""Segments that are slower than was predicted, and neighbours that cannot reach each other.

Both are answered by moving a segment, and only if that pays: a peer that others would wait for
anyway, or that nobody could replace by a faster one, stays.
"""

from __future__ import annotations

from math import isfinite

from broker.core import limits, pool
from broker.core.events import SegmentPace
from broker.core.snapshots import step_seconds
from broker.core.state import (
    STARTED,
    JobRecord,
    LeasePhase,
    LeaseRecord,
    LinkTrouble,
    PeerState,
    Turn,
)
from broker.core.takeover import hand_over, is_vacant


def measured(turn: Turn, job: JobRecord, lease: LeaseRecord, event: SegmentPace) -> None:
    """A peer says what a microbatch takes on it; a slow one may be replaced."""
    if not isfinite(event.microbatch_s) or event.microbatch_s <= 0 or event.microbatches < 1:
        return
    lease.pace_s = event.microbatch_s
    better_s = _better(turn, job, lease)
    if better_s is None:
        return
    steps_left = job.spec.training.steps - job.steps_done
    saved_s = (lease.pace_s - better_s) * job.spec.training.microbatches * steps_left
    if saved_s > limits.PAYBACK_S + turn.state.policy.replay_budget_ms / 1_000:
        hand_over(turn, lease, (
            f"a microbatch takes {lease.pace_s:.3g} s on "
            f"{turn.state.peers[lease.peer_id].label}; moving it saves {saved_s:.0f} s"))


def _better(turn: Turn, job: JobRecord, lease: LeaseRecord) -> float | None:
    """What a microbatch would take on the best ready backup; None if the segment should stay.

    It stays while it is as fast as predicted, or another segment is slower: the pipeline waits for
    the slowest.
    """
    assert job.placement is not None
    placed = job.placement.segments[lease.index]
    predicted_s = placed.forward_s + placed.backward_s
    others_s = max((other.pace_s for other in job.leases if other is not lease), default=0.0)
    if lease.pace_s < limits.SLOW_FACTOR * predicted_s or lease.pace_s <= others_s:
        return None
    if not pool.is_covered(turn.state, job, lease.index) or not job.ranking:
        return None
    times = dict(job.ranking[lease.index])
    taker = next(iter(pool.takers(turn.state, job, [lease.index])), None)
    predicted = None if taker is None else times.get(taker[1].peer_id)
    return None if predicted is None else max(predicted, others_s)


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
