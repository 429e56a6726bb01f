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

from broker.core.commands import AnyCommand, Note, PlanSnapshots
from broker.core.events import PeerHardware
from broker.core.growth_record import GrowthRecord
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
    RECOVERING = "recovering"
    """A segment has no holder that runs it; `reason` says which, and what is waited for."""
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


STARTED = frozenset({JobState.RUNNING, JobState.RECOVERING})
"""Its segments have trained, so what they hold must be kept."""
TERMINAL = frozenset({JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED})


class LeasePhase(StrEnum):
    """Life of a lease, as the broker knows it."""

    ASSIGNED = "assigned"
    READY = "ready"
    RUNNING = "running"
    FINISHED = "finished"
    """The result is stored. The peer keeps its log until the job ends."""
    REVOKED = "revoked"
    """Taken back, but the peer has not confirmed yet that it holds nothing."""
    RELEASED = "released"


HELD_PHASES = frozenset({LeasePhase.ASSIGNED, LeasePhase.READY, LeasePhase.RUNNING})
"""The peer must hold the segment."""
VALID_PHASES = HELD_PHASES | {LeasePhase.FINISHED}
"""The token is the current one of its segment."""


@dataclass(frozen=True, slots=True)
class LinkTrouble:
    """A segment's word that it lacks a neighbour, until it has come further than `steps_done`."""

    neighbour: int
    peer_id: str
    steps_done: int
    deadline_ns: int
    message: str


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
    position: int = 0
    """Where it began: of a takeover, that of the snapshot."""
    steps_done: int = 0
    deadline_ns: int | None = None
    """REVOKED: until when the peer must confirm. ASSIGNED in a takeover: until when it must be
    ready. RUNNING: the peer came back without the segment; until when a report may still explain
    that. FINISHED with its log gone: when its neighbours must have come further."""
    result_digest: str = ""
    result_bytes: int = 0
    reason: str = ""
    """Why its peer has it, in a sentence, where the plan gave the segment to another before."""
    ending: str = ""
    """Why it was taken back, to follow a colon."""
    is_log_gone: bool = False
    """FINISHED: its peer is lost, and with it what its neighbours would need for a replay."""
    watched_steps: int = 0
    """FINISHED with its log gone: steps of its neighbours, summed, at the last look at them."""
    pace_s: float = 0.0
    """What a microbatch has taken lately, forward and backward; 0 while unknown."""
    slow_since: int | None = None
    """Steps that the job had done when moving it began to be worth it; None while it is not."""
    plan: PlanSnapshots | None = None
    """What its peer was last told of snapshots."""
    told: tuple[tuple[int, str], ...] = ()
    """Per segment the token and address that its peer was last told of."""
    trouble: LinkTrouble | None = None
    """RUNNING: a neighbour that it cannot reach, or that owes it something too long."""

    @property
    def index(self) -> int:
        """Number of the segment in its job."""
        return self.segment.index


@dataclass(slots=True)
class SnapshotRecord:
    """A segment's snapshot at one position, and who has it."""

    position: int
    digest: str
    size_bytes: int
    data_shards: int
    at_ns: int
    holders: dict[str, int] = field(default_factory=dict)
    """Peer id -> shard."""
    giving_s: float = 0.0
    """Longest that giving it to one of them took; 0: not known."""
    parts: tuple[tuple[int, SnapshotRecord], ...] = ()
    """Of a cut that has none of its own there yet: (serial, snapshot) of segments of the cut
    before it, which have its state together. Then digest and holders are empty."""

    @property
    def kept(self) -> tuple[SnapshotRecord, ...]:
        """What lies on peers' disks: its parts, or else itself."""
        return tuple(part for _, part in self.parts) or (self,)


