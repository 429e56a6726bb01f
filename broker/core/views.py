"""Read-only answers for the shell: frozen values, made from the state when asked.

Nothing here changes anything, and nothing here is journalled.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from broker.core import pool, snapshots
from broker.core.events import PeerHardware
from broker.core.growth_record import Recut
from broker.core.left_out import left_out
from broker.core.machine import Broker
from broker.core.state import (
    STARTED,
    TERMINAL,
    JobRecord,
    JobState,
    LeaseRecord,
    PartialRecord,
    PeerRecord,
    State,
)
from dag.cluster import Link
from dag.job import JobSpec
from dag.placement import Refusal
from ir.segment import BoundaryKind, ResultTensor


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentView:
    """One segment of a job and who holds it. `parameter_bytes`: of its own parameters."""

    segment: int
    peer_id: str
    peer_name: str
    token: int
    phase: str
    steps_done: int
    nodes: int
    parameter_bytes: int
    memory_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PartialView:
    """What a job without a result leaves: parameters, at a step.

    Attributes:
        position: the step before which they were so.
        pieces: blobs that make them up.
        stored: those that are stored.
        until_ns: others are waited for until then at most; 0 once nothing more comes.
        missing: then, a sentence for each piece that is not here.
    """

    position: int
    pieces: int
    stored: int
    until_ns: int
    missing: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class JobView:
    """A job as its owner sees it (mirrors `JobStatus` of jobs.proto).

    Attributes:
        reason: why it waits; "" when it does not.
        samples_total: samples that the whole job works on; of inference the rows to predict.
        first_loss: loss of step 0; None before it.
        last_loss: loss of `last_loss_step`, the last step known.
        last_validation_loss: of the last evaluation.
        finished_at_ns: 0 while it has not ended.
        idle: peers left out of the placement, and why.
        predicted_step_s: the planner's; 0 before a placement.
        growth: what was decided last about peers that came, and why; "" before the first time.
        recuts: when it was cut anew for them, oldest first.
        partial: what it leaves, if it has ended without a result and leaves something.
    """

    job_id: str
    name: str
    owner_id: str
    owner_name: str
    state: str
    reason: str
    steps_done: int
    steps_total: int
    batch_size: int
    samples_done: int
    samples_total: int
    kind: str
    first_loss: float | None
    last_loss: float | None
    last_loss_step: int
    last_validation_loss: float | None
    error_code: str
    error_message: str
    submitted_at_ns: int
    finished_at_ns: int
    segments: tuple[SegmentView, ...]
    idle: tuple[Refusal, ...]
    algorithm: str
    predicted_step_s: float
    growth: str
    recuts: tuple[Recut, ...]
    partial: PartialView | None

    @property
    def has_ended(self) -> bool:
        """Whether the state is terminal."""
        return JobState(self.state) in TERMINAL


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """A loss: of a step, or of the validation split after `step` steps."""

    step: int
    loss: float
    at_ns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ResultPart:
    """A stored blob with what one segment made: its final parameters, or what it predicted."""

    segment: int
    digest: str
    blob_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseView:
    """What occupies a peer."""

    job_id: str
    segment: int
    token: int
    phase: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StandbyView:
    """What a peer is a backup of. `level`: reached; "" while it gets ready."""

    job_id: str
    segment: int
    token: int
    level: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerView:
    """A peer as an operator sees it.

    Attributes:
        trouble: what happened, while suspect or lost.
        availability: what its owner lets it do: `open`, `finishing`, `paused` or `leaving`.
        is_drained: whether an operator wants it empty.
        drain_at_ns: when what it holds must be elsewhere; 0 for no hurry.
        standing: `admitted`, `pending` or `banned`: what operators decided.
        ban_reason: why it is banned, in an operator's words.
        label: what an operator calls it; "" for nothing.
    """

    peer_id: str
    name: str
    state: str
    trouble: str
    session_id: str
    hardware: PeerHardware
    tensor_address: str
    software_version: str
    last_seen_ns: int
    last_report: int
    leases: tuple[LeaseView, ...]
    links: tuple[Link, ...]
    availability: str = "open"
    is_drained: bool = False
    drain_at_ns: int = 0
    standbys: tuple[StandbyView, ...] = ()
    standing: str = "admitted"
    ban_reason: str = ""
    label: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentCoverage:
    """Who could go on with a segment of a started job, and from where.

    Attributes:
        job_id: the job.
        segment: its number.
        peer_id: its holder; of a vacant one the last.
        position: the complete one: a vacant segment restarts there.
        position_at_ns: when its first snapshot of that was stored; 0 at position 0.
        latest_position: of its newest snapshot; 0 if it has none.
        holders: peers that have its snapshot of the complete position, by id.
        standbys: its backups as (peer id, level reached), in the order in which they were chosen.
        gap: what it lacks to survive the loss of its holder at once; "" if nothing.
    """

    job_id: str
    segment: int
    peer_id: str
    position: int
    position_at_ns: int
    latest_position: int
    holders: tuple[str, ...]
    standbys: tuple[tuple[str, str], ...]
    gap: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentLink:
    """Two segments of a job of which one sends to the other.

    Attributes:
        source, target: their numbers.
        source_peer, target_peer: who has them; of a vacant one the last.
        microbatch_bytes: that cross for each microbatch, forward.
        measured: the link between the peers; None while it is not measured.
    """

    source: int
    target: int
    source_peer: str
    target_peer: str
    microbatch_bytes: int
    measured: Link | None


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyView:
    """A join key as an operator sees it."""

    key_id: str
    role: str
    reusable: bool
    expires_at_ns: int
    uses: int
    revoked: bool
    needs_admission: bool


def job(broker: Broker, job_id: str) -> JobView | None:
    """One job by its exact id."""
    record = broker.state.jobs.get(job_id)
    return None if record is None else _job_view(broker, record)


def jobs(broker: Broker, owner_id: str | None = None, limit: int = 100) -> tuple[JobView, ...]:
    """Newest jobs first, all or those of one owner. Cost: O(jobs) at worst."""
    found: list[JobView] = []
    for record in reversed(broker.state.jobs.values()):
        if len(found) >= limit:
            break
        if owner_id is None or record.owner_id == owner_id:
            found.append(_job_view(broker, record))
    return tuple(found)


def matching_jobs(broker: Broker, prefix: str, owner_id: str | None = None) -> tuple[str, ...]:
    """Ids of jobs that start with `prefix`, an exact match alone; of one owner if given."""
    own = [
        record.job_id
        for record in broker.state.jobs.values()
        if owner_id is None or record.owner_id == owner_id
    ]
    if prefix in own:
        return (prefix,)
    return tuple(job_id for job_id in own if prefix and job_id.startswith(prefix))


def spec(broker: Broker, job_id: str) -> JobSpec | None:
    """What was submitted."""
    record = broker.state.jobs.get(job_id)
    return None if record is None else record.spec


def metrics(
    broker: Broker, job_id: str, from_step: int = 0, limit: int | None = None
) -> tuple[Metric, ...]:
    """Losses of steps from `from_step` on, at most `limit`. Cost: linear in what it returns."""
    record = broker.state.jobs.get(job_id)
    if record is None:
        return ()
    first = max(from_step, 0)
    last = len(record.losses) if limit is None else min(len(record.losses), first + limit)
    return tuple(
        Metric(step=step, loss=record.losses[step], at_ns=record.losses_at_ns[step])
        for step in range(first, last)
    )


def evaluations(broker: Broker, job_id: str, from_step: int = 0) -> tuple[Metric, ...]:
    """Validation losses from `from_step` on."""
    record = broker.state.jobs.get(job_id)
    if record is None:
        return ()
    return tuple(
        Metric(step=item.step, loss=item.loss, at_ns=item.at_ns)
        for item in record.evaluations
        if item.step >= from_step
    )


def result(broker: Broker, job_id: str) -> tuple[ResultPart, ...]:
    """The parts of a job's result, in segment order; empty unless it succeeded."""
    record = broker.state.jobs.get(job_id)
    if record is None or record.state is not JobState.SUCCEEDED:
        return ()
    return tuple(
        ResultPart(segment=lease.index, digest=lease.result_digest, blob_bytes=lease.result_bytes)
        for lease in record.leases
    )


