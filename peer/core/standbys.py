"""What this peer stands by for: fenced by tokens like leases, and told to the broker by level."""

from __future__ import annotations

from collections.abc import Iterator

from peer.core import commands as do
from peer.core import events as ev
from peer.core.state import PeerState, StandbyRecord, fields_of

STANDBYS_MAX = 64
"""Standbys at once; a broker that asks for more is told that the newest is released."""

Commands = Iterator[do.AnyCommand]


def asked(state: PeerState, event: ev.StandByReceived) -> Commands:
    """Take a duty on, or learn that it has changed. Repeats change nothing."""
    key = event.job_id, event.segment
    known = state.standbys.get(key)
    lease = state.leases.get(key)
    is_stale = known is not None and known.asked.token > event.token
    if is_stale or (lease is not None and lease.token >= event.token):
        return
    if known is None and len(state.standbys) >= STANDBYS_MAX:
        yield from state.reports.add(*key, event.token, do.ReleasedBody())
        return
    if known is not None and _is_same(known.asked, event):
        yield from _report(state, known)
        return
    state.standbys[key] = StandbyRecord(event)
    yield do.PrepareStandby(
        **fields_of(event), spec=event.spec, program=event.program, level=event.level,
        source=event.source, first_serial=event.first_serial)


def _is_same(known: ev.StandByReceived, event: ev.StandByReceived) -> bool:
    return (known.token, known.level, known.source) == (event.token, event.level, event.source)


def prepared(state: PeerState, event: ev.StandbyPrepared) -> Commands:
    """The shell has come to a level."""
    record = find(state, event)
    if record is not None and record.level is not event.level:
        record.level, record.problem = event.level, ""
        yield from _report(state, record)


def broke(state: PeerState, event: ev.StandbyBroke) -> Commands:
    """Preparing failed: what is left is keeping snapshots."""
    record = find(state, event)
    if record is not None:
        record.level, record.problem = ev.StandbyLevel.STORE, f"{event.message} [{event.code}]"
        yield from _report(state, record)


def revoked(state: PeerState, event: ev.RevokeReceived) -> Commands:
    """The duty is over."""
    record = find(state, event)
    if record is None:
        return
    del state.standbys[event.job_id, event.segment]
    yield do.DropStandby(**fields_of(event))
    yield from state.reports.add(event.job_id, event.segment, event.token, do.ReleasedBody())


def consume(state: PeerState, job_id: str, segment: int) -> None:
    """A lease takes the place of the standby: the shell goes on with what is prepared."""
    state.standbys.pop((job_id, segment), None)


def find(state: PeerState, event: ev.SegmentEvent) -> StandbyRecord | None:
    """The standby that an event names by its token; None if there is none."""
    record = state.standbys.get((event.job_id, event.segment))
    return record if record is not None and record.asked.token == event.token else None


def _report(state: PeerState, record: StandbyRecord) -> Commands:
    if record.level is not None:
        event = record.asked
        yield from state.reports.add(
            event.job_id, event.segment, event.token,
            do.StandbyBody(level=str(record.level), problem=record.problem))

