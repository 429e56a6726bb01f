"""Session messages as peer-core values and back: the one file of the peer that sees both."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from dag.job import JobSpec
from homespun.errors import Code, HomespunError
from homespun.ids import is_digest
from homespun.v1 import session_pb2
from homespun.wire import from_message, to_message
from ir.segment import Segment
from peer.core import commands as do
from peer.core import events as ev
from peer.core.state import LeaseRecord, PeerState
from peer.hardware import HardwareReport
from peer.links import Traffic
from peer.snapshots.keeper import HeldSnapshot

HELD_SNAPSHOTS_MAX = 1_024
"""Snapshots that a registration names."""
HOLDERS_MAX = 255
"""Of one snapshot: so many different shards there can be."""
NO_WORK_REASONS_MAX = 16
NO_WORK_CHARACTERS_MAX = 500
PARTS_MAX = 256
"""Snapshots that one segment's state can come from: segments of a job."""


def event_of(message: session_pb2.BrokerMessage, at_ns: int) -> ev.AnyEvent | None:
    """The event that a broker's message is; None for those that are the shell's own business.

    Raises:
        HomespunError: INVALID_ARGUMENT for values out of their range.
    """
    match message.WhichOneof("body"):
        case "welcome":
            return ev.BrokerConnected(at_ns=at_ns, last_report=message.welcome.last_report)
        case "reports_durable":
            through = message.reports_durable.through_number
            return ev.ReportsAcknowledged(at_ns=at_ns, through_number=through)
        case "assign":
            return _assignment(message.assign, at_ns)
        case "start":
            return _start(message.start, at_ns)
        case "revoke":
            revoke = message.revoke
            return ev.RevokeReceived(
                at_ns=at_ns,
                job_id=revoke.job_id,
                segment=revoke.segment,
                token=revoke.token,
                reason=revoke.reason,
            )
        case "stand_by":
            return _stand_by(message.stand_by, at_ns)
        case "snapshot_plan":
            return _snapshot_plan(message.snapshot_plan, at_ns)
        case "snapshot_complete":
            complete = message.snapshot_complete
            return ev.SnapshotCompleted(
                at_ns=at_ns,
                job_id=complete.job_id,
                segment=complete.segment,
                token=complete.token,
                position=complete.position,
            )
    return None


def no_work_of(said: session_pb2.NoWork) -> list[dict[str, object]]:
    """Why this peer runs nothing, as the broker says it; bounded, as it is kept and shown."""
    return [
        {"rule": each.rule[:NO_WORK_CHARACTERS_MAX], "jobs": max(0, each.jobs),
         "text": each.text[:NO_WORK_CHARACTERS_MAX], "change": each.change[:NO_WORK_CHARACTERS_MAX]}
        for each in said.reasons[:NO_WORK_REASONS_MAX]]


def _stand_by(asked: session_pb2.StandBy, at_ns: int) -> ev.StandByReceived:
    _check_counts(asked)
    try:
        level = ev.StandbyLevel(asked.level)
    except ValueError:
        raise HomespunError(
            Code.INVALID_ARGUMENT, f"there is no standby level {asked.level[:80]!r}") from None
    program = from_message(asked.segment, Segment)
    return ev.StandByReceived(
        at_ns=at_ns,
        job_id=asked.job_id,
        segment=program.index,
        token=asked.token,
        spec=from_message(asked.spec, JobSpec),
        program=program,
        in_flight=asked.in_flight,
        segments=asked.segments,
        stall_timeout_ms=asked.stall_timeout_ms,
        level=level,
        source=asked.source,
        first_serial=_serial(asked.first_serial),
    )


def _snapshot_plan(plan: session_pb2.SnapshotPlan, at_ns: int) -> ev.SnapshotPlanReceived:
    if plan.interval < 0 or plan.data_shards < 1:
        raise HomespunError(Code.INVALID_ARGUMENT, "a plan for snapshots has a count below 1")
    return ev.SnapshotPlanReceived(
        at_ns=at_ns,
        job_id=plan.job_id,
        segment=plan.segment,
        token=plan.token,
        interval=plan.interval,
        holders=_holders(plan.holders),
        data_shards=plan.data_shards,
    )