def partial_result(broker: Broker, job_id: str) -> tuple[ResultPart, ...]:
    """The stored pieces of what a job leaves that has ended without a result, by serial number."""
    record = broker.state.jobs.get(job_id)
    pieces = {} if record is None or record.partial is None else record.partial.pieces
    return tuple(
        ResultPart(segment=serial, digest=piece.digest, blob_bytes=piece.size_bytes)
        for serial, piece in sorted(pieces.items()) if piece.digest)


def outputs(broker: Broker, job_id: str) -> tuple[ResultTensor, ...]:
    """What the parts of an inference job's result hold together, types for one microbatch."""
    record = broker.state.jobs.get(job_id)
    leases = () if record is None else record.leases
    return tuple(output for lease in leases for output in lease.segment.results)


def peer(broker: Broker, peer_id: str) -> PeerView | None:
    """One peer."""
    record = broker.state.peers.get(peer_id)
    if record is None or peer_id in broker.state.forgotten:
        return None
    links = broker.state.links
    return _peer_view(broker, record, tuple(
        links[peer_id, target].link
        for target in sorted(broker.state.peers) if (peer_id, target) in links))


def peers(broker: Broker) -> tuple[PeerView, ...]:
    """All peers that ever connected and were not removed, by id.

    Cost: O(peers log peers + links log links).
    """
    outgoing: dict[str, list[Link]] = {}
    for (source, _), known in sorted(broker.state.links.items()):
        outgoing.setdefault(source, []).append(known.link)
    return tuple(
        _peer_view(broker, record, tuple(outgoing.get(peer_id, ())))
        for peer_id, record in sorted(broker.state.peers.items())
        if peer_id not in broker.state.forgotten)