@dataclass(slots=True, eq=False)
class StandbyRecord:
    """One peer's duty to be ready to take a segment over. Its token never comes again."""

    job_id: str
    peer_id: str
    token: int
    index: int
    blobs: frozenset[str]
    """Digests of what the segment needs. For membership tests only, never iterated."""
    wanted: str
    """Level that the peer should reach: `store`, `warm` or `hot`."""
    told_level: str = ""
    """The same when the peer was last told; "" for never."""
    source: str = ""
    """The segment's holder when the peer was last told."""
    level: str = ""
    """Level that it has reached; "" for none yet."""
    deadline_ns: int | None = None
    """To get ready: until when it must be. Resting: until when it is not asked again."""
    problem: str = ""
    """Why it rests, or did last; "" once it is ready."""
    breaks: int = 0
    """How often it had to rest: the pauses grow."""


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
    suspect_at_ns: int = 0
    """SUSPECT: since when."""
    trouble: str = ""
    """SUSPECT or LOST: what happened, for a sentence after the peer's name."""
    last_report: int = 0
    leases: dict[int, LeaseRecord] = field(default_factory=dict)
    """By token, oldest first: everything that occupies the peer. Released ones are gone."""
    standbys: dict[int, StandbyRecord] = field(default_factory=dict)
    """By token: what it is a backup of, over all jobs."""
    availability: str = "open"
    """What its owner lets it do: `open`, `finishing`, `paused`, `leaving`."""
    is_drained: bool = False
    """An operator wants it empty."""
    owner_deadline_ns: int | None = None
    """When its owner wants it empty at the latest; None for no hurry."""
    operator_deadline_ns: int | None = None
    """The same of an operator that drains it."""
    is_pending: bool = False
    """An operator has to admit it before it is given anything."""
    operator_label: str = ""
    """What an operator calls it."""
    losses: int = 0
    """Segments that it lost; a peer that loses many is asked last."""
    joins_parts: bool = False
    """Whether it can put a segment's state together from several snapshots."""
    last_seen_ns: int = field(default=0, metadata=SOFT)

    @property
    def label(self) -> str:
        """Name and id, for messages."""
        return f"{self.name} ({self.peer_id})"

    @property
    def is_open(self) -> bool:
        """Whether it may be given something new."""
        return self.is_present and self.availability == "open" and not self.is_drained

    @property
    def is_present(self) -> bool:
        """Whether it is live and one of the network's peers: admitted, that is."""
        return self.state is PeerState.LIVE and not self.is_pending

    @property
    def drain_at_ns(self) -> int | None:
        """When what it holds must be elsewhere, though no backup is ready; None for no hurry."""
        wishes = (self.owner_deadline_ns, self.operator_deadline_ns)
        return min((at_ns for at_ns in wishes if at_ns is not None), default=None)

    @property
    def is_emptied(self) -> bool:
        """Whether what it holds is to move elsewhere."""
        return self.is_drained or self.is_unavailable

    @property
    def is_unavailable(self) -> bool:
        """Whether its owner wants it empty."""
        return self.availability in ("paused", "leaving")


@dataclass(slots=True)
class FailureRecord:
    """How a segment has failed without coming further."""

    steps_done: int
    count: int = 0
    avoided: dict[str, str] = field(default_factory=dict)
    """Peer id -> why it does not get the segment again."""
    not_finite: set[str] = field(default_factory=set)
    """Ids of peers where NaN or infinity came out of inputs that were finite."""


@dataclass(slots=True)
class PieceRecord:
    """One snapshot's share of a partial result: the parameters in it."""

    snapshot: SnapshotRecord
    bytes_max: int
    """What its blob may have."""
    asked: str = ""
    """The holder that is to store it; "" while none is connected..."""
    session_id: str = ""
    """...and the session in which it was asked."""
    refused: dict[str, str] = field(default_factory=dict)
    """Peer id -> why it could not."""
    digest: str = ""
    """Of the stored blob; "" while there is none."""
    size_bytes: int = 0
    problem: str = ""
    """Why there is none, once it is settled."""


