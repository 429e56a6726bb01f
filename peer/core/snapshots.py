"""When a lease takes snapshots, who gets them, and what is said of them.

A snapshot of a training position holds the state after that many steps, copied between the update
and whatever task comes next. One of inference holds the rows of the microbatches before its
position: later ones may be predicted by then, and are no part of it.
"""

from __future__ import annotations

from collections.abc import Iterator

from peer.core import commands as do
from peer.core import events as ev
from peer.core.state import LeasePhase, LeaseRecord, PeerState, fields_of, find_lease

Commands = Iterator[do.AnyCommand]


def planned(state: PeerState, event: ev.SnapshotPlanReceived) -> Commands:
    """The broker has chosen an interval and holders."""
    lease = find_lease(state, event)
    if lease is None or lease.phase is LeasePhase.CLOSING:
        return
    lease.interval = event.interval
    if (lease.holders, lease.data_shards) != (event.holders, event.data_shards):
        lease.holders, lease.data_shards = event.holders, event.data_shards
        yield do.SetHolders(
            **fields_of(lease), holders=event.holders, data_shards=event.data_shards)


def due(lease: LeaseRecord, position: int) -> Commands:
    """Take one at the positions that all segments agree on, if anything is left to do."""
    is_due = lease.interval > 0 and position % lease.interval == 0
    if is_due and lease.run.phase is not None:
        yield do.TakeSnapshot(**fields_of(lease), position=position)


def completed(state: PeerState, event: ev.SnapshotCompleted) -> Commands:
    """Nobody goes back behind this position any more. It never goes down."""
    lease = find_lease(state, event)
    is_held = lease is not None and lease.phase is not LeasePhase.CLOSING
    if lease is not None and is_held and event.position > lease.complete:
        lease.complete = event.position
        yield do.ForgetBefore(**fields_of(lease), position=event.position)


def held(state: PeerState, event: ev.SnapshotHeld) -> Commands:
    """A snapshot has come to a holder: the broker counts them."""
    lease = find_lease(state, event)
    if lease is None or lease.phase is LeasePhase.CLOSING:
        return
    lease.snapshot_problem = ""
    yield from state.reports.add(lease.job_id, lease.segment, lease.token, do.SnapshotBody(
        position=event.position, digest=event.digest, size_bytes=event.size_bytes,
        holder=event.holder, shard=event.shard, data_shards=event.data_shards,
        seconds=event.seconds, giving_s=event.giving_s))


def failed(state: PeerState, event: ev.SnapshotFailed) -> Commands:
    """The segment goes on; what was kept before still is. Shown in the peer's status.

    Nothing is reported: the broker counts what is held, and misses what is not.
    """
    lease = find_lease(state, event)
    if lease is not None:
        lease.snapshot_problem = f"position {event.position}: {event.message} [{event.code}]"
    yield from ()