def _holders(holders: Iterable[session_pb2.Holder]) -> tuple[ev.Holder, ...]:
    found = tuple(
        from_message(holder, ev.Holder) for holder in holders)
    if len(found) > HOLDERS_MAX or not all(0 <= holder.shard < HOLDERS_MAX for holder in found):
        raise HomespunError(
            Code.INVALID_ARGUMENT,
            f"{len(found)} holders of a snapshot are named, with shards {found[0].shard} and so "
            f"on; expected at most {HOLDERS_MAX}, with shards below that")
    return found


def source_of(source: session_pb2.SnapshotSource) -> ev.SnapshotSource:
    """Where a snapshot can be had.

    Raises:
        HomespunError: INVALID_ARGUMENT for values out of their range.
    """
    if source.size_bytes < 0 or not is_digest(source.digest):
        raise HomespunError(
            Code.INVALID_ARGUMENT, f"there is no snapshot {source.digest[:80]!r} of "
            f"{source.size_bytes} bytes")
    return ev.SnapshotSource(
        digest=source.digest,
        size_bytes=source.size_bytes,
        data_shards=max(source.data_shards, 1),
        holders=_holders(source.holders),
    )


def _check_counts(asked: session_pb2.StandBy | session_pb2.AssignSegment) -> None:
    if asked.in_flight < 1 or asked.segments < 1 or asked.stall_timeout_ms < 1:
        raise HomespunError(Code.INVALID_ARGUMENT, "an assignment has a count below 1")


def _assignment(assign: session_pb2.AssignSegment, at_ns: int) -> ev.AssignmentReceived:
    _check_counts(assign)
    if assign.position < 0:
        raise HomespunError(Code.INVALID_ARGUMENT, f"there is no position {assign.position}")
    if len(assign.parts) > PARTS_MAX:
        raise HomespunError(
            Code.INVALID_ARGUMENT,
            f"a segment's state comes in {len(assign.parts)} parts; at most {PARTS_MAX}")
    return ev.AssignmentReceived(
        at_ns=at_ns,
        job_id=assign.job_id,
        token=assign.token,
        spec=from_message(assign.spec, JobSpec),
        segment=from_message(assign.segment, Segment),
        in_flight=assign.in_flight,
        segments=assign.segments,
        stall_timeout_ms=assign.stall_timeout_ms,
        position=assign.position,
        snapshot=source_of(assign.snapshot) if assign.HasField("snapshot") else None,
        parts=tuple(
            ev.SnapshotPart(serial=_serial(part.serial), source=source_of(part.source))
            for part in assign.parts),
        first_serial=_serial(assign.first_serial),
    )


def _serial(number: int) -> int:
    if number < 0:
        raise HomespunError(Code.INVALID_ARGUMENT, f"there is no segment of serial number {number}")
    return number


def _start(start: session_pb2.StartJob, at_ns: int) -> ev.StartReceived:
    members = tuple(
        ev.Member(
            segment=member.segment,
            peer_id=member.peer_id,
            token=member.token,
            tensor_address=member.tensor_address,
            position=member.position,
        )
        for member in start.members
    )
    return ev.StartReceived(
        at_ns=at_ns,
        job_id=start.job_id,
        segment=start.segment,
        token=start.token,
        members=members,
    )


