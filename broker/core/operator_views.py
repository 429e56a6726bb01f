"""Read-only answers for operators: who is meant, who waits, why nothing runs, what happened."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from broker.core.audit import AuditEntry
from broker.core.event_log import LineFilter, LogLine
from broker.core.left_out import left_out
from broker.core.machine import Broker
from broker.core.no_work import counted_refusals, no_work, standing_reasons
from broker.core.readiness import LEVELS
from broker.core.state import JobState, PeerRecord, PeerState
from broker.core.timeline import Span
from broker.core.views import backup_view
from ir.graph import INFER, TRAIN

FREE = "It is free, and no plan has needed it."


@dataclass(frozen=True, slots=True, kw_only=True)
class NewcomerView:
    """A peer that has joined and waits to be admitted, and has never connected."""

    peer_id: str
    name: str
    key_id: str
    joined_at_ns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """How many there are of what, for metrics: each a tuple of (label values, number).

    What there is none of is there too, with 0: Prometheus sees no rise from what it never saw.

    Attributes:
        peers: by `pending`, `live`, `suspect`, `lost`, `banned`.
        jobs: by kind and state.
        standbys: by level reached; `none` for not yet.
        segments: of started jobs, by whether nothing is lacking to take them over: `yes`, `no`.
        takeovers: ever.
        events: lines of the event log ever.
    """

    peers: tuple[tuple[tuple[str, ...], int], ...]
    jobs: tuple[tuple[tuple[str, ...], int], ...]
    standbys: tuple[tuple[tuple[str, ...], int], ...]
    segments: tuple[tuple[tuple[str, ...], int], ...]
    takeovers: int
    events: int


def counts(broker: Broker) -> Counts:
    """Count everything. Cost: linear in peers, jobs and standbys."""
    state = broker.state
    peers = Counter(_shown_state(broker, peer) for peer in state.peers.values()
                    if peer.peer_id not in state.forgotten)
    jobs = Counter((job.spec.kind, job.state.value) for job in state.jobs.values())
    standbys = Counter(standby.level or "none" for job in state.unfinished.values()
                       for standby in job.standbys.values())
    covered = Counter(not one.gap for one in backup_view(state))
    return Counts(
        peers=tuple(((name,), peers[name])
                    for name in ("pending", *map(str, PeerState), "banned")),
        jobs=tuple(((kind, job_state.value), jobs[kind, job_state.value])
                   for kind in (TRAIN, INFER) for job_state in JobState),
        standbys=tuple(((name,), standbys[name]) for name in ("none", *LEVELS[1:])),
        segments=((("yes",), covered[True]), (("no",), covered[False])),
        takeovers=sum(job.takeovers for job in state.jobs.values()),
        events=broker.events.last_number)


def _shown_state(broker: Broker, peer: PeerRecord) -> str:
    if peer.peer_id in broker.state.banned:
        return "banned"
    return "pending" if peer.is_pending else peer.state.value


def newcomers(broker: Broker) -> tuple[NewcomerView, ...]:
    """Peers that wait to be admitted and have never connected, oldest first."""
    return tuple(
        NewcomerView(peer_id=each.identity, name=each.name, key_id=each.key_id,
                     joined_at_ns=each.admitted_at_ns)
        for each in broker.state.identities.values()
        if each.is_pending and each.identity not in broker.state.peers)


def matching_peers(broker: Broker, text: str) -> tuple[str, ...]:
    """Ids of the peers that a person may mean: that id, else of that name, else that begin so."""
    return _meant(_names_of_peers(broker), text)


def matching_members(broker: Broker, text: str) -> tuple[str, ...]:
    """The same among all peers and submitters that have ever joined."""
    names: dict[str, tuple[str, ...]] = {
        known.identity: (known.name,) for known in broker.state.identities.values()}
    return _meant(names | _names_of_peers(broker), text)


def _names_of_peers(broker: Broker) -> dict[str, tuple[str, ...]]:
    return {peer_id: (peer.name, peer.operator_label)
            for peer_id, peer in broker.state.peers.items()
            if peer_id not in broker.state.forgotten}


def matching_keys(broker: Broker, text: str) -> tuple[str, ...]:
    """Ids of the join keys that a person may mean: that id, else those that begin so."""
    return _meant(dict.fromkeys(broker.state.keys, ()), text)


def _meant(names: Mapping[str, tuple[str, ...]], text: str) -> tuple[str, ...]:
    if not text or text in names:
        return (text,) * bool(text)
    named = tuple(sorted(each for each, called in names.items() if text in called))
    return named or tuple(sorted(each for each in names if each.startswith(text)))


def is_shut_out(broker: Broker, identity: str) -> bool:
    """Whether an operator has banned or removed a member."""
    return identity in broker.state.banned or identity in broker.state.forgotten


def why_idle(broker: Broker, peer_id: str) -> tuple[str, ...]:
    """Why a peer runs nothing, as sentences; empty for one that does. Cost: O(unfinished jobs)."""
    state = broker.state
    peer = state.peers.get(peer_id)
    if peer is None or peer.leases:
        return ()
    if peer.state is not PeerState.LIVE:
        return (f"It is {peer.state}: {peer.trouble}.",)
    reasons = [each.text for each in standing_reasons(peer)]
    if not state.unfinished:
        reasons.append("No job waits or runs.")
    for job in state.unfinished.values():
        reasons += [
            f"{job.job_id}: {each.text}" for each in left_out(job) if each.subject == peer_id]
        if job.state is JobState.SUBMITTED and job.reason:
            reasons.append(f"{job.job_id} {job.reason}.")
    return tuple(reasons or (FREE,))


def first_reasons(broker: Broker, peer_ids: Iterable[str]) -> dict[str, str]:
    """The first reason of each peer that runs nothing or is not there, by id: for lists.

    Cost: linear in the idle peers of unfinished jobs' plans, once for all.
    """
    state = broker.state
    refusals = counted_refusals(state)
    found = {}
    for peer_id in peer_ids:
        peer = state.peers[peer_id]
        if peer.state is not PeerState.LIVE:  # though what it held may not be another's yet
            found[peer_id] = f"It is {peer.state}: {peer.trouble}."
        elif not peer.leases:
            reasons = no_work(state, peer_id, refusals)
            found[peer_id] = reasons[0].text if reasons else FREE
    return found


def newest_events(broker: Broker, wanted: LineFilter, limit: int) -> tuple[LogLine, ...]:
    """Lines of the event log, newest first. Cost: linear in what is kept."""
    return broker.events.newest(wanted, limit)


def events_after(
    broker: Broker, number: int, wanted: LineFilter, limit: int
) -> tuple[LogLine, ...]:
    """Lines of the event log after a number, oldest first. Cost: linear in what is kept."""
    return broker.events.after(number, wanted, limit)


def audit(broker: Broker, limit: int) -> tuple[AuditEntry, ...]:
    """What operators did, newest first."""
    return broker.audit.newest(limit)


def timeline(broker: Broker, job_id: str) -> tuple[Span, ...]:
    """Who had which segment of a job and when, by segment, then in order of time."""
    return broker.timelines.of(job_id)
