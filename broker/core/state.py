"""What the broker core remembers. Mutable, slotted, private to `broker.core`; others read `views`.

`Turn` is one application of an event: the state, the time, and the commands so far. Every rule of
the core is a function over a turn. Fields marked `SOFT` are readings that a replay of the journal
cannot know (heartbeats); no decision is drawn from them, and the state digest leaves them out.
"""

from __future__ import annotations

from array import array
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from broker.core.commands import AnyCommand, Note
from broker.core.events import PeerHardware
from broker.core.policy import Policy
from dag.cluster import Link
from dag.job import JobSpec
from dag.placement import Placement
from ir.segment import Segment

NS_PER_MS = 1_000_000
SOFT: Mapping[str, bool] = {"soft": True}


class PeerState(StrEnum):
    """Membership of a peer."""

    LIVE = "live"
    SUSPECT = "suspect"
    LOST = "lost"


class JobState(StrEnum):
    """Life of a job; see `jobs.TRANSITIONS`."""

    SUBMITTED = "submitted"
    PLANNING = "planning"
    PREPARING = "preparing"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


TERMINAL = frozenset({JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED})


class LeasePhase(StrEnum):
    """Life of a lease, as the broker knows it."""

    ASSIGNED = "assigned"
    READY = "ready"
    RUNNING = "running"
    FINISHED = "finished"
    """The result is stored. The peer drops the segment by itself."""
    REVOKED = "revoked"
    """Taken back, but the peer has not confirmed yet that it holds nothing."""
    RELEASED = "released"


HELD_PHASES = frozenset({LeasePhase.ASSIGNED, LeasePhase.READY, LeasePhase.RUNNING})
"""The peer must hold the segment."""
VALID_PHASES = HELD_PHASES | {LeasePhase.FINISHED}
"""The token is the current one of its segment."""


@dataclass(slots=True, eq=False)
class LeaseRecord:
    """One grant of one segment to one peer. Its token never comes again."""

    job_id: str
    peer_id: str
    token: int
    segment: Segment
    in_flight: int
    memory_bytes: int
    blobs: frozenset[str]
    """Digests of every blob that this segment needs. For membership tests only, never iterated."""
    result_bytes_max: int
    phase: LeasePhase = LeasePhase.ASSIGNED
    steps_done: int = 0
    deadline_ns: int | None = None
    """REVOKED: until when the peer must confirm. RUNNING: the peer came back without the segment;
    until when a report may still explain that."""
    result_digest: str = ""
    result_bytes: int = 0

    @property
    def index(self) -> int:
        """Number of the segment in its job."""
        return self.segment.index


@dataclass(slots=True)
class PeerRecord:
    """One peer that has connected at least once."""

    peer_id: str
    name: str
    hardware: PeerHardware
    tensor_address: str
    software_version: str
    state: PeerState = PeerState.LIVE
    session_id: str = ""
    """The current session; "" when no stream is open."""
    deadline_ns: int | None = None
    """SUSPECT: when it counts as lost."""
    judged_at_ns: int = 0
    """SUSPECT: when its silence was last looked at; a later sign of life is news."""
    trouble: str = ""
    """SUSPECT or LOST: what happened, for a sentence after the peer's name."""
    last_report: int = 0
    leases: dict[int, LeaseRecord] = field(default_factory=dict)
    """By token, oldest first: everything that occupies the peer. Released ones are gone."""
    last_seen_ns: int = field(default=0, metadata=SOFT)

    @property
    def label(self) -> str:
        """Name and id, for messages."""
        return f"{self.name} ({self.peer_id})"


@dataclass(slots=True)
class EvaluationRecord:
    """Validation loss after `step` optimizer steps."""

    step: int
    loss: float
    at_ns: int


