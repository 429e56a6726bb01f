"""What the peer core remembers. Mutable, private to `peer.core`."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from peer.core.clipping import NormGathering
from peer.core.dataflow import SegmentRun, Waiting
from peer.core.events import AssignmentReceived, Member, Task
from peer.core.reports import ReportQueue


class LeasePhase(StrEnum):
    """Life of a lease on the peer."""

    LOADING = "loading"
    READY = "ready"
    RUNNING = "running"
    STORING = "storing"
    """All phases are done; the parameters are on their way to the broker."""
    FINISHED = "finished"
    """The result is stored; the broker has not acknowledged the report yet."""
    CLOSING = "closing"
    """Being unloaded."""


@dataclass(slots=True)
class LeaseRecord:
    """One lease: the assignment and how far it is."""

    assignment: AssignmentReceived
    run: SegmentRun
    gathering: NormGathering
    phase: LeasePhase = LeasePhase.LOADING
    members: tuple[Member, ...] = ()
    waiting: Waiting | None = None
    waiting_since_ns: int = 0
    is_revoked: bool = False
    steps_done: int = 0

    @property
    def job_id(self) -> str:
        """The job that the lease is of."""
        return self.assignment.job_id

    @property
    def segment(self) -> int:
        """Index of the segment that the lease is of."""
        return self.assignment.segment.index

    @property
    def token(self) -> int:
        """The fencing token."""
        return self.assignment.token

    @property
    def key(self) -> tuple[str, int, int]:
        """(job, segment, token)."""
        return self.job_id, self.segment, self.token

    def peer_of(self, segment: int) -> str:
        """Who holds a segment of this job; "" before the start."""
        return next((m.peer_id for m in self.members if m.segment == segment), "")


@dataclass(frozen=True, slots=True)
class BusyTask:
    """What the executor works on. The token is part of it: a later lease may run the same task."""

    job_id: str
    segment: int
    token: int
    task: Task
    since_ns: int

    @property
    def lease(self) -> tuple[str, int, int]:
        """(job, segment, token) that the task is of."""
        return self.job_id, self.segment, self.token


@dataclass(slots=True)
class PeerState:
    """Everything."""

    now_ns: int = 0
    leases: dict[tuple[str, int], LeaseRecord] = field(default_factory=dict)
    reports: ReportQueue = field(default_factory=ReportQueue)
    busy: BusyTask | None = None