def backup_view(state: State) -> tuple[SegmentCoverage, ...]:
    """Every segment of every started job, oldest job first. Cost: O(segments * peers log peers)."""
    return tuple(
        _coverage(state, job, lease)
        for job in state.unfinished.values() if job.state in STARTED for lease in job.leases)


def _coverage(state: State, job: JobRecord, lease: LeaseRecord) -> SegmentCoverage:
    taken = job.snapshots[lease.index]
    record = taken.get(job.position)
    return SegmentCoverage(
        job_id=job.job_id,
        segment=lease.index,
        peer_id=lease.peer_id,
        position=job.position,
        position_at_ns=record.at_ns if record is not None else 0,
        latest_position=max(taken, default=0),
        holders=tuple(sorted(snapshots.holders(record))) if record is not None else (),
        standbys=tuple(
            (standby.peer_id, standby.level)
            for standby in job.standbys.values() if standby.index == lease.index),
        gap=pool.gap(state, job, lease.index),
    )


def segment_links(broker: Broker, job_id: str) -> tuple[SegmentLink, ...]:
    """Which segments of a job send to which, in the order of the senders; empty without a place.

    Cost: linear in the boundary tensors.
    """
    record = broker.state.jobs.get(job_id)
    leases = () if record is None else record.leases
    sizes: dict[tuple[int, int], int] = {}
    for lease in leases:
        for tensor in lease.segment.outgoing:
            pair = (tensor.source, tensor.target)
            is_each = tensor.kind is BoundaryKind.ACTIVATION
            sizes[pair] = sizes.get(pair, 0) + tensor.type.size_bytes * is_each
    found = []
    for (source, target), size_bytes in sorted(sizes.items()):
        peers = leases[source].peer_id, leases[target].peer_id
        known = broker.state.links.get(peers)
        found.append(SegmentLink(
            source=source, target=target, source_peer=peers[0], target_peer=peers[1],
            microbatch_bytes=size_bytes, measured=known.link if known else None))
    return tuple(found)


def keys(broker: Broker) -> tuple[KeyView, ...]:
    """All join keys, oldest first."""
    return tuple(
        KeyView(
            key_id=key.key_id,
            role=key.role,
            reusable=key.reusable,
            expires_at_ns=key.expires_at_ns,
            uses=key.uses,
            revoked=key.is_revoked,
            needs_admission=key.needs_admission,
        )
        for key in broker.state.keys.values()
    )


def role_of(broker: Broker, identity: str) -> str | None:
    """Role of an admitted identity; None for one that was not admitted by this broker."""
    record = broker.state.identities.get(identity)
    return None if record is None else record.role


