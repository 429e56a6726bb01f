"""Puts the broker's parts together and serves until told to stop."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass

import grpc
import structlog

from broker.core import commands as do
from broker.core import views
from broker.core.events import HeartbeatsSeen
from broker.driver import Driver
from broker.identity.authority import Authority, write_operator
from broker.identity.server_certificate import ServerCertificate
from broker.journal import Journal
from broker.planner import solve
from broker.rpc.authorisation import ENROLMENT_PERMISSIONS, PERMISSIONS, Guard, identify
from broker.rpc.blob_service import BlobService
from broker.rpc.enrolment_service import EnrolmentServicer, RenewalServicer
from broker.rpc.job_service import JobService
from broker.rpc.operator_service import OperatorService
from broker.rpc.session_service import SessionService
from broker.sessions import Sessions
from broker.settings import BrokerDirectory, BrokerSettings
from broker.telemetry import Telemetry
from homespun.blobs.store import BlobStore
from homespun.discovery import announced
from homespun.errors import Code, HomespunError
from homespun.identity.address import join_address, split_address
from homespun.identity.certificates import utc_now
from homespun.v1 import (
    blobs_pb2_grpc,
    enrolment_pb2_grpc,
    jobs_pb2_grpc,
    operator_pb2_grpc,
    session_pb2_grpc,
)

log = structlog.get_logger(__name__)

MESSAGE_BYTES_MAX = 64 * 2**20
"""Largest control message: a job with 20,000 parameters takes about 5 MB."""
STREAMS_MAX = 10_000
HEARTBEAT_TICK_S = 0.5
STOP_GRACE_S = 1.0

SERVER_OPTIONS = (
    ("grpc.max_receive_message_length", MESSAGE_BYTES_MAX),
    ("grpc.max_send_message_length", MESSAGE_BYTES_MAX),
    ("grpc.max_concurrent_streams", STREAMS_MAX),
    ("grpc.so_reuseport", 0),
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
)


@dataclass(slots=True)
class BrokerServer:
    """One broker process."""

    directory: BrokerDirectory
    settings: BrokerSettings
    authority: Authority
    driver: Driver
    blobs: BlobStore
    sessions: Sessions
    telemetry: Telemetry

    @classmethod
    def open(cls, directory: BrokerDirectory) -> BrokerServer:
        """Load a broker's directory and replay its journal.

        Raises:
            HomespunError: BAD_CONFIGURATION when the directory is not usable.
        """
        settings = directory.load_settings()
        authority = Authority.load(directory.root, utc_now())
        write_operator(
            authority, directory.root, broker_address=settings.address, now=utc_now()
        )
        blobs = BlobStore(directory.blobs, settings.blob_quota_bytes or None)
        outlet = _Outlet()
        driver = Driver.recover(Journal.open(directory.journal), outlet.carry_out)
        self = cls(directory, settings, authority, driver, blobs, Sessions(), Telemetry())
        outlet.server = self
        return self

    async def serve(self) -> None:
        """Serve until cancelled.

        Raises:
            HomespunError: BAD_CONFIGURATION when a port is taken; DISK_FULL when the journal
                cannot grow.
        """
        host, port = split_address(self.settings.listen)
        async with asyncio.TaskGroup() as group:
            group.create_task(self.driver.run(self.settings.policy))
            async with self._ports(host, port):
                with announced(self.authority.network_id, port, host) if (
                    self.settings.announce
                ) else contextlib.nullcontext():
                    log.info(
                        "serving", address=self.settings.address,
                        network_id=self.authority.network_id,
                    )
                    await self._merge_heartbeats()

    @contextlib.asynccontextmanager
    async def _ports(self, host: str, port: int) -> AsyncIterator[None]:
        certificate = ServerCertificate(self.authority)
        main = grpc.aio.server(
            interceptors=(Guard(PERMISSIONS, self.authority.network_id),),
            options=SERVER_OPTIONS,
        )
        self._add_services(main)
        first_contact = grpc.aio.server(
            interceptors=(Guard(ENROLMENT_PERMISSIONS, self.authority.network_id),),
            options=SERVER_OPTIONS,
        )
        enrolment_pb2_grpc.add_EnrolmentServiceServicer_to_server(
            EnrolmentServicer(self.authority, self.driver.ask), first_contact
        )
        _bind(main, join_address(host, port), certificate.main_credentials())
        _bind(
            first_contact,
            join_address(host, self.settings.enrolment_port),
            certificate.enrolment_credentials(),
        )
        await main.start()
        await first_contact.start()
        try:
            yield
        finally:
            await asyncio.gather(main.stop(STOP_GRACE_S), first_contact.stop(STOP_GRACE_S))

    def _add_services(self, server: grpc.aio.Server) -> None:
        driver = self.driver
        session_pb2_grpc.add_SessionServiceServicer_to_server(
            SessionService(driver, self.sessions, self.telemetry), server
        )
        jobs_pb2_grpc.add_JobServiceServicer_to_server(
            JobService(driver, self.blobs, self.telemetry), server
        )
        blobs_pb2_grpc.add_BlobServiceServicer_to_server(
            BlobService(self.blobs, lambda context: identify(context).id, self._may), server
        )
        enrolment_pb2_grpc.add_RenewalServiceServicer_to_server(
            RenewalServicer(self.authority), server
        )
        operator_pb2_grpc.add_OperatorServiceServicer_to_server(
            OperatorService(
                driver, self.authority.root_fingerprint, self.settings.enrolment_port
            ),
            server,
        )

    def _may(
        self, identity: str, action: str, digest: str, size_bytes: int
    ) -> HomespunError | None:
        """Who may touch which blob: the core's rules."""
        core = self.driver.core
        if action == "read":
            allowed = views.may_read_blob(core, identity, digest)
        else:
            allowed = views.may_write_blob(core, identity, size_bytes)
        if allowed:
            return None
        return HomespunError(Code.NOT_ALLOWED, f"{identity} may not {action} blob {digest}")

    async def _merge_heartbeats(self) -> None:
        """One event per tick, however many peers show life in it."""
        while True:
            await asyncio.sleep(HEARTBEAT_TICK_S)
            alive = self.telemetry.take_alive()
            if alive:
                await self.driver.post(HeartbeatsSeen(at_ns=0, peer_ids=alive))


class _Outlet:
    """Carries out the core's commands that are not answers or notes."""

    def __init__(self) -> None:
        self.server: BrokerServer | None = None
        self._planning: set[asyncio.Task[None]] = set()

    def carry_out(self, command: do.AnyCommand) -> None:
        server = self.server
        assert server is not None
        match command:
            case do.SolvePlacement():
                task = asyncio.get_running_loop().create_task(_plan(server, command))
                self._planning.add(task)
                task.add_done_callback(self._planning.discard)
            case do.DisconnectPeer():
                server.sessions.end(command)
            case (
                do.AssignSegment()
                | do.StartJob()
                | do.RevokeSegment()
                | do.AcknowledgeReports()
                | do.MeasureLink()
            ):
                server.sessions.send(command)


async def _plan(server: BrokerServer, command: do.SolvePlacement) -> None:
    answer = await asyncio.to_thread(solve, command, server.blobs)
    await server.driver.post(answer)


def _bind(server: grpc.aio.Server, address: str, credentials: grpc.ServerCredentials) -> None:
    try:
        server.add_secure_port(address, credentials)
    except RuntimeError:
        raise HomespunError(
            Code.BAD_CONFIGURATION,
            f"cannot listen on {address}: another program has the port, or the address is not "
            "this machine's",
        ) from None
