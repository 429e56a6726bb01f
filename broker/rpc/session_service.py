"""`SessionService`: one stream per peer. Turns its messages into core events and back."""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import AsyncIterator
from typing import Any

import grpc

from broker.core import events as ev
from broker.core import views
from broker.core.limits import MAX_HELD_LEASES
from broker.driver import Driver
from broker.sessions import Session, Sessions
from broker.telemetry import Telemetry
from dag.cluster import Link, PeerRates
from homespun.errors import Code, HomespunError
from homespun.identity.caller import identify
from homespun.v1 import session_pb2, session_pb2_grpc
from homespun.version import PROTOCOL_VERSION, SOFTWARE_VERSION, check_version

REGISTER_TIMEOUT_S = 10.0
PROGRESS_MAX = MAX_HELD_LEASES

Context = grpc.aio.ServicerContext[Any, Any]


class SessionService(session_pb2_grpc.SessionServiceServicer):
    """Serves peers."""

    def __init__(self, driver: Driver, sessions: Sessions, telemetry: Telemetry) -> None:
        """Serve with the broker's parts."""
        self._driver = driver
        self._sessions = sessions
        self._telemetry = telemetry

    async def Connect(  # noqa: N802 - the name is the schema's
        self, request_iterator: AsyncIterator[session_pb2.PeerMessage], context: Context
    ) -> AsyncIterator[session_pb2.BrokerMessage]:
        """Run one session until the peer or the broker ends it."""
        peer_id = identify(context).id
        register = await self._first(request_iterator)
        check_version(register.protocol_version, f"peer {peer_id}")
        session_id = uuid.uuid4().hex
        session = self._sessions.open(peer_id, session_id)
        reader: asyncio.Task[None] | None = None
        try:
            await self._driver.post(_connected(peer_id, session_id, register))
            peer = views.peer(self._driver.core, peer_id)
            if peer is not None and peer.session_id == session_id:
                yield self._welcome(peer)
            reader = asyncio.create_task(self._read(request_iterator, peer_id, session))
            async for message in _outgoing(session):
                yield message
        finally:
            if reader is not None:
                reader.cancel()
            self._sessions.close(peer_id, session)
            with contextlib.suppress(HomespunError):
                self._driver.post(
                    ev.PeerDisconnected(at_ns=0, peer_id=peer_id, session_id=session_id)
                )

    async def _first(
        self, messages: AsyncIterator[session_pb2.PeerMessage]
    ) -> session_pb2.Register:
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

    def _welcome(self, peer: views.PeerView) -> session_pb2.BrokerMessage:
        policy = self._driver.core.state.policy
        welcome = session_pb2.Welcome(
            protocol_version=PROTOCOL_VERSION,
            software_version=SOFTWARE_VERSION,
            heartbeat_interval_ms=policy.heartbeat_interval_ms,
            last_report=peer.last_report,
        )
        return session_pb2.BrokerMessage(welcome=welcome)

    async def _read(
        self,
        messages: AsyncIterator[session_pb2.PeerMessage],
        peer_id: str,
        session: Session,
    ) -> None:
        """Take in what the peer sends; when it stops, the session ends."""
        try:
            async for message in messages:
                match message.WhichOneof("body"):
                    case "heartbeat":
                        self._heartbeat(peer_id, message.heartbeat)
                    case "report":
                        await self._driver.post(_report_event(peer_id, message.report))
                    case "link_measured":
                        await self._driver.post(_measured(peer_id, message.link_measured))
                    case other:
                        raise HomespunError(
                            Code.INVALID_ARGUMENT, f"a session does not take {other} here"
                        )
        finally:
            session.ended.set()

    def _heartbeat(self, peer_id: str, beat: session_pb2.Heartbeat) -> None:
        peer = views.peer(self._driver.core, peer_id)
        held = {(lease.job_id, lease.segment) for lease in peer.leases} if peer else set()
        jobs = {job_id for job_id, _ in held}
        mine = session_pb2.Heartbeat(
            progress=[p for p in beat.progress[:PROGRESS_MAX] if (p.job_id, p.segment) in held],
            traffic=[t for t in beat.traffic[:PROGRESS_MAX * 4] if t.job_id in jobs],
        )
        self._telemetry.heartbeat(peer_id, mine)


async def _outgoing(session: Session) -> AsyncIterator[session_pb2.BrokerMessage]:
    """Messages for the peer, until the session ends or says goodbye."""
    ended = asyncio.create_task(session.ended.wait())
    try:
        while True:
            following = asyncio.create_task(session.outbox.get())
            done, _ = await asyncio.wait(
                (following, ended), return_when=asyncio.FIRST_COMPLETED
            )
            if following not in done:
                following.cancel()
                return
            message = following.result()
            yield message
            if message.WhichOneof("body") == "goodbye":
                return
    finally:
        ended.cancel()


def _connected(
    peer_id: str, session_id: str, register: session_pb2.Register
) -> ev.PeerConnected:
    hardware = register.hardware
    return ev.PeerConnected(
        at_ns=0,
        peer_id=peer_id,
        session_id=session_id,
        name=register.name,
        software_version=register.software_version,
        tensor_address=register.tensor_address,
        hardware=ev.PeerHardware(
            device=hardware.device,
            device_name=hardware.device_name,
            memory_bytes=hardware.memory_bytes,
            rates=PeerRates(
                matmul_flops_per_s=hardware.matmul_flops_per_s,
                attention_flops_per_s=hardware.attention_flops_per_s,
                memory_bytes_per_s=hardware.memory_bytes_per_s,
            ),
            executor=hardware.executor,
            platform=hardware.platform,
            threads=hardware.threads,
        ),
        leases=tuple(
            ev.HeldLease(
                job_id=lease.job_id, segment=lease.segment, token=lease.token, phase=lease.phase
            )
            for lease in register.leases
        ),
    )


def _measured(peer_id: str, measured: session_pb2.LinkMeasured) -> ev.LinkMeasured:
    link = Link(
        source=peer_id,
        target=measured.to_peer,
        latency_s=measured.latency_s,
        bandwidth_bytes_per_s=measured.bandwidth_bytes_per_s,
    )
    return ev.LinkMeasured(at_ns=0, link=link)


def _report_event(peer_id: str, report: session_pb2.Report) -> ev.AnyEvent:
    base: dict[str, Any] = {
        "at_ns": 0,
        "peer_id": peer_id,
        "number": report.number,
        "job_id": report.job_id,
        "segment": report.segment,
        "token": report.token,
    }
    match report.WhichOneof("body"):
        case "ready":
            return ev.SegmentReady(**base)
        case "steps":
            steps = report.steps
            return ev.StepsDone(
                **base, first_step=steps.first_step, count=steps.count, losses=tuple(steps.losses)
            )
        case "evaluation":
            return ev.EvaluationDone(
                **base, step=report.evaluation.step, loss=report.evaluation.loss
            )
        case "failed":
            failed = report.failed
            return ev.SegmentFailed(
                **base,
                code=failed.code,
                message=failed.message,
                blamed_peer=failed.blamed_peer,
            )
        case "finished":
            finished = report.finished
            return ev.SegmentFinished(
                **base,
                result_digest=finished.result_digest,
                result_bytes=finished.result_bytes,
            )
        case "released":
            return ev.SegmentReleased(**base)
    raise HomespunError(Code.INVALID_ARGUMENT, "a report without a body")