def story(broker: Broker, subject: str) -> tuple[str, ...]:
    """What happened last to a job or peer, oldest first."""
    return broker.stories.of(subject)


def _partial_view(record: PartialRecord) -> PartialView:
    missing = () if not record.is_settled else tuple(
        f"segment {serial}: {piece.problem}"
        for serial, piece in sorted(record.pieces.items()) if not piece.digest)
    return PartialView(
        position=record.position,
        pieces=len(record.pieces),
        stored=sum(bool(piece.digest) for piece in record.pieces.values()),
        until_ns=0 if record.is_settled else record.deadline_ns,
        missing=missing,
    )


def _job_view(broker: Broker, record: JobRecord) -> JobView:
    losses, checks = record.losses, record.evaluations
    placement, training = record.placement, record.spec.training
    owner = broker.state.identities.get(record.owner_id)
    sizes = {ref.name: ref.type.size_bytes for ref in record.spec.parameters}
    return JobView(
        job_id=record.job_id,
        name=record.spec.name,
        owner_id=record.owner_id,
        owner_name=owner.name if owner is not None else "",
        state=record.state.value,
        reason=record.reason,
        steps_done=record.steps_done,
        steps_total=training.steps,
        batch_size=training.batch_size,
        samples_done=min(record.spec.samples, record.steps_done * training.batch_size),
        samples_total=record.spec.samples,
        kind=record.spec.kind,
        first_loss=losses[0] if losses else None,
        last_loss=losses[-1] if losses else None,
        last_loss_step=max(len(losses) - 1, 0),
        last_validation_loss=checks[-1].loss if checks else None,
        error_code=str(record.error_code),
        error_message=record.error_message,
        submitted_at_ns=record.submitted_at_ns,
        finished_at_ns=record.finished_at_ns,
        segments=tuple(_segment_view(broker, lease, sizes) for lease in record.leases),
        idle=named(broker, left_out(record)),
        algorithm=placement.algorithm if placement is not None else "",
        predicted_step_s=placement.step_s if placement is not None else 0.0,
        growth=record.growth.verdict,
        recuts=tuple(record.growth.recuts),
        partial=None if record.partial is None else _partial_view(record.partial),
    )


def named(broker: Broker, refusals: tuple[Refusal, ...]) -> tuple[Refusal, ...]:
    """The same refusals with the names of the peers that they are about."""
    peers = broker.state.peers
    return tuple(
        replace(refusal, subject_name=peers[refusal.subject].name)
        if refusal.subject in peers
        else refusal
        for refusal in refusals
    )


def _segment_view(broker: Broker, lease: LeaseRecord, sizes: dict[str, int]) -> SegmentView:
    return SegmentView(
        segment=lease.index,
        peer_id=lease.peer_id,
        peer_name=broker.state.peers[lease.peer_id].name,
        token=lease.token,
        phase=lease.phase.value,
        steps_done=lease.steps_done,
        nodes=len(lease.segment.nodes),
        parameter_bytes=sum(sizes[name] for name in lease.segment.parameters),
        memory_bytes=lease.memory_bytes,
    )


def _peer_view(broker: Broker, record: PeerRecord, links: tuple[Link, ...]) -> PeerView:
    ban = broker.state.banned.get(record.peer_id)
    return PeerView(
        peer_id=record.peer_id,
        name=record.name,
        state=record.state.value,
        trouble=record.trouble,
        session_id=record.session_id,
        hardware=record.hardware,
        tensor_address=record.tensor_address,
        software_version=record.software_version,
        last_seen_ns=record.last_seen_ns,
        last_report=record.last_report,
        leases=tuple(
            LeaseView(
                job_id=lease.job_id,
                segment=lease.index,
                token=lease.token,
                phase=lease.phase.value,
            )
            for lease in record.leases.values()
        ),
        links=links,
        standing="banned" if ban else "pending" if record.is_pending else "admitted",
        ban_reason=ban.reason if ban else "",
        label=record.operator_label,
        availability=record.availability,
        is_drained=record.is_drained,
        drain_at_ns=record.drain_at_ns or 0,
        standbys=tuple(
            StandbyView(
                job_id=standby.job_id,
                segment=standby.index,
                token=standby.token,
                level=standby.level,
            )
            for standby in record.standbys.values()
        ),
    )
