"""Peers that are to hold nothing: their owner pauses them or goes, or an operator drains them.

A segment moves when a backup is ready to take it, and at the deadline even if none is: the job then
waits for a peer, and what it needs is on the snapshot's other holders. A peer that only *finishes*
keeps what it has until its job ends.
"""

from __future__ import annotations

from broker.core import limits
from broker.core.commands import Reject, Reply
from broker.core.events import AvailabilityChanged, DrainRequested
from broker.core.pool import is_covered
from broker.core.state import (
    NS_PER_MS,
    STARTED,
    LeasePhase,
    PeerRecord,
    Turn,
    cluster_changed,
)
from broker.core.takeover import hand_over
from homespun.errors import Code

AVAILABILITIES = frozenset({"open", "finishing", "paused", "leaving"})


def availability_changed(turn: Turn, event: AvailabilityChanged) -> None:
    """An owner has spoken."""
    peer = turn.state.peers.get(event.peer_id)
    if peer is None or event.availability not in AVAILABILITIES:
        turn.note(event.peer_id, "availability_ignored", f"{event.availability[:80]!r}.")
        return
    set_availability(turn, peer, event.availability, event.deadline_ms)


def set_availability(turn: Turn, peer: PeerRecord, availability: str, deadline_ms: int) -> None:
    """Take over what a peer's owner lets it do."""
    if availability != peer.availability:
        turn.note(peer.peer_id, "peer_availability", f"Peer {peer.label} is {availability}.")
    peer.availability = availability
    peer.owner_deadline_ns = (
        _nearest(turn, peer.owner_deadline_ns, deadline_ms) if peer.is_unavailable else None)
    cluster_changed(turn.state)


def drain_requested(turn: Turn, event: DrainRequested) -> None:
    """An operator wants a peer emptied, or used again."""
    peer = turn.state.peers.get(event.peer_id)
    if peer is None:
        text = f"There is no peer {event.peer_id[:80]!r}."
        turn.emit(Reject(request_id=event.request_id, code=Code.NOT_FOUND, message=text))
        return
    peer.is_drained = not event.undo
    peer.operator_deadline_ns = (
        _nearest(turn, peer.operator_deadline_ns, event.deadline_ms) if peer.is_drained else None)
    cluster_changed(turn.state)
    done = "may be used again" if event.undo else "is drained"
    why = f": {event.reason[: limits.MAX_REASON]}" if event.reason else "."
    turn.note(peer.peer_id, "peer_drained", f"Peer {peer.label} {done}, says {event.by}{why}")
    turn.emit(Reply(request_id=event.request_id, value=peer.peer_id))


def _nearest(turn: Turn, known_ns: int | None, deadline_ms: int) -> int | None:
    """The nearest deadline counts, so a wish that is said again does not put it off."""
    bounded_ms = min(max(deadline_ms, 0), limits.DRAIN_MAX_MS)
    if not bounded_ms:
        return known_ns
    wanted_ns = turn.now_ns + bounded_ms * NS_PER_MS
    return min(wanted_ns, known_ns or wanted_ns)


def empty_peers(turn: Turn) -> None:
    """Move what peers hold that are to hold nothing. Cost: O(peers)."""
    emptied = [peer for peer in turn.state.peers.values() if peer.is_emptied and peer.leases]
    for peer in sorted(emptied, key=lambda peer: peer.peer_id):
        _empty(turn, peer)


def _empty(turn: Turn, peer: PeerRecord) -> None:
    state = turn.state
    is_late = peer.drain_at_ns is not None and peer.drain_at_ns <= turn.now_ns
    for lease in list(peer.leases.values()):
        job = state.jobs[lease.job_id]
        movable = lease.phase is LeasePhase.RUNNING and job.state in STARTED
        if movable and (is_late or is_covered(state, job, lease.index)):
            who = "an operator" if peer.is_drained else f"its owner ({peer.availability})"
            hand_over(turn, lease, f"{who} wants peer {peer.label} empty")


def next_deadline_ns(peer: PeerRecord, now_ns: int) -> int | None:
    """When a peer's time to be emptied is over, if that is to come and it still holds something."""
    waits = peer.is_emptied and peer.leases and peer.drain_at_ns is not None
    return peer.drain_at_ns if waits and (peer.drain_at_ns or 0) > now_ns else None
