"""Everything that can happen to the broker core: facts in the past tense, frozen.

Each event carries `at_ns`: Unix time in nanoseconds as the shell keeps it, which never goes back
(after a restart it goes on from the journal's last). Identities in events are verified: the shell
took them from a certificate, never from a message. `by` and `reason` of an operator's action are
who acted and why; both are "" where an older broker wrote the journal. The journal stores these
values as JSON.
"""

from __future__ import annotations

from dataclasses import dataclass

from broker.core.policy import Policy
from dag.cluster import Correction, Link, PeerRates
from dag.job import JobSpec
from dag.placement import Infeasible, Placement
from dag.support import FIRST_RELEASE, ExecutorSupport


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerHardware:
    """What a peer says of its machine (mirrors `Hardware` of session.proto).

    `support` is what its executor can run; a peer of the first release says nothing of it.
    """

    device: str
    device_name: str
    memory_bytes: int
    rates: PeerRates
    executor: str
    platform: str
    threads: int
    support: ExecutorSupport = FIRST_RELEASE

    @property
    def numeric_class(self) -> str:
        """What its bits depend on, as far as it says; its executor knows more exactly."""
        kind = self.device.partition(":")[0]
        return f"{self.executor} on {kind}, {self.device_name}, {self.threads} threads"


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldLease:
    """A lease that a peer says it still runs when it registers."""

    job_id: str
    segment: int
    token: int
    phase: str


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldStandby:
    """A standby that a peer says it still keeps when it registers."""

    job_id: str
    segment: int
    token: int
    level: str


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldSnapshot:
    """A snapshot, or one shard of it, that a peer says lies on its disk when it registers.

    `segment` is its serial number: its index, and behind that of earlier cuts' segments.
    """

    job_id: str
    segment: int
    position: int
    digest: str
    size_bytes: int
    shard: int = 0
    data_shards: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Base of all events. `at_ns`: when the shell saw it."""

    at_ns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokerStarted(Event):
    """The process started (first event ever, and the first after each restart)."""

    policy: Policy


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyCreated(Event):
    """An operator made a join key. Only the hash of its secret is known.

    `needs_admission`: peers that join with it are pending until an operator admits them.
    """

    request_id: str
    key_id: str
    secret_hash: str
    role: str
    reusable: bool
    expires_at_ns: int
    by: str = ""
    reason: str = ""
    needs_admission: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyRevoked(Event):
    """An operator revoked a join key."""

    request_id: str
    key_id: str
    by: str = ""
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class EnrolmentRequested(Event):
    """Somebody presented a join key. Answered by `AdmitIdentity` or `Reject`.

    `new_id` was drawn at random by the shell (`peer_...` or `client_...` by the key's role is the
    core's choice: `new_id` is the part after the prefix). `wanted_role` is what the joiner means to
    be; empty for whatever the key is for.
    """

    request_id: str
    key_id: str
    secret_hash: str
    name: str
    new_id: str
    wanted_role: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerConnected(Event):
    """A peer opened its session stream and registered.

    `joins_parts`: whether it can put a segment's state together from several snapshots.
    """

    peer_id: str
    session_id: str
    name: str
    software_version: str
    tensor_address: str
    hardware: PeerHardware
    leases: tuple[HeldLease, ...]
    standbys: tuple[HeldStandby, ...] = ()
    snapshots: tuple[HeldSnapshot, ...] = ()
    availability: str = "open"
    drain_ms: int = 0
    joins_parts: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerDisconnected(Event):
    """A session stream ended. Older than the peer's current session: ignored."""

    peer_id: str
    session_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class HeartbeatsSeen(Event):
    """Signs of life since the last tick, merged. Not journalled: kept in memory only."""

    peer_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkMeasured(Event):
    """A peer measured its link to another."""

    link: Link


@dataclass(frozen=True, slots=True, kw_only=True)
class TransfersMeasured(Event):
    """A peer says how fast the tensors of a job crossed to another peer."""

    source: str
    target: str
    bandwidth_bytes_per_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class JobSubmitted(Event):
    """A submitter sent a job whose blobs are all stored. Answered by `Reply` or `Reject`."""

    request_id: str
    owner_id: str
    submission_id: str
    spec: JobSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class CancelRequested(Event):
    """The owner or an operator wants a job to end."""

    request_id: str
    job_id: str
    by: str
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlacementSolved(Event):
    """The planner answered `SolvePlacement`."""

    job_id: str
    cluster_version: int
    answer: Placement | None
    infeasible: Infeasible | None


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanningFailed(Event):
    """The planner could not use the job: its graph is not acceptable."""

    job_id: str
    code: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AvailabilityChanged(Event):
    """A peer's owner changed what it may do: `open`, `finishing`, `paused` or `leaving`.

    `deadline_ms`: from now, when what it holds must be elsewhere; 0 for no hurry.
    """

    peer_id: str
    availability: str
    deadline_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DrainRequested(Event):
    """An operator wants a peer emptied (or, with `undo`, used again). Answered by its id."""

    request_id: str
    peer_id: str
    by: str
    deadline_ms: int
    undo: bool = False
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class LateRenewalRequested(Event):
    """Whose certificate has expired asks for another. Answered by `AdmitIdentity` or `Reject`.

    The shell has verified that the network issued the certificate and that its key asks.
    `expired_at_ns`: when it ended, Unix time.
    """

    request_id: str
    identity: str
    expired_at_ns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerAdmitted(Event):
    """An operator admits a peer that has joined with a key that needs it. Answered by its id."""

    request_id: str
    peer_id: str
    by: str
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class MemberBanned(Event):
    """An operator shuts a member out (or, with `undo`, in again). Answered by its id."""

    request_id: str
    member_id: str
    by: str
    reason: str = ""
    undo: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerForgotten(Event):
    """An operator removes a peer that is gone from the network. Answered by its id."""

    request_id: str
    peer_id: str
    by: str
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerLabelled(Event):
    """An operator says what a peer is to people; "" takes that back. Answered by its id."""

    request_id: str
    peer_id: str
    label: str
    by: str
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsoleAccessed(Event):
    """Somebody made a way into the console or used it. Changes nothing; the audit log shows it.

    Attributes:
        by: the operator who made the link.
        action: `link made`, `signed in` or `signed out`.
        role: of the session: `viewer` or `operator`.
        session_id: "" of a link that nobody has used.
    """

    by: str
    action: str
    role: str
    session_id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class JournalRestored(Event):
    """The journal was put back from a copy: what happened after the copy was made is not known.

    Attributes:
        by: the operator who did it.
        reason: why, in an operator's words.
        copied_at_ns: when the copy was made, Unix time.
    """

    by: str
    reason: str
    copied_at_ns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class BackupsRanked(Event):
    """The planner answered `RankBackups`: who could take over which segment.

    Attributes:
        ranking: per segment, (peer id, predicted seconds of a microbatch), the best first.
    """

    job_id: str
    cluster_version: int
    ranking: tuple[tuple[tuple[str, float], ...], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class JobReplanned(Event):
    """The planner answered `ReplanJob`.

    Attributes:
        answer: the best plan on the peers that were asked about; None if there is none.
        stay_s: predicted step of the present plan, by the same measures.
        move_s: predicted time until every new segment has its state.
        problem: why there is no answer.
    """

    job_id: str
    cluster_version: int
    answer: Placement | None
    stay_s: float
    move_s: float
    problem: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerReport(Event):
    """Base of reports about one segment. Numbered per peer; repeats are ignored.

    `number` grows by one per report of a peer, forever.
    """

    peer_id: str
    number: int
    job_id: str
    segment: int
    token: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentReady(PeerReport):
    """The segment is loaded; it can start."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepsDone(PeerReport):
    """Consecutive steps were applied. `losses` has one per step from the segment with the loss."""

    first_step: int
    count: int
    losses: tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationDone(PeerReport):
    """The validation split was evaluated after `step` optimizer steps."""

    step: int
    loss: float


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentFailed(PeerReport):
    """The segment cannot go on."""

    code: str
    message: str
    blamed_peer: str
    cause: str = ""
    evidence: str = ""
    remedy: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotStored(PeerReport):
    """A holder has a snapshot of the segment, or one shard of it."""

    position: int
    digest: str
    size_bytes: int
    holder: str
    shard: int
    data_shards: int
    seconds: float
    giving_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class NeighbourLost(PeerReport):
    """The link to a neighbour is gone, or it has owed a tensor for too long."""

    neighbour: int
    blamed_peer: str
    code: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StandbyReady(PeerReport):
    """A standby has reached a level: `store`, `warm` or `hot`.

    `problem`: why it cannot get further, if it has broken; "" while it gets on.
    """

    level: str
    problem: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentPace(PeerReport):
    """What a microbatch has taken on a peer lately."""

    microbatch_s: float
    microbatches: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentFinished(PeerReport):
    """All steps are applied and the segment's parameters are stored as a blob.

    `corrections` is what the peer's tasks have taught about its device, empty for nothing new.
    """

    result_digest: str
    result_bytes: int
    corrections: tuple[Correction, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentReleased(PeerReport):
    """After a revoke: the peer holds nothing of the segment any more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PieceStored(Event):
    """A peer has stored the parameters in a snapshot of a job that has ended, or cannot.

    Attributes:
        serial: the segment, counted over all cuts of the job.
        position: of the snapshot.
        digest: of the stored blob.
        size_bytes: its size.
        problem: why there is none; "" where there is.
    """

    peer_id: str
    job_id: str
    serial: int
    position: int
    digest: str = ""
    size_bytes: int = 0
    problem: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class TimerFired(Event):
    """The time that `Broker.next_wakeup_ns` named has come. Made by `Broker.timer`.

    Heartbeats are not journalled, so a replay cannot know who was silent. What the heartbeats say
    therefore enters as a fact, here, and every decision drawn from silence is replayed exactly.

    Attributes:
        silent_peers: connected peers not heard of for `Policy.lease_ttl_ms`, by id.
    """

    silent_peers: tuple[str, ...]


AnyEvent = (
    BrokerStarted | KeyCreated | KeyRevoked | EnrolmentRequested | PeerConnected
    | PeerDisconnected | HeartbeatsSeen | LinkMeasured | TransfersMeasured | JobSubmitted
    | CancelRequested | PlacementSolved | PlanningFailed | SegmentReady | StepsDone
    | EvaluationDone | SegmentFailed | SegmentFinished | SegmentReleased | TimerFired
    | SnapshotStored | NeighbourLost | StandbyReady | SegmentPace | AvailabilityChanged
    | DrainRequested | BackupsRanked | ConsoleAccessed | PeerAdmitted | MemberBanned
    | PeerLabelled | JournalRestored | JobReplanned | LateRenewalRequested
    | PeerForgotten | PieceStored
)


def is_journalled(event: AnyEvent) -> bool:
    """Tell whether the shell must make `event` durable before it applies it."""
    return not isinstance(event, HeartbeatsSeen)
