"""Leases: the right to run one segment, fenced by a token that only grows.

A lease is granted once and never changes its peer; who takes a segment over gets one of its own.
Taking it back makes its token stale at once; the peer stays occupied until it confirms
(`SegmentReleased`, or a registration that no longer names the lease), because the segment's memory
is still in use until then.
"""

from __future__ import annotations

from broker.core import limits
from broker.core.commands import (
    AssignSegment,
    Member,
    RevokeSegment,
    SnapshotPart,
    SnapshotSource,
    StartJob,
)
from broker.core.state import (
    NS_PER_MS,
    STARTED,
    VALID_PHASES,
    JobRecord,
    LeasePhase,
    LeaseRecord,
    PeerRecord,
    Turn,
    cluster_changed,
)
from dag.job import JobSpec
from dag.placement import Placement, SegmentPlacement
from ir.graph import INFER
from ir.segment import BoundaryKind, Segment


def grant(
    turn: Turn, job: JobRecord, placed: SegmentPlacement, peer: PeerRecord, position: int = 0
) -> LeaseRecord:
    """Give a segment to a free peer under a new token, from a position on. The peer is not told."""
    lease = _new_lease(turn, job, placed, peer.peer_id, position)
    if lease.index < len(job.leases):
        job.leases[lease.index] = lease
    else:
        job.leases.append(lease)
    peer.leases[lease.token] = lease
    cluster_changed(turn.state)
    return lease


def vacant_leases(
    turn: Turn, job: JobRecord, placement: Placement, position: int
) -> list[LeaseRecord]:
    """Leases of segments that nobody has held yet, from a position on: nobody is told of them."""
    leases = [_new_lease(turn, job, placed, placed.peer_id, position)
              for placed in placement.segments]
    for lease in leases:
        lease.phase = LeasePhase.RELEASED
    return leases


def _new_lease(
    turn: Turn, job: JobRecord, placed: SegmentPlacement, peer_id: str, position: int
) -> LeaseRecord:
    state = turn.state
    state.last_token += 1
    names = parameter_names(placed.segment)
    return LeaseRecord(
        job_id=job.job_id,
        peer_id=peer_id,
        token=state.last_token,
        position=position,
        steps_done=position,
        segment=placed.segment,
        in_flight=placed.in_flight,
        memory_bytes=placed.memory_bytes,
        blobs=needed_blobs(job.spec, placed.segment, names),
        result_bytes_max=result_bytes_max(job.spec, placed.segment),
    )


def result_bytes_max(spec: JobSpec, segment: Segment) -> int:
    """Most bytes of a segment's result: its parameters, or what it gives of all microbatches."""
    if spec.kind == INFER:
        sizes = [spec.flow * result.type.size_bytes for result in segment.results]
    else:
        homes = frozenset(segment.parameters)
        sizes = [ref.type.size_bytes for ref in spec.parameters if ref.name in homes]
    return (sum(sizes) + limits.RESULT_OVERHEAD_BYTES
            + limits.RESULT_OVERHEAD_BYTES_PER_TENSOR * len(sizes))


def parameter_names(segment: Segment) -> frozenset[str]:
    """Parameters whose values a segment starts from: its own, and foreign ones that it shares."""
    foreign = (edge.value for edge in segment.incoming if edge.kind is BoundaryKind.PARAMETER)
    return frozenset((*segment.parameters, *foreign))


def needed_blobs(spec: JobSpec, segment: Segment, parameters: frozenset[str]) -> frozenset[str]:
    """Digests that the holder of a segment may read: graph, parameters, data columns."""
    columns = frozenset(segment.data_inputs)
    return frozenset((
        spec.graph_digest,
        *(ref.digest for ref in spec.parameters if ref.name in parameters),
        *(ref.digest for ref in spec.columns if ref.name in columns),
    ))


def assignment(
    turn: Turn, job: JobRecord, lease: LeaseRecord, snapshot: SnapshotSource | None = None,
    parts: tuple[SnapshotPart, ...] = (),
) -> AssignSegment:
    """The command that tells the peer of its lease; sending it again changes nothing there."""
    return AssignSegment(
        peer_id=lease.peer_id,
        job_id=job.job_id,
        token=lease.token,
        spec=job.spec,
        segment=lease.segment,
        in_flight=lease.in_flight,
        segments=len(job.leases),
        stall_timeout_ms=stall_timeout_ms(turn, job),
        position=lease.position,
        snapshot=snapshot,
        parts=parts,
        first_serial=job.first_serial,
    )


def preparation_ms(turn: Turn, job: JobRecord) -> int:
    """Longest that getting a segment ready may take: the policy's time, and time to fetch.

    All that the job's peers could fetch is counted, as they share the broker's line.
    Cost: O(parameters).
    """
    spec = job.spec
    fetched_bytes = spec.graph_bytes * len(job.leases)
    fetched_bytes += sum(ref.blob_bytes for ref in spec.parameters)
    fetched_bytes += sum(ref.blob_bytes for ref in spec.columns)
    for known in job.snapshots:
        fetched_bytes += max((record.size_bytes for record in known.values()), default=0)
    fetching_ms = 1_000 * fetched_bytes // limits.FETCH_BYTES_PER_S
    return turn.state.policy.prepare_timeout_ms + fetching_ms


