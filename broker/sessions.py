"""Open session streams, by peer: where commands to peers go.

A command for a peer without a stream is dropped: when the peer comes back the core compares what it
holds with what it should hold, and asks again.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

import structlog

from broker.core import commands as do
from homespun.v1 import job_pb2, session_pb2
from homespun.wire import to_message

log = structlog.get_logger(__name__)

OUTBOX_MESSAGES_MAX = 1_000
"""Messages that may wait for one peer; one that reads so slowly is disconnected."""
PROBE_BYTES = 4 * 2**20
"""Bytes a link probe may send: 0.3 s at 100 Mbit/s."""

PeerCommand = (
    do.AssignSegment | do.StartJob | do.RevokeSegment | do.AcknowledgeReports | do.MeasureLink
)


@dataclass(slots=True)
class Session:
    """One open stream."""

    session_id: str
    outbox: asyncio.Queue[session_pb2.BrokerMessage] = field(
        default_factory=lambda: asyncio.Queue(OUTBOX_MESSAGES_MAX)
    )
    ended: asyncio.Event = field(default_factory=asyncio.Event)


class Sessions:
    """All open streams. A peer has one current stream; a replaced one ends with a goodbye."""

    def __init__(self) -> None:
        self._current: dict[str, Session] = {}
        self._by_id: dict[str, Session] = {}

    def open(self, peer_id: str, session_id: str) -> Session:
        """Register a stream; commands for the peer go there from now on."""
        session = Session(session_id)
        self._current[peer_id] = self._by_id[session_id] = session
        return session

    def close(self, peer_id: str, session: Session) -> None:
        """Forget a stream."""
        self._by_id.pop(session.session_id, None)
        if self._current.get(peer_id) is session:
            del self._current[peer_id]

    def send(self, command: PeerCommand) -> None:
        """Queue a command for its peer."""
        session = self._current.get(command.peer_id)
        if session is not None:
            self._put(session, command.peer_id, _message_of(command))

    def end(self, command: do.DisconnectPeer) -> None:
        """Say goodbye and end a stream, be it the current one or one that was replaced."""
        session = self._by_id.get(command.session_id)
        if session is not None:
            goodbye = session_pb2.Goodbye(code=command.code, message=command.message)
            message = session_pb2.BrokerMessage(goodbye=goodbye)
            self._put(session, command.peer_id, message)

    def _put(self, session: Session, peer_id: str, message: session_pb2.BrokerMessage) -> None:
        try:
            session.outbox.put_nowait(message)
        except asyncio.QueueFull:
            log.warning("peer_reads_too_slowly", peer_id=peer_id)
            session.ended.set()


def _message_of(command: PeerCommand) -> session_pb2.BrokerMessage:
    match command:
        case do.AssignSegment():
            assign = session_pb2.AssignSegment(
                job_id=command.job_id,
                token=command.token,
                spec=to_message(command.spec, job_pb2.JobSpec),
                segment=to_message(command.segment, job_pb2.Segment),
                in_flight=command.in_flight,
                segments=command.segments,
                stall_timeout_ms=command.stall_timeout_ms,
            )
            return session_pb2.BrokerMessage(assign=assign)
        case do.StartJob():
            members = [
                session_pb2.Neighbour(
                    segment=m.segment,
                    peer_id=m.peer_id,
                    token=m.token,
                    tensor_address=m.tensor_address,
                )
                for m in command.members
            ]
            start = session_pb2.StartJob(
                job_id=command.job_id,
                segment=command.segment,
                token=command.token,
                members=members,
            )
            return session_pb2.BrokerMessage(start=start)
        case do.RevokeSegment():
            revoke = session_pb2.RevokeSegment(
                job_id=command.job_id,
                segment=command.segment,
                token=command.token,
                reason=command.reason,
            )
            return session_pb2.BrokerMessage(revoke=revoke)
        case do.AcknowledgeReports():
            durable = session_pb2.ReportsDurable(through_number=command.through_number)
            return session_pb2.BrokerMessage(reports_durable=durable)
        case do.MeasureLink():
            measure = session_pb2.MeasureLink(
                to_peer=command.to_peer,
                tensor_address=command.tensor_address,
                probe_bytes=PROBE_BYTES,
            )
            return session_pb2.BrokerMessage(measure_link=measure)
