"""Everything that can happen to the peer core: facts in the past tense, frozen.

`at_ns` is the shell's clock (never goes back); the core compares it only with itself. Identities
were verified by the shell: `from_peer` comes from the certificate of the link.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from dag.cluster import Correction
from dag.job import JobSpec
from ir.segment import Segment
from peer.core.phases import Mode


class TensorKind(StrEnum):
    """What travels between segments, besides norms and scales."""

    ACTIVATION = "activation"
    GRADIENT = "gradient"
    PARAMETER = "parameter"
    PARAMETER_GRADIENT = "parameter_gradient"
    ACKNOWLEDGE = "acknowledge"
    """Stands where no gradient comes back: the consumer has used the activation."""


class TaskKind(StrEnum):
    """What an executor can be asked to do with a loaded segment."""

    FORWARD = "forward"
    BACKWARD = "backward"
    ACCUMULATE = "accumulate"
    """Add the weight gradients that a backward left for later, since nobody else waits for them."""
    COLLECT = "collect"
    """Hand out the gradients of foreign parameters, summed over the step's microbatches."""
    MEASURE = "measure"
    """Finish the step's gradients and return their squared norms."""
    UPDATE = "update"
    """Apply the optimizer, then hand out the new values of shared parameters."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One call of the executor.

    Attributes:
        kind: which call.
        mode: `train`, `evaluate` or `infer`.
        step: optimizer steps done before it.
        microbatch: for forward, backward and accumulate; 0 else.
        scale: factor on the gradients, for update; 1 else.
    """

    kind: TaskKind
    mode: Mode
    step: int
    microbatch: int = 0
    scale: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """One segment of a running job and the peer that holds it.

    Attributes:
        segment: its index.
        peer_id: its holder; "" while nobody has it.
        token: of the holder's lease.
        tensor_address: where the holder is reached.
        position: the segment needs nothing that was sent to it for an earlier position.
    """

    segment: int
    peer_id: str
    token: int
    tensor_address: str
    position: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Holder:
    """A peer that keeps a snapshot, or one shard of it."""

    peer_id: str
    address: str
    shard: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotSource:
    """Where a snapshot can be had.

    Attributes:
        digest: of the whole snapshot.
        size_bytes: of the whole snapshot.
        data_shards: how many different shards give the whole; 1: each holder has the whole.
        holders: who has it.
    """

    digest: str
    size_bytes: int
    data_shards: int
    holders: tuple[Holder, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotPart:
    """A snapshot of a segment of an earlier cut that has a part of another segment's state.

    Attributes:
        serial: what it is filed under.
        source: where it can be had.
    """

    serial: int
    source: SnapshotSource


class StandbyLevel(StrEnum):
    """How far a backup has come; each level includes those before it."""

    STORE = "store"
    """Keeps snapshots that the segment's holder sends."""
    WARM = "warm"
    """Has the blobs too, and an executor process."""
    HOT = "hot"
    """Has compiled the segment."""


class Availability(StrEnum):
    """What the owner lets this peer do."""

    OPEN = "open"
    FINISHING = "finishing"
    """Ends what it has, takes nothing new."""
    PAUSED = "paused"
    """Hands over what it has and waits to be resumed."""
    LEAVING = "leaving"
    """Hands over what it has and goes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Base of all events."""

    at_ns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokerConnected(Event):
    """The session stream is up. The broker has journalled reports through `last_report`."""

    last_report: int


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokerDisconnected(Event):
    """The session stream ended; running segments go on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportsAcknowledged(Event):
    """The broker has journalled this and every earlier report."""

    through_number: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentEvent(Event):
    """Base of events about one lease. Another token than the one held: ignored."""

    job_id: str
    segment: int
    token: int


@dataclass(frozen=True, slots=True, kw_only=True)
class AssignmentReceived(Event):
    """The broker granted a lease. Repeats of the lease that is held change nothing."""

    job_id: str
    token: int
    spec: JobSpec
    segment: Segment
    in_flight: int
    segments: int
    stall_timeout_ms: int
    position: int = 0
    """Where to go on: optimizer steps done before it; of inference microbatches."""
    snapshot: SnapshotSource | None = None
    """Of that position; None at position 0, and where there are parts."""
    parts: tuple[SnapshotPart, ...] = ()
    """Of that position, by segments of an earlier cut: together they have the segment's state."""
    first_serial: int = 0
    """Segments of earlier cuts. Snapshots are filed under that number plus the segment's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StandByReceived(SegmentEvent):
    """The broker wants this peer to be ready to take a segment over.

    `segment` is the index; `program` the segment itself. `source` may put snapshots here.
    """

    spec: JobSpec
    program: Segment
    in_flight: int
    segments: int
    stall_timeout_ms: int
    level: StandbyLevel
    source: str
    first_serial: int = 0
    """As of an assignment."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StandbyPrepared(SegmentEvent):
    """A standby has reached a level."""

    level: StandbyLevel


@dataclass(frozen=True, slots=True, kw_only=True)
class StandbyBroke(SegmentEvent):
    """A standby could not be prepared, or its executor ended: it falls back to `store`."""

    code: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotPlanReceived(SegmentEvent):
    """When to take snapshots, and who keeps them.

    `interval`: positions that are multiples of it; 0 for none.
    """

    interval: int
    holders: tuple[Holder, ...]
    data_shards: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotCompleted(SegmentEvent):
    """Every segment of the job has a snapshot of `position` in safety: what is older may go."""

    position: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotHeld(SegmentEvent):
    """A holder (this peer's own disk included) has a snapshot, or one shard of it.

    `seconds`: that the segment stood still for it; said once, with the own disk. `giving_s`: that
    giving it to another holder took, repetitions included.
    """

    position: int
    digest: str
    size_bytes: int
    holder: str
    shard: int
    data_shards: int
    seconds: float = 0.0
    giving_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotFailed(SegmentEvent):
    """A snapshot could not be taken, or not be given to a holder; the segment goes on."""

    position: int
    code: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class NeighbourLost(SegmentEvent):
    """The link to the holder of a neighbouring segment is gone; the segment goes on waiting."""

    neighbour: int
    peer_id: str
    code: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PaceMeasured(SegmentEvent):
    """What a microbatch has taken here lately, forward and backward together."""

    microbatch_s: float
    microbatches: int


@dataclass(frozen=True, slots=True, kw_only=True)
class AvailabilityChanged(Event):
    """The owner changed what this peer may do. `deadline_ms`: from now; 0 for no hurry."""

    availability: Availability
    deadline_ms: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class StartReceived(SegmentEvent):
    """Who holds which segment: once every segment is loaded, and whenever that changes."""

    members: tuple[Member, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RevokeReceived(SegmentEvent):
    """The broker took the lease back."""

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentLoaded(SegmentEvent):
    """The executor holds the segment's program and parameters."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentBroke(SegmentEvent):
    """Loading, a task, a link or the executor failed: the segment cannot go on.

    Attributes:
        code: an `errors.Code`.
        message: one or two sentences for a person.
        blamed_peer: another peer that caused it, or "".
        cause, evidence, remedy: what `peer.diagnosis` makes of it.
    """

    code: str
    message: str
    blamed_peer: str = ""
    cause: str = ""
    evidence: str = ""
    remedy: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorReceived(SegmentEvent):
    """A neighbour's tensor is here; the shell keeps it until the core takes or drops it.

    `arrival` is the shell's number for it: `TakeArrival` or `DropArrival` will name it.
    """

    arrival: int

    kind: TensorKind
    edge: int
    mode: Mode
    step: int
    microbatch: int


@dataclass(frozen=True, slots=True, kw_only=True)
class NormsReceived(SegmentEvent):
    """For the lead: another segment's squared gradient norms of a step, by parameter name."""

    arrival: int
    source: int
    step: int
    squared_norms: tuple[tuple[str, float], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ScaleReceived(SegmentEvent):
    """From the lead: the factor on the gradients of a step."""

    arrival: int
    step: int
    scale: float


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskFinished(SegmentEvent):
    """The executor finished the task it was given; its tensors are on their way.

    Attributes:
        task: which.
        loss: of a forward where the segment has the loss.
        has_deferred: whether a backward left weight gradients for later.
        squared_norms: of a measure, by parameter name.
    """

    task: Task
    loss: float | None = None
    has_deferred: bool = False
    squared_norms: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ResultStored(SegmentEvent):
    """The broker holds the segment's final parameters, or its predictions, as a blob.

    `corrections` is what the segment's tasks taught about this device, empty for nothing new.
    """

    digest: str
    size_bytes: int
    corrections: tuple[Correction, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentUnloaded(SegmentEvent):
    """Nothing of the segment is left: executor gone, links closed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TimerFired(Event):
    """The time that `Peer.next_wakeup_ns` named has come."""


AnyEvent = (
    BrokerConnected | BrokerDisconnected | ReportsAcknowledged | AssignmentReceived | StartReceived
    | RevokeReceived | SegmentLoaded | SegmentBroke | TensorReceived | NormsReceived
    | ScaleReceived | TaskFinished | ResultStored | SegmentUnloaded | TimerFired
    | StandByReceived | StandbyPrepared | StandbyBroke | SnapshotPlanReceived | SnapshotCompleted
    | SnapshotHeld | SnapshotFailed | NeighbourLost | PaceMeasured | AvailabilityChanged
)
