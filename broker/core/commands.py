"""Everything the broker core may ask its shell to do: imperatives, frozen.

Commands to peers are sent at least once and are idempotent by (job, segment, token).
"""

from __future__ import annotations

from dataclasses import dataclass

from dag.cluster import Cluster
from dag.job import JobSpec
from dag.placement import SegmentPlacement
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
class RankBackups(Command):
    """Ask the planner which peers could run which segment; it answers with `BackupsRanked`."""

    job_id: str
    spec: JobSpec
    segments: tuple[SegmentPlacement, ...]
    cluster: Cluster
    cluster_version: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplanJob(Command):
    """Ask the planner for a better plan of a running job; it answers with `JobReplanned`.

    `segments` is the present plan, each on its peer of now.
    """

    job_id: str
    spec: JobSpec
    segments: tuple[SegmentPlacement, ...]
    cluster: Cluster
    cluster_version: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Holder:
    """A peer that keeps a snapshot, or one shard of it, and where it is reached."""

    peer_id: str
    address: str
    shard: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotSource:
    """Where a snapshot can be had; `data_shards` different shards give the whole."""

    digest: str
    size_bytes: int
    data_shards: int
    holders: tuple[Holder, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotPart:
    """A snapshot of a segment of an earlier cut, which has a part of another segment's state.

    `serial`: the number of the segment that it is of, among all that the job has had.
    """

    serial: int
    source: SnapshotSource


@dataclass(frozen=True, slots=True, kw_only=True)
class StandBy(Command):
    """Make a peer a backup of a segment; sending it again changes nothing there.

    `first_serial`: segments that the job had in earlier cuts.
    """

    peer_id: str
    job_id: str
    segment: Segment
    token: int
    spec: JobSpec
    in_flight: int
    segments: int
    stall_timeout_ms: int
    level: str
    source: str
    first_serial: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanSnapshots(Command):
    """Tell the holder of a segment when to take snapshots, and who keeps them."""

    peer_id: str
    job_id: str
    segment: int
    token: int
    interval: int
    holders: tuple[Holder, ...]
    data_shards: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CompleteSnapshot(Command):
    """Tell the holder of a segment that every segment has a snapshot of a position in safety."""

    peer_id: str
    job_id: str
    segment: int
    token: int
    position: int


@dataclass(frozen=True, slots=True, kw_only=True)
class AssignSegment(Command):
    """Grant a lease: tell a peer to load a segment.

    At a position above 0 its state is one snapshot's, or what `parts` have of it together.
    `first_serial`: segments that the job had in earlier cuts.
    """

    peer_id: str
    job_id: str
    token: int
    spec: JobSpec
    segment: Segment
    in_flight: int
    segments: int
    stall_timeout_ms: int
    position: int = 0
    snapshot: SnapshotSource | None = None
    parts: tuple[SnapshotPart, ...] = ()
    first_serial: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """One segment of a running job and where it is; `peer_id` is "" while nobody has it.

    The segment needs nothing that was sent to it for a position before `position`.
    """

    segment: int
    peer_id: str
    token: int
    tensor_address: str
    position: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class StartJob(Command):
    """Tell a peer who holds which segment, and let it run; again whenever that changes."""

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
class StorePiece(Command):
    """Ask a holder of a snapshot to store the parameters in it where results are stored.

    The job has ended. It answers with `PieceStored`; `timeout_ms` is what is left until it is of no
    use any more.
    """

    peer_id: str
    job_id: str
    serial: int
    position: int
    source: SnapshotSource
    timeout_ms: int


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
    RankBackups | ReplanJob | StorePiece | StandBy | PlanSnapshots | CompleteSnapshot
    | Reply | Reject | AdmitIdentity | SolvePlacement | AssignSegment | StartJob | RevokeSegment
    | AcknowledgeReports | MeasureLink | DisconnectPeer | Note
)