@dataclass(slots=True)
class PartialRecord:
    """The parameters that a job had at one position, collected after its end."""

    position: int
    deadline_ns: int
    pieces: dict[int, PieceRecord]
    """By serial number of the segment whose snapshot it is."""
    is_settled: bool = False
    """Nothing more comes."""
    seen_version: int = -1
    """Cluster version at which it was looked at; -1 when something else has changed."""


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
    placed_at_ns: int = 0
    """When the placement was accepted."""
    prepared_s: float = 0.0
    """What loading took until all segments were ready."""
    leases: list[LeaseRecord] = field(default_factory=list)
    """The newest of each segment, in segment order, from PREPARING on."""
    first_serial: int = 0
    """Segments of earlier cuts: what the serial numbers of the present ones begin with."""
    position: int = 0
    """The complete position: a vacant segment restarts there."""
    snapshots: list[dict[int, SnapshotRecord]] = field(default_factory=list)
    """Per segment, by position."""
    copy_s: float = 0.0
    """Longest that a segment has stood still for a snapshot."""
    interval: int = 0
    """Positions that are multiples of it get a snapshot; 0 for none."""
    standbys: dict[int, StandbyRecord] = field(default_factory=dict)
    """By token."""
    ranking: tuple[tuple[tuple[str, float], ...], ...] = ()
    """Per segment, who could run it and what a microbatch takes there; () before the planner's
    answer."""
    ranked_peers: frozenset[str] = frozenset()
    """Peers that `ranking` has considered. For membership tests only, never iterated."""
    is_ranking_asked: bool = False
    """The planner is at work on the next ranking..."""
    ranking_peers: tuple[str, ...] = ()
    """...of these peers..."""
    ranked_version: int = -1
    """...at this cluster version."""
    is_review_due: bool = False
    """Its backups must be looked at: something has changed for this job..."""
    reviewed_version: int = -1
    """...or for all since this cluster version."""
    failures: dict[int, FailureRecord] = field(default_factory=dict)
    """By segment, where one has failed since it last came further."""
    takeovers: int = 0
    """Leases granted in place of lost ones."""
    growth: GrowthRecord = field(default_factory=GrowthRecord)
    fallback_ns: int | None = None
    """RECOVERING: until when a snapshot's holder may still come back, before all go back."""
    steps_done: int = 0
    losses: array[float] = field(default_factory=lambda: array("d"))
    """Loss of step `i` at index `i`: 16 bytes a step together with its time."""
    losses_at_ns: array[int] = field(default_factory=lambda: array("q"))
    evaluations: list[EvaluationRecord] = field(default_factory=list)
    error_code: str = ""
    error_message: str = ""
    finished_at_ns: int = 0
    partial: PartialRecord | None = None
    """FAILED, CANCELLED: what is left of it, if there was a snapshot of every segment."""
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
    needs_admission: bool = False
    """Peers that join with it are pending at first."""


@dataclass(slots=True)
class IdentityRecord:
    """Somebody who was admitted with a key."""

    identity: str
    role: str
    name: str
    key_id: str
    admitted_at_ns: int
    """When it joined."""
    is_pending: bool = False
    """A peer that an operator has not admitted yet."""


@dataclass(slots=True)
class BanRecord:
    """A member that is shut out."""

    by: str
    reason: str
    at_ns: int


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
    collecting: dict[str, JobRecord] = field(default_factory=dict)
    """The part of `jobs` whose partial result is being collected."""
    submissions: dict[tuple[str, str], str] = field(default_factory=dict)
    """(owner, submission id) -> job id."""
    keys: dict[str, KeyRecord] = field(default_factory=dict)
    identities: dict[str, IdentityRecord] = field(default_factory=dict)
    banned: dict[str, BanRecord] = field(default_factory=dict)
    """By the id of a peer or submitter."""
    forgotten: dict[str, int] = field(default_factory=dict)
    """Peers that an operator has removed -> when: in no list, and let in no more. Their records
    stay for the jobs that they took part in."""
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
    """One event being applied: the state, what to do about it so far, the time since the last."""

    state: State
    since_last_ns: int = 0
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
    """Live peers that nothing occupies and that may be given work: the backup pool, by id.

    Cost: O(peers log peers).
    """
    return [
        peer for _, peer in sorted(state.peers.items()) if peer.is_open and not peer.leases
    ]
