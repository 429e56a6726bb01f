"""`SessionService`: one stream per peer. Turns its messages into core events and back."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncIterator
from typing import Any

import grpc

from broker.core import blob_rights, views
from broker.core import events as ev
from broker.core.limits import MAX_HELD_LEASES
from broker.driver import Driver
from broker.rpc.bounds import shown
from broker.rpc.no_work_desk import NoWorkDesk, no_work_message
from broker.rpc.report_codec import report_event
from broker.rpc.session_codec import (
    availability_changed,
    connected,
    measured,
    piece_stored,
    transfers_measured,
)
from broker.sessions import Session, Sessions
from broker.telemetry import Telemetry
from homespun.errors import Code, HomespunError
from homespun.identity.caller import identify
from homespun.pieces import SLOWEST_LINE_BYTES_PER_S
from homespun.v1 import session_pb2, session_pb2_grpc
from homespun.version import PROTOCOL_VERSION, SOFTWARE_VERSION, check_version

REGISTER_TIMEOUT_S = 10.0
WRITE_TIMEOUT_S = 60.0
"""A peer that takes no message for so long is gone, though its machine may still answer pings."""
PROGRESS_MAX = MAX_HELD_LEASES
TRAFFIC_MAX = 4 * PROGRESS_MAX
TRANSFERS_EVERY_S = 30.0
"""A peer tells of a link once a minute; what comes much sooner is not journalled."""

Context = grpc.aio.ServicerContext[Any, Any]


class SessionService(session_pb2_grpc.SessionServiceServicer):
    """Serves peers."""

    def __init__(self, driver: Driver, sessions: Sessions, telemetry: Telemetry) -> None:
        """Serve with the broker's parts."""
        self._driver = driver
        self._sessions = sessions
        self._telemetry = telemetry
        self._desk = NoWorkDesk(lambda: driver.core.state)

    async def Connect(  # noqa: N802 - the name is the schema's
        self, request_iterator: AsyncIterator[session_pb2.PeerMessage], context: Context
    ) -> None:
        """Run one session until the peer or the broker ends it."""
        peer_id = identify(context).id
        with self._sessions.admitted(peer_id):
            register = await _first(request_iterator)
            check_version(register.protocol_version, f"peer {peer_id}")
            event = connected(peer_id, uuid.uuid4().hex, register)
            with self._sessions.opened(peer_id, event.session_id) as session:
                try:
                    await self._driver.post(event)
                    await self._converse(session, request_iterator, context)
                finally:
                    gone = ev.PeerDisconnected(
                        at_ns=0, peer_id=peer_id, session_id=event.session_id
                    )
                    self._driver.post(gone, is_own=True)

    async def _converse(
        self,
        session: Session,
        messages: AsyncIterator[session_pb2.PeerMessage],
        context: Context,
    ) -> None:
        """Read and write side by side; when one of them ends, or fails, so does the session."""
        if self._driver.session_of(session.peer_id) == session.session_id:
            await _write(context, self._welcome(session.peer_id))
        sides = (
            asyncio.create_task(self._read(messages, session)),
            asyncio.create_task(_write_all(session, context)),
        )
        try:
            done, _ = await asyncio.wait(sides, return_when=asyncio.FIRST_COMPLETED)
            for side in done:
                side.result()
        finally:
            for side in sides:
                side.cancel()
            await asyncio.wait(sides)

    def _welcome(self, peer_id: str) -> session_pb2.BrokerMessage:
        peer = views.peer(self._driver.core, peer_id)
        policy = self._driver.core.state.policy
        welcome = session_pb2.Welcome(
            protocol_version=PROTOCOL_VERSION,
            software_version=SOFTWARE_VERSION,
            heartbeat_interval_ms=policy.heartbeat_interval_ms,
            last_report=0 if peer is None else peer.last_report,
        )
        return session_pb2.BrokerMessage(welcome=welcome)

    async def _read(
        self, messages: AsyncIterator[session_pb2.PeerMessage], session: Session
    ) -> None:
        """Take in what the peer sends, until it stops.

        Each report is durable before the next is read: that is the back-pressure.
        """
        peer_id = session.peer_id
        async for message in messages:
            match message.WhichOneof("body"):
                case "heartbeat":
                    self._heartbeat(peer_id, message.heartbeat)
                    self._tell_no_work(session)
                    for transfers in fresh_transfers(session, message.heartbeat):
                        await self._driver.post(transfers)
                case "report":
                    if self._driver.session_of(peer_id) != session.session_id:
                        return  # a process that was replaced must not use up the new one's numbers
                    await self._driver.post(report_event(peer_id, message.report))
                case "link_measured":
                    event = measured(peer_id, message.link_measured)
                    if event.link.target in session.probes:
                        session.probes.remove(event.link.target)
                        await self._driver.post(event)
                case "availability":
                    if self._driver.session_of(peer_id) != session.session_id:
                        return
                    await self._take_availability(session, message.availability)
                case "piece_stored":
                    said = piece_stored(peer_id, message.piece_stored)
                    if blob_rights.may_store_piece(self._driver.core, said):
                        await self._driver.post(said)
                case other:
                    raise HomespunError(
                        Code.INVALID_ARGUMENT, f"a session does not take {other} here"
                    )

    async def _take_availability(
        self, session: Session, said: session_pb2.Availability
    ) -> None:
        """What was said before is no news, and not journalled again."""
        event = availability_changed(session.peer_id, said)
        if event != session.availability:
            session.availability = event
            await self._driver.post(event)

    def _tell_no_work(self, session: Session) -> None:
        news = self._desk.news_for(session.peer_id, session.no_work)
        if news is not None:
            session.no_work = news
            session.put(no_work_message(news))

    def _heartbeat(self, peer_id: str, beat: session_pb2.Heartbeat) -> None:
        held = self._driver.held_by(peer_id)
        jobs = {job_id for job_id, _ in held}
        mine = session_pb2.Heartbeat()
        for progress in beat.progress[:PROGRESS_MAX]:
            if (progress.job_id, progress.segment) in held:
                progress.waiting_for = shown(progress.waiting_for)
                mine.progress.append(progress)
        for traffic in beat.traffic[:TRAFFIC_MAX]:
            if traffic.job_id in jobs:
                traffic.to_peer = shown(traffic.to_peer)
                mine.traffic.append(traffic)
        self._telemetry.heartbeat(peer_id, mine)


