"""What the peer core remembers. Mutable, private to `peer.core`."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from peer.core.clipping import NormGathering
from peer.core.dataflow import SegmentRun, Waiting
from peer.core.events import (
    AssignmentReceived,
    Availability,
    Holder,
    Member,
    NormsReceived,
    ScaleReceived,
    SegmentEvent,
    StandbyLevel,
    StandByReceived,
    Task,
    TensorReceived,
)
from peer.core.reports import ReportQueue


class LeasePhase(StrEnum):
    """Life of a lease on the peer."""

    LOADING = "loading"
    READY = "ready"
    RUNNING = "running"
    STORING = "storing"
    """All phases are done; the parameters are on their way to the broker."""
    FINISHED = "finished"
    """The result is stored. The log stays, as neighbours may be replayed, until the job ends."""
    CLOSING = "closing"
    """Being unloaded."""


Arrival = TensorReceived | NormsReceived | ScaleReceived
"""What neighbours send."""


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
    is_stall_told: bool = False
    """The broker knows of the present wait."""
    lost: set[tuple[int, str]] = field(default_factory=set)
    """(segment, code) of lost neighbours that the broker knows of; asked for membership only."""
    is_revoked: bool = False
    steps_done: int = 0
    held: list[Arrival] = field(default_factory=list)
    """Too early yet, oldest first; each one's link waits."""
    interval: int = 0
    """Positions that are multiples of it get a snapshot; 0 for none."""
    holders: tuple[Holder, ...] = ()
    data_shards: int = 1
    complete: int = 0
    """The complete position, as far as the broker has told."""
    snapshot_problem: str = ""
    """Why the newest snapshot failed; "" if it did not."""

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
        """Who holds a segment of this job; "" before the start, and while nobody does."""
        return next((m.peer_id for m in self.members if m.segment == segment), "")

    def is_vacant(self, segment: int) -> bool:
        """Whether another segment of this job has no holder now: the broker looks for one."""
        return segment != self.segment and not self.peer_of(segment)


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
class StandbyRecord:
    """One duty to be ready to take a segment over."""

    asked: StandByReceived
    level: StandbyLevel | None = None
    """Reached so far."""
    problem: str = ""
    """Why it is not further; "" while it gets on."""


@dataclass(slots=True)
class PeerState:
    """Everything."""

    now_ns: int = 0
    leases: dict[tuple[str, int], LeaseRecord] = field(default_factory=dict)
    standbys: dict[tuple[str, int], StandbyRecord] = field(default_factory=dict)
    availability: Availability = Availability.OPEN
    drain_at_ns: int | None = None
    """When what it holds must be elsewhere, by the owner's wish; None for no hurry."""
    is_connected: bool = False
    reports: ReportQueue = field(default_factory=ReportQueue)
    busy: BusyTask | None = None


def find_lease(state: PeerState, event: SegmentEvent) -> LeaseRecord | None:
    """The lease that an event names by its token; None if it is not held (any more)."""
    lease = state.leases.get((event.job_id, event.segment))
    return lease if lease is not None and lease.token == event.token else None


def fields_of(owner: LeaseRecord | SegmentEvent) -> dict[str, Any]:
    """The three fields that every command about a lease, or a standby, carries."""
    return {"job_id": owner.job_id, "segment": owner.segment, "token": owner.token}
