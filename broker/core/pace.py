"""Segments that a better peer could run faster: the slowest moves to a ready backup, if that pays.

The pipeline waits for its slowest segment, so no other is worth a move.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite
from statistics import median

from broker.core import limits, pool
from broker.core.events import SegmentPace
from broker.core.state import JobRecord, JobState, LeaseRecord, PeerRecord, Turn
from broker.core.takeover import hand_over


def measured(turn: Turn, job: JobRecord, lease: LeaseRecord, event: SegmentPace) -> None:
    """A peer says what a microbatch takes on it; the slowest segment may move."""
    if isfinite(event.microbatch_s) and event.microbatch_s > 0 and event.microbatches > 0:
        lease.pace_s = event.microbatch_s
        move_the_slowest(turn, job)


@dataclass(frozen=True, slots=True)
class _Move:
    """A move that would pay: `gain_s` in each microbatch, `saved_s` in what is left of the job."""

    lease: LeaseRecord
    peer: PeerRecord
    expected_s: float
    gain_s: float
    saved_s: float


def move_the_slowest(turn: Turn, job: JobRecord) -> None:
    """Move the segment that the pipeline waits for, if a ready backup is worth it.

    That is so for a peer that has become slow, and for a faster one that has joined. It moves once
    the job has lost as much by waiting as a move may cost: what passes by itself moves nothing, and
    what stays costs at most twice the least (the rule of renting skis).
    """
    move = _best_move(turn, job)
    for lease in job.leases:
        if move is None or lease is not move.lease:
            lease.slow_since = None
    if move is None:
        return
    if move.lease.slow_since is None:
        move.lease.slow_since = job.steps_done
    slow_steps = job.steps_done - move.lease.slow_since
    lost_s = move.gain_s * job.spec.training.microbatches * slow_steps
    if lost_s < turn.state.policy.replay_budget_ms / 1_000:
        return
    hand_over(turn, move.lease, (
        f"a microbatch takes {move.lease.pace_s:.3g} s on "
        f"{turn.state.peers[move.lease.peer_id].label} and should take {move.expected_s:.3g} s on "
        f"{move.peer.label}: that has cost {lost_s:.0f} s in {slow_steps} steps and would save "
        f"{move.saved_s:.0f} s"), to=move.peer)


def is_watched(job: JobRecord) -> bool:
    """Whether a segment has been slow lately, so that each step counts."""
    return any(lease.slow_since is not None for lease in job.leases)


def _best_move(turn: Turn, job: JobRecord) -> _Move | None:
    """What moving the slowest segment would bring, if it pays in what is left of the job."""
    if job.state is not JobState.RUNNING or not job.ranking or not all(
            lease.pace_s and lease.steps_done - lease.position >= limits.PACE_STEPS
            for lease in job.leases):
        return None  # first steps compile and warm up
    slowest = max(job.leases, key=lambda lease: (lease.pace_s, -lease.index))
    best = _best_backup(turn, job, slowest)
    if best is None:
        return None
    peer, expected_s = best
    others_s = max((lease.pace_s for lease in job.leases if lease is not slowest), default=0.0)
    steps_left = job.spec.training.steps - job.steps_done
    gain_s = slowest.pace_s - max(expected_s, others_s)
    saved_s = gain_s * job.spec.training.microbatches * steps_left
    price_s = limits.PAYBACK_S + turn.state.policy.replay_budget_ms / 1_000
    if gain_s < limits.GAIN_MIN * slowest.pace_s or saved_s <= price_s:
        return None
    return _Move(slowest, peer, expected_s, gain_s, saved_s)


def _best_backup(
    turn: Turn, job: JobRecord, lease: LeaseRecord
) -> tuple[PeerRecord, float] | None:
    """The ready backup on which a segment's microbatch should take the least time, and that time.

    Predictions are corrected by how wrong they are for this job: for the segment itself, unless
    that is beyond `limits.SLOW_FACTOR`, when its peer is at fault and the other segments tell. A
    job of one segment has no others: there a wrong prediction cannot be told from a sick peer.
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
    is_sick = bool(rest) and errors[lease.index] > limits.SLOW_FACTOR * max(usual, 1.0)
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