def fresh_transfers(
    session: Session, beat: session_pb2.Heartbeat
) -> list[ev.TransfersMeasured]:
    """What a heartbeat tells of links' bandwidths, seldom enough for the journal."""
    now_s = time.monotonic()
    heard = session.transfers_at_s = {
        peer: at_s for peer, at_s in session.transfers_at_s.items()
        if now_s - at_s < TRANSFERS_EVERY_S}
    found = []
    for traffic in beat.traffic[:TRAFFIC_MAX]:
        if (traffic.HasField("goodput_bytes_per_s") and traffic.to_peer not in heard
                and len(heard) < TRAFFIC_MAX):
            heard[shown(traffic.to_peer)] = now_s
            found.append(transfers_measured(session.peer_id, traffic))
    return found


async def _first(messages: AsyncIterator[session_pb2.PeerMessage]) -> session_pb2.Register:
    try:
        async with asyncio.timeout(REGISTER_TIMEOUT_S):
            first = await anext(messages)
    except (TimeoutError, StopAsyncIteration):
        raise HomespunError(
            Code.TIMED_OUT, f"no Register came within {REGISTER_TIMEOUT_S:.0f} s"
        ) from None
    if first.WhichOneof("body") != "register":
        raise HomespunError(Code.INVALID_ARGUMENT, "the first message must be Register")
    return first.register


async def _write_all(session: Session, context: Context) -> None:
    """Write what the broker has to say, up to a goodbye."""
    while True:
        message = await session.take()
        await _write(context, message)
        if message.WhichOneof("body") == "goodbye":
            return


async def _write(context: Context, message: session_pb2.BrokerMessage) -> None:
    timeout_s = WRITE_TIMEOUT_S + message.ByteSize() / SLOWEST_LINE_BYTES_PER_S
    try:
        async with asyncio.timeout(timeout_s):
            await context.write(message)
    except TimeoutError:
        raise HomespunError(
            Code.TIMED_OUT, f"the peer took no message for {timeout_s:.0f} s"
        ) from None
