"""Commands of the broker's core to a peer, as the messages of its session."""

from __future__ import annotations

from broker.core import commands as do
from homespun.v1 import job_pb2, session_pb2
from homespun.wire import to_message

PROBE_BYTES = 4 * 2**20
"""Bytes a link probe may send: 0.3 s at 100 Mbit/s."""

PeerCommand = (
    do.AssignSegment | do.StartJob | do.RevokeSegment | do.AcknowledgeReports | do.MeasureLink
    | do.StandBy | do.PlanSnapshots | do.CompleteSnapshot | do.StorePiece
)
"""Every command that goes to one peer over its session."""


def message_of(command: PeerCommand) -> session_pb2.BrokerMessage:
    """A command as the message that carries it."""
    match command:
        case do.AssignSegment():
            return session_pb2.BrokerMessage(assign=_assign(command))
        case do.StandBy():
            return session_pb2.BrokerMessage(stand_by=_stand_by(command))
        case do.PlanSnapshots():
            return session_pb2.BrokerMessage(snapshot_plan=_snapshot_plan(command))
        case do.CompleteSnapshot():
            complete = session_pb2.SnapshotComplete(
                job_id=command.job_id, segment=command.segment, token=command.token,
                position=command.position)
            return session_pb2.BrokerMessage(snapshot_complete=complete)
        case do.StorePiece():
            piece = session_pb2.StorePiece(
                job_id=command.job_id, serial=command.serial, position=command.position,
                source=to_message(command.source, session_pb2.SnapshotSource),
                timeout_ms=command.timeout_ms)
            return session_pb2.BrokerMessage(store_piece=piece)
        case do.StartJob():
            start = session_pb2.StartJob(
                job_id=command.job_id, segment=command.segment, token=command.token,
                members=[to_message(member, session_pb2.Neighbour) for member in command.members])
            return session_pb2.BrokerMessage(start=start)
        case do.RevokeSegment():
            revoke = session_pb2.RevokeSegment(
                job_id=command.job_id, segment=command.segment, token=command.token,
                reason=command.reason)
            return session_pb2.BrokerMessage(revoke=revoke)
        case do.AcknowledgeReports():
            durable = session_pb2.ReportsDurable(through_number=command.through_number)
            return session_pb2.BrokerMessage(reports_durable=durable)
        case do.MeasureLink():
            measure = session_pb2.MeasureLink(
                to_peer=command.to_peer, tensor_address=command.tensor_address,
                probe_bytes=PROBE_BYTES)
            return session_pb2.BrokerMessage(measure_link=measure)


def _assign(command: do.AssignSegment) -> session_pb2.AssignSegment:
    assign = session_pb2.AssignSegment(
        job_id=command.job_id,
        token=command.token,
        spec=to_message(command.spec, job_pb2.JobSpec),
        segment=to_message(command.segment, job_pb2.Segment),
        in_flight=command.in_flight,
        segments=command.segments,
        stall_timeout_ms=command.stall_timeout_ms,
        position=command.position,
        parts=[to_message(part, session_pb2.SnapshotPart) for part in command.parts],
        first_serial=command.first_serial,
    )
    if command.snapshot is not None:
        assign.snapshot.CopyFrom(to_message(command.snapshot, session_pb2.SnapshotSource))
    return assign


def _stand_by(command: do.StandBy) -> session_pb2.StandBy:
    return session_pb2.StandBy(
        job_id=command.job_id,
        token=command.token,
        spec=to_message(command.spec, job_pb2.JobSpec),
        segment=to_message(command.segment, job_pb2.Segment),
        in_flight=command.in_flight,
        segments=command.segments,
        stall_timeout_ms=command.stall_timeout_ms,
        level=command.level,
        source=command.source,
        first_serial=command.first_serial,
    )


def _snapshot_plan(command: do.PlanSnapshots) -> session_pb2.SnapshotPlan:
    return session_pb2.SnapshotPlan(
        job_id=command.job_id,
        segment=command.segment,
        token=command.token,
        interval=command.interval,
        holders=[to_message(holder, session_pb2.Holder) for holder in command.holders],
        data_shards=command.data_shards,
    )
