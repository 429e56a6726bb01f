"""Everything the broker core may ask its shell to do: imperatives, frozen.

Commands to peers are sent at least once and are idempotent by (job, segment, token).
"""

from __future__ import annotations

from dataclasses import dataclass

from dag.cluster import Cluster
from dag.job import JobSpec
from ir.segment import Segment


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """Base of all commands."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply(Command):
    """Answer a request: `value` is the id that it asked for or made."""

    request_id: str
    value: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Reject(Command):
    """Refuse a request, with an `errors.Code` and a message for a person."""

    request_id: str
    code: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AdmitIdentity(Command):
    """Issue a certificate to the enroller who asked with `request_id`."""

    request_id: str
    identity: str
    role: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SolvePlacement(Command):
    """Ask the planner, outside the core; it answers with `PlacementSolved` or `PlanningFailed`."""

    job_id: str
    spec: JobSpec
    cluster: Cluster
    cluster_version: int


@dataclass(frozen=True, slots=True, kw_only=True)
class AssignSegment(Command):
    """Grant a lease: tell a peer to load a segment."""

    peer_id: str
    job_id: str
    token: int
    spec: JobSpec
    segment: Segment
    in_flight: int
    segments: int
    stall_timeout_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """One segment of a running job and where it is."""

    segment: int
    peer_id: str
    token: int
    tensor_address: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StartJob(Command):
    """Every segment is ready: tell a peer who its neighbours are and let it run."""

    peer_id: str
    job_id: str
    segment: int
    token: int
    members: tuple[Member, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RevokeSegment(Command):
    """Take a lease back: the peer drops the segment and reports `SegmentReleased`."""

    peer_id: str
    job_id: str
    segment: int
    token: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AcknowledgeReports(Command):
    """Reports of a peer through this number are applied; the shell sends it once durable."""

    peer_id: str
    through_number: int


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasureLink(Command):
    """Ask a peer to measure its link to another."""

    peer_id: str
    to_peer: str
    tensor_address: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DisconnectPeer(Command):
    """End a session: another session of the same peer has replaced it, or it may not be here."""

    peer_id: str
    session_id: str
    code: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Note(Command):
    """A line for the operator's event log: what was decided and why.

    Attributes:
        subject: the job or peer id.
        event: stable short name (`job_failed`, `peer_lost`, ...).
        text: one sentence for a person.
    """

    subject: str
    event: str
    text: str


AnyCommand = (
    Reply | Reject | AdmitIdentity | SolvePlacement | AssignSegment | StartJob | RevokeSegment
    | AcknowledgeReports | MeasureLink | DisconnectPeer | Note
)
