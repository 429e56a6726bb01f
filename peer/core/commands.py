"""Everything the peer core may ask its shell to do: imperatives, frozen.

Tensors that a task produces are sent by the shell along `SetMembers.members`: activations and
parameters to the peer of the edge's target, gradients to the peer of its source. Only what the core
decides by value (norms, scales, acknowledgements) is a command of its own.
"""

from __future__ import annotations

from dataclasses import dataclass

from dag.cluster import Correction
from dag.job import JobSpec
from ir.segment import Segment
from peer.core.events import (
    Availability,
    Holder,
    Member,
    SnapshotPart,
    SnapshotSource,
    StandbyLevel,
    Task,
)
from peer.core.phases import Mode


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """Base of all commands about one lease."""

    job_id: str
    segment: int
    token: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadSegment(Command):
    """Fetch what the segment needs, start an executor, load. Answer: SegmentLoaded or Broke.

    What a standby of the segment has prepared is used. At a position above 0 the state comes from
    `snapshot`, or by names from `parts`: from this peer's disk, or else from their holders.
    """

    spec: JobSpec
    program: Segment
    position: int = 0
    snapshot: SnapshotSource | None = None
    parts: tuple[SnapshotPart, ...] = ()
    first_serial: int = 0

    @property
    def serial(self) -> int:
        """What the segment's own snapshots are filed under."""
        return self.first_serial + self.segment


@dataclass(frozen=True, slots=True, kw_only=True)
class SetMembers(Command):
    """Link with the neighbours among `members`; messages may be sent from now on.

    Again whenever somebody else holds a segment: to a holder under a new token go, in order, all
    boundary tensors in the log from `Member.position` on, and then what follows. A segment that
    nobody holds has `peer_id` "": what is for it goes into the log.
    """

    members: tuple[Member, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class TakeArrival(Command):
    """What arrived under this number is due: give a tensor to the executor."""

    arrival: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DropArrival(Command):
    """What arrived under this number was here before: forget it."""

    arrival: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TakeSnapshot(Command):
    """Copy the segment's state, before the next task; then write it, and give it to the holders.

    Answers: `SnapshotHeld`, once for the own disk and once for each holder, or `SnapshotFailed`.
    """

    position: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SetHolders(Command):
    """Who gets snapshots from now on; the newest one too, if they lack it."""

    holders: tuple[Holder, ...]
    data_shards: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ForgetBefore(Command):
    """Drop logged boundary tensors for positions before this one, and older snapshots but one."""

    position: int


@dataclass(frozen=True, slots=True, kw_only=True)
class FreeExecutor(Command):
    """The result is stored: end the executor. Links and log stay, as others may need them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PrepareStandby(Command):
    """Get ready to take a segment over. Answers: `StandbyPrepared` for each level, or Broke."""

    spec: JobSpec
    program: Segment
    level: StandbyLevel
    source: str
    first_serial: int = 0

    @property
    def serial(self) -> int:
        """What the segment's snapshots are filed under."""
        return self.first_serial + self.segment


@dataclass(frozen=True, slots=True, kw_only=True)
class DropStandby(Command):
    """End a standby: its executor process, its blobs, its right to put snapshots here."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunTask(Command):
    """Run one task. Answer: `TaskFinished` or `SegmentBroke`."""

    task: Task


@dataclass(frozen=True, slots=True, kw_only=True)
class SendAcknowledge(Command):
    """Tell the producer of `edge` that a microbatch was used."""

    edge: int
    mode: Mode
    step: int
    microbatch: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SendNorms(Command):
    """Send this segment's squared norms to the lead (segment 0)."""

    step: int
    squared_norms: tuple[tuple[str, float], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SendScale(Command):
    """Send the gradient factor of a step to another segment."""

    target: int
    step: int
    scale: float


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreResult(Command):
    """Upload the segment's parameters or predictions to the broker.

    Answer: `ResultStored` or `SegmentBroke`.
    """


@dataclass(frozen=True, slots=True, kw_only=True)
class UnloadSegment(Command):
    """Flush and close the links, end the executor. Answer: `SegmentUnloaded`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadyBody:
    """The segment is loaded."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepsBody:
    """Consecutive steps were applied; losses from the segment that has the loss.

    Of inference: consecutive microbatches are through, without losses.
    """

    first_step: int
    count: int
    losses: tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationBody:
    """The validation loss after `step` steps."""

    step: int
    loss: float


@dataclass(frozen=True, slots=True, kw_only=True)
class FailedBody:
    """The segment cannot go on, and why."""

    code: str
    message: str
    blamed_peer: str
    cause: str = ""
    evidence: str = ""
    remedy: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotBody:
    """A holder has a snapshot of the segment."""

    position: int
    digest: str
    size_bytes: int
    holder: str
    shard: int
    data_shards: int
    seconds: float
    giving_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class NeighbourLostBody:
    """The link to a neighbour is gone, or it has owed a tensor for too long."""

    neighbour: int
    peer_id: str
    code: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StandbyBody:
    """A standby has reached a level. `problem`: why it cannot get further, if it has broken."""

    level: str
    problem: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class PaceBody:
    """What a microbatch has taken here lately."""

    microbatch_s: float
    microbatches: int


@dataclass(frozen=True, slots=True, kw_only=True)
class FinishedBody:
    """The segment's final parameters, or its predictions, are stored."""

    result_digest: str
    result_bytes: int
    corrections: tuple[Correction, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleasedBody:
    """Nothing of a revoked segment is left."""


ReportBody = (
    ReadyBody | StepsBody | EvaluationBody | FailedBody | FinishedBody | ReleasedBody
    | SnapshotBody | NeighbourLostBody | StandbyBody | PaceBody
)


@dataclass(frozen=True, slots=True, kw_only=True)
class SendReport(Command):
    """Send a numbered report to the broker; the core keeps it until it is acknowledged."""

    number: int
    body: ReportBody


@dataclass(frozen=True, slots=True, kw_only=True)
class TellAvailability:
    """Tell the broker what the owner lets this peer do."""

    availability: Availability
    deadline_ms: int


AnyCommand = (
    LoadSegment | SetMembers | RunTask | SendAcknowledge | SendNorms | SendScale | StoreResult
    | UnloadSegment | SendReport | TakeArrival | DropArrival | TakeSnapshot | SetHolders
    | ForgetBefore | FreeExecutor | PrepareStandby | DropStandby | TellAvailability
)
