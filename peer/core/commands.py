"""Everything the peer core may ask its shell to do: imperatives, frozen.

Tensors that a task produces are sent by the shell along `OpenLinks.members`: activations and
parameters to the peer of the edge's target, gradients to the peer of its source. Only what the core
decides by value (norms, scales, acknowledgements) is a command of its own.
"""

from __future__ import annotations

from dataclasses import dataclass

from dag.cluster import Correction
from dag.job import JobSpec
from ir.segment import Segment
from peer.core.events import Member, Task
from peer.core.phases import Mode


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """Base of all commands about one lease."""

    job_id: str
    segment: int
    token: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadSegment(Command):
    """Fetch what the segment needs, start an executor, load. Answer: SegmentLoaded or Broke."""

    spec: JobSpec
    program: Segment


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenLinks(Command):
    """Open links to the neighbours among `members`; messages may be sent from now on."""

    members: tuple[Member, ...]


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


@dataclass(frozen=True, slots=True, kw_only=True)
class FinishedBody:
    """The segment's final parameters, or its predictions, are stored."""

    result_digest: str
    result_bytes: int
    corrections: tuple[Correction, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleasedBody:
    """Nothing of a revoked segment is left."""


ReportBody = ReadyBody | StepsBody | EvaluationBody | FailedBody | FinishedBody | ReleasedBody


@dataclass(frozen=True, slots=True, kw_only=True)
class SendReport(Command):
    """Send a numbered report to the broker; the core keeps it until it is acknowledged."""

    number: int
    body: ReportBody


AnyCommand = (
    LoadSegment | OpenLinks | RunTask | SendAcknowledge | SendNorms | SendScale | StoreResult
    | UnloadSegment | SendReport
)
