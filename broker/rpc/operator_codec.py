"""The core's views of peers and backups as the messages that operators see."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice

from broker.clock import unix_ms
from broker.core import operator_views, views
from broker.core.audit import AuditEntry
from broker.core.event_log import LineFilter, LogLine
from broker.core.machine import Broker
from broker.core.operator_views import NewcomerView
from broker.core.timeline import Span
from broker.core.views import JobView, PeerView, SegmentCoverage
from homespun.v1 import operator_pb2, session_pb2
from homespun.wire import to_message

SEGMENTS_PER_PART = 1_000
"""A segment with its backups takes a few hundred bytes."""
TIMELINE_EVENTS_MAX = 1_000
"""Of one job: at most about 2 MB."""


def peer_status(peer: PeerView) -> operator_pb2.PeerStatus:
    """A peer as an operator sees it."""
    hardware = peer.hardware
    return operator_pb2.PeerStatus(
        peer_id=peer.peer_id,
        name=peer.name,
        state=peer.state,
        hardware=session_pb2.Hardware(
            device=hardware.device,
            device_name=hardware.device_name,
            memory_bytes=hardware.memory_bytes,
            matmul_flops_per_s=hardware.rates.matmul_flops_per_s,
            attention_flops_per_s=hardware.rates.attention_flops_per_s,
            memory_bytes_per_s=hardware.rates.memory_bytes_per_s,
            rates=to_message(hardware.rates, session_pb2.Rates),
            executor=hardware.executor,
            platform=hardware.platform,
            threads=hardware.threads,
            # Without the operators: a list of many peers must stay a message.
            support=session_pb2.ExecutorSupport(
                trainable=hardware.support.trainable,
                opset_min=hardware.support.opset_min,
                opset_max=hardware.support.opset_max,
            ),
        ),
        tensor_address=peer.tensor_address,
        software_version=peer.software_version,
        last_seen_unix_ms=unix_ms(peer.last_seen_ns),
        leases=[
            session_pb2.HeldLease(
                job_id=lease.job_id,
                segment=lease.segment,
                token=lease.token,
                phase=lease.phase,
            )
            for lease in peer.leases
        ],
        links=[
            session_pb2.LinkMeasured(
                to_peer=link.target,
                latency_s=link.latency_s,
                bandwidth_bytes_per_s=link.bandwidth_bytes_per_s,
            )
            for link in peer.links
        ],
        availability=peer.availability,
        is_drained=peer.is_drained,
        drain_unix_ms=unix_ms(peer.drain_at_ns),
        standbys=[to_message(standby, session_pb2.HeldStandby) for standby in peer.standbys],
        standing=peer.standing,
        ban_reason=peer.ban_reason,
        label=peer.label,
    )


def newcomer(one: NewcomerView) -> operator_pb2.Newcomer:
    """A peer that has joined, waits to be admitted, and has never connected."""
    return operator_pb2.Newcomer(
        peer_id=one.peer_id, name=one.name, key_id=one.key_id,
        joined_unix_ms=unix_ms(one.joined_at_ns))


def event_line(line: LogLine) -> operator_pb2.EventLine:
    """A line of the event log."""
    return operator_pb2.EventLine(
        number=line.number, unix_ms=unix_ms(line.at_ns), subject=line.subject, kind=line.kind,
        text=line.text)


def audit_line(entry: AuditEntry) -> operator_pb2.AuditLine:
    """An entry of the audit log."""
    return operator_pb2.AuditLine(
        number=entry.number, unix_ms=unix_ms(entry.at_ns), by=entry.by, action=entry.action,
        subject=entry.subject, details=entry.details, reason=entry.reason, refusal=entry.refusal)


def timeline(
    job: JobView, spans: Sequence[Span], events: Sequence[LogLine], names: Mapping[str, str]
) -> operator_pb2.Timeline:
    """A job's timeline; `names`: of peers, by id."""
    return operator_pb2.Timeline(
        job_id=job.job_id,
        state=job.state,
        submitted_unix_ms=unix_ms(job.submitted_at_ns),
        finished_unix_ms=unix_ms(job.finished_at_ns),
        spans=[
            operator_pb2.TimelineSpan(
                segment=span.segment,
                peer_id=span.peer_id,
                peer_name=names.get(span.peer_id, ""),
                token=span.token,
                position=span.position,
                assigned_unix_ms=unix_ms(span.assigned_at_ns),
                running_unix_ms=unix_ms(span.running_at_ns),
                ended_unix_ms=unix_ms(span.ended_at_ns),
                end=span.end,
                reason=span.reason,
            )
            for span in spans
        ],
        events=[event_line(line) for line in events],
    )


def timeline_of(core: Broker, job_id: str) -> operator_pb2.Timeline:
    """The timeline of a job by its exact id. Cost: linear in the event log that is kept."""
    job = views.job(core, job_id)
    assert job is not None, "jobs are never forgotten"
    lines = operator_views.newest_events(core, LineFilter(subject=job_id), TIMELINE_EVENTS_MAX)
    # A longer id may begin like this one, and its job may be somebody else's.
    events = [line for line in reversed(lines) if line.subject == job_id]
    names = {peer_id: peer.name for peer_id, peer in core.state.peers.items()}
    return timeline(job, operator_views.timeline(core, job_id), events, names)


def backups_parts(core: Broker) -> Iterator[operator_pb2.BackupsPart]:
    """Who could go on with each segment of every started job, in parts that are messages."""
    names = {peer_id: peer.name for peer_id, peer in core.state.peers.items()}
    found = iter(views.backup_view(core.state))
    while some := list(islice(found, SEGMENTS_PER_PART)):
        yield operator_pb2.BackupsPart(segments=[_segment(one, names) for one in some])


def _segment(one: SegmentCoverage, names: dict[str, str]) -> operator_pb2.SegmentBackups:
    return operator_pb2.SegmentBackups(
        job_id=one.job_id,
        segment=one.segment,
        peer=backup_peer(names, one.peer_id),
        position=one.position,
        position_unix_ms=unix_ms(one.position_at_ns),
        latest_position=one.latest_position,
        holders=[backup_peer(names, peer_id) for peer_id in one.holders],
        standbys=[backup_peer(names, peer_id, level) for peer_id, level in one.standbys],
        gap=one.gap,
    )


def backup_peer(
    names: Mapping[str, str], peer_id: str, level: str = ""
) -> operator_pb2.BackupPeer:
    """A peer with its name; `names`: of peers, by id; `level`: of a backup."""
    return operator_pb2.BackupPeer(peer_id=peer_id, name=names.get(peer_id, ""), level=level)