def stall_timeout_ms(turn: Turn, job: JobRecord) -> int:
    """Longest wait for one tensor: the policy's, or many predicted steps if a step is long.

    No segment waits longer than about one step for a tensor while everybody works, so a wait of
    `limits.STALL_STEPS` predicted steps means that somebody does not. A step of inference is one
    microbatch, and the last segment waits until as many are under way as there are segments.
    """
    assert job.placement is not None
    step_ms = int(job.placement.step_s * 1_000)
    if job.spec.kind == INFER:
        step_ms *= len(job.leases)
    return max(turn.state.policy.stall_timeout_ms, limits.STALL_STEPS * step_ms)


def count_steps(job: JobRecord) -> None:
    """A job has done what all its segments have, and does not lose it when they restart."""
    job.steps_done = max(job.steps_done, min(lease.steps_done for lease in job.leases))


def tell_all(turn: Turn, job: JobRecord) -> None:
    """Tell every peer at work who holds which segment now, where that is news to it."""
    for lease in job.leases:
        tell(turn, job, lease)


def tell(turn: Turn, job: JobRecord, lease: LeaseRecord, *, again: bool = False) -> None:
    """Tell one peer at work who holds which segment now, if that is news to it, or `again`."""
    at_work = lease.phase in (LeasePhase.RUNNING, LeasePhase.FINISHED) and not lease.is_log_gone
    if not at_work or job.state not in STARTED or not turn.state.peers[lease.peer_id].session_id:
        return
    command = _start(turn, job, lease)
    now = tuple((member.token, member.tensor_address) for member in command.members)
    if again or now != lease.told:
        lease.told = now
        turn.emit(command)


def _start(turn: Turn, job: JobRecord, lease: LeaseRecord) -> StartJob:
    """The command that lets a ready peer run, or tells it of a change: who is where."""
    members = tuple(_member(turn, other) for other in job.leases)
    return StartJob(
        peer_id=lease.peer_id,
        job_id=job.job_id,
        segment=lease.index,
        token=lease.token,
        members=members,
    )


def _member(turn: Turn, lease: LeaseRecord) -> Member:
    """A segment as others see it: nobody's until its holder runs it."""
    is_there = lease.phase in (LeasePhase.RUNNING, LeasePhase.FINISHED) and not lease.is_log_gone
    if not is_there:
        return Member(segment=lease.index, peer_id="", token=0, tensor_address="",
                      position=lease.steps_done)
    return Member(
        segment=lease.index,
        peer_id=lease.peer_id,
        token=lease.token,
        tensor_address=turn.state.peers[lease.peer_id].tensor_address,
        position=lease.steps_done,
    )


def revoke(turn: Turn, lease: LeaseRecord, reason: str) -> None:
    """Take a lease back. Its token is stale from here on.

    A peer whose stream is closed is told when it registers again.
    """
    lease.phase = LeasePhase.REVOKED
    lease.deadline_ns = turn.now_ns + limits.RELEASE_TIMEOUT_MS * NS_PER_MS
    if turn.state.peers[lease.peer_id].session_id:
        turn.emit(revocation(lease, reason))


def revocation(lease: LeaseRecord, reason: str) -> RevokeSegment:
    """The command that takes a lease back."""
    return RevokeSegment(
        peer_id=lease.peer_id,
        job_id=lease.job_id,
        segment=lease.index,
        token=lease.token,
        reason=reason,
    )


def lose_log(turn: Turn, lease: LeaseRecord) -> None:
    """A finished segment's peer is gone, and with it the log; its result is stored all the same."""
    lease.is_log_gone = True
    del turn.state.peers[lease.peer_id].leases[lease.token]
    cluster_changed(turn.state)


def release(turn: Turn, lease: LeaseRecord) -> None:
    """The peer holds nothing of the segment any more: it is free for another."""
    lease.phase = LeasePhase.RELEASED
    lease.deadline_ns = None
    del turn.state.peers[lease.peer_id].leases[lease.token]
    cluster_changed(turn.state)


def release_revoked(turn: Turn, lease: LeaseRecord) -> None:
    """Release a lease if it is revoked; the peer is known to hold nothing of it."""
    if lease.phase is LeasePhase.REVOKED:
        release(turn, lease)


def end_all(turn: Turn, job: JobRecord, reason: str) -> None:
    """End every lease of a job that has ended: what is still held is revoked."""
    for lease in job.leases:
        if lease.is_log_gone:
            lease.phase = LeasePhase.RELEASED
        elif lease.phase in VALID_PHASES:
            revoke(turn, lease, reason)


def find(peer: PeerRecord, job_id: str, segment: int, token: int) -> LeaseRecord | None:
    """The lease of a peer that (job, segment, token) names, revoked ones included."""
    lease = peer.leases.get(token)
    if lease is None or lease.job_id != job_id or lease.index != segment:
        return None
    return lease


def release_overdue(turn: Turn, peer: PeerRecord) -> list[LeaseRecord]:
    """Revoked leases that a connected peer should have confirmed by now."""
    if not peer.session_id:
        return []
    return [
        lease
        for lease in peer.leases.values()
        if lease.phase is LeasePhase.REVOKED
        and lease.deadline_ns is not None
        and lease.deadline_ns <= turn.now_ns
    ]