def report_message(report: do.SendReport) -> session_pb2.PeerMessage:
    """A report on its way to the broker."""
    message = session_pb2.Report(
        number=report.number, job_id=report.job_id, segment=report.segment, token=report.token
    )
    match report.body:
        case do.ReadyBody():
            message.ready.SetInParent()
        case do.StepsBody() as steps:
            message.steps.first_step = steps.first_step
            message.steps.count = steps.count
            message.steps.losses.extend(steps.losses)
        case do.EvaluationBody() as evaluation:
            message.evaluation.step = evaluation.step
            message.evaluation.loss = evaluation.loss
        case do.FailedBody() as failed:
            message.failed.code = failed.code
            message.failed.message = failed.message
            message.failed.blamed_peer = failed.blamed_peer
            message.failed.cause = failed.cause
            message.failed.evidence = failed.evidence
            message.failed.remedy = failed.remedy
        case do.FinishedBody() as finished:
            message.finished.result_digest = finished.result_digest
            message.finished.result_bytes = finished.result_bytes
            message.finished.corrections.extend(
                to_message(found, session_pb2.Correction) for found in finished.corrections)
        case do.ReleasedBody():
            message.released.SetInParent()
        case do.SnapshotBody() as kept:
            message.snapshot.CopyFrom(to_message(kept, session_pb2.SnapshotStored))
        case do.NeighbourLostBody() as lost:
            message.neighbour_lost.CopyFrom(to_message(lost, session_pb2.NeighbourLost))
        case do.StandbyBody() as standby:
            message.standby.CopyFrom(to_message(standby, session_pb2.StandbyReady))
        case do.PaceBody() as pace:
            message.pace.CopyFrom(to_message(pace, session_pb2.SegmentPace))
    return session_pb2.PeerMessage(report=message)


def availability_message(availability: str, deadline_ms: int) -> session_pb2.Availability:
    """What the owner lets this peer do."""
    return session_pb2.Availability(availability=availability, deadline_ms=deadline_ms)


def hardware_message(report: HardwareReport, memory_bytes: int) -> session_pb2.Hardware:
    """What a peer says of its machine; a broker of the first release reads three rates only."""
    rates = report.rates
    return session_pb2.Hardware(
        device=report.device,
        device_name=report.device_name,
        memory_bytes=memory_bytes,
        matmul_flops_per_s=rates.matmul_flops_per_s,
        attention_flops_per_s=rates.attention_flops_per_s,
        memory_bytes_per_s=rates.memory_bytes_per_s,
        executor=report.executor,
        platform=report.platform,
        threads=report.threads,
        support=to_message(report.support, session_pb2.ExecutorSupport),
        rates=to_message(rates, session_pb2.Rates),
    )


def held_leases(state: PeerState) -> list[session_pb2.HeldLease]:
    """What a peer says it holds when it registers."""
    return [
        session_pb2.HeldLease(
            job_id=lease.job_id, segment=lease.segment, token=lease.token, phase=lease.phase
        )
        for lease in state.leases.values()
    ]


def held_standbys(state: PeerState) -> list[session_pb2.HeldStandby]:
    """What a peer says it stands by for when it registers."""
    return [
        session_pb2.HeldStandby(
            job_id=record.asked.job_id, segment=record.asked.segment, token=record.asked.token,
            level=record.level or "")
        for record in state.standbys.values()
    ]


def held_snapshots(held: Sequence[HeldSnapshot]) -> list[session_pb2.HeldSnapshot]:
    """What a peer says lies on its disk when it registers: the newest, if they are too many."""
    newest = sorted(held, key=lambda item: -item.position)[:HELD_SNAPSHOTS_MAX]
    return [to_message(item, session_pb2.HeldSnapshot) for item in newest]


def traffic_message(
    job_id: str, to_peer: str, moved: Traffic, goodput_bytes_per_s: float | None
) -> session_pb2.LinkTraffic:
    """What a link has carried, and how fast it was where there is news of that."""
    return session_pb2.LinkTraffic(
        job_id=job_id, to_peer=to_peer, sent_bytes=moved.sent_bytes,
        received_bytes=moved.received_bytes, goodput_bytes_per_s=goodput_bytes_per_s)


def progress_of(lease: LeaseRecord, now_ns: int) -> session_pb2.SegmentProgress:
    """What an operator sees of a lease."""
    progress = session_pb2.SegmentProgress(
        job_id=lease.job_id, segment=lease.segment, step=lease.steps_done
    )
    if lease.waiting is not None:
        owner = lease.peer_of(lease.waiting.segment) or "this peer"
        progress.waiting_for = f"{lease.waiting.what} from {owner}"
        progress.waiting_ms = max(0, now_ns - lease.waiting_since_ns) // 1_000_000
    return progress