@dataclass(slots=True)
class JobRecord:
    """One job, from its submission on, forever."""

    job_id: str
    owner_id: str
    submission_id: str
    spec: JobSpec
    submitted_at_ns: int
    state: JobState = JobState.SUBMITTED
    reason: str = ""
    """Why it waits."""
    considered_version: int = -1
    """Cluster version for which it is known that the job must wait, or that was asked about."""
    deadline_ns: int | None = None
    """PLANNING: for the planner's answer. PREPARING: for the segments to become ready."""
    placement: Placement | None = None
    leases: list[LeaseRecord] = field(default_factory=list)
    """In segment order, from PREPARING on."""
    steps_done: int = 0
    losses: array[float] = field(default_factory=lambda: array("d"))
    """Loss of step `i` at index `i`: 16 bytes a step together with its time."""
    losses_at_ns: array[int] = field(default_factory=lambda: array("q"))
    evaluations: list[EvaluationRecord] = field(default_factory=list)
    error_code: str = ""
    error_message: str = ""
    finished_at_ns: int = 0
    endings: int = 0
    """How often a terminal state was entered: never more than once (I1)."""


@dataclass(slots=True)
class KeyRecord:
    """A join key. The secret itself is nowhere."""

    key_id: str
    secret_hash: str
    role: str
    reusable: bool
    expires_at_ns: int
    uses: int = 0
    is_revoked: bool = False


@dataclass(slots=True)
class IdentityRecord:
    """Somebody who was admitted with a key."""

    identity: str
    role: str
    name: str
    key_id: str
    admitted_at_ns: int


@dataclass(slots=True)
class LinkRecord:
    """What is known between two peers: probes and real transfers, folded."""

    link: Link
    at_ns: int
    """When it was last probed; 0 for never."""
    transfer_at_ns: int = 0
    """When transfers last told of it; 0 for never."""


@dataclass(slots=True)
class State:
    """Everything the broker core knows."""

    now_ns: int = 0
    policy: Policy = field(default_factory=Policy)
    is_started: bool = False
    peers: dict[str, PeerRecord] = field(default_factory=dict)
    jobs: dict[str, JobRecord] = field(default_factory=dict)
    """In the order of submission."""
    unfinished: dict[str, JobRecord] = field(default_factory=dict)
    """The part of `jobs` that is not terminal."""
    submissions: dict[tuple[str, str], str] = field(default_factory=dict)
    """(owner, submission id) -> job id."""
    keys: dict[str, KeyRecord] = field(default_factory=dict)
    identities: dict[str, IdentityRecord] = field(default_factory=dict)
    links: dict[tuple[str, str], LinkRecord] = field(default_factory=dict)
    """(source, target) -> measurement, oldest first."""
    last_token: int = 0
    """The largest fencing token ever granted, over all jobs."""
    last_job: int = 0
    cluster_version: int = 0
    """Grows whenever the peers that a plan may use, or what they offer, change."""
    planning_job: str = ""
    """The one job whose placement is being solved, or ""."""
    settle_until_ns: int = 0
    """After a restart: until when planning waits for peers to come back."""
    probe_window_start_ns: int = 0
    probes_in_window: int = 0


@dataclass(slots=True)
class Turn:
    """One event being applied: the state, and what to do about it so far."""

    state: State
    commands: list[AnyCommand] = field(default_factory=list)

    @property
    def now_ns(self) -> int:
        """When the event was seen."""
        return self.state.now_ns

    def emit(self, command: AnyCommand) -> None:
        """Ask the shell for something."""
        self.commands.append(command)

    def note(self, subject: str, event: str, text: str) -> None:
        """Tell the operator's event log."""
        self.commands.append(Note(subject=subject, event=event, text=text))


def cluster_changed(state: State) -> None:
    """Account for a change of the free peers: waiting jobs will be considered again."""
    state.cluster_version += 1


def free_peers(state: State) -> list[PeerRecord]:
    """Live peers that nothing occupies, by id. Cost: O(peers log peers)."""
    return [
        peer
        for _, peer in sorted(state.peers.items())
        if peer.state is PeerState.LIVE and not peer.leases
    ]
