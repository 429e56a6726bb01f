"""Puts the broker's parts together and serves until told to stop."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from datetime import timedelta

import grpc
import structlog

from broker.console.address import ConsoleAddress
from broker.console.server import ConsoleServer
from broker.copying import Copying
from broker.core import blob_rights, operator_views, views
from broker.core import commands as do
from broker.core.events import HeartbeatsSeen
from broker.disk_reserve import disk_shortage
from broker.driver import Driver
from broker.identity.authority import Authority, write_operator
from broker.identity.server_certificate import ServerCertificate
from broker.journal import Journal
from broker.operator_actions import OperatorActions
from broker.planner_process import solve_apart
from broker.rpc.authorisation import ENROLMENT_PERMISSIONS, PERMISSIONS, Guard, identify
from broker.rpc.blob_service import BlobService
from broker.rpc.enrolment_service import EnrolmentServicer, RenewalServicer
from broker.rpc.job_service import JobService
from broker.rpc.operator_service import OperatorService
from broker.rpc.session_service import SessionService
from broker.sessions import Sessions
from broker.settings import BrokerDirectory, BrokerSettings
from broker.sightings import Sightings
from broker.telemetry import Telemetry
from broker.tracing import Tracing, open_tracing
from homespun.blobs.store import BlobStore
from homespun.discovery import announced
from homespun.errors import Code, HomespunError
from homespun.identity.address import join_address, split_address
from homespun.identity.certificates import utc_now
from homespun.identity.channels import SERVER_OPTIONS
from homespun.v1 import (
    blobs_pb2_grpc,
    enrolment_pb2_grpc,
    jobs_pb2_grpc,
    operator_pb2_grpc,
    session_pb2_grpc,
)

log = structlog.get_logger(__name__)

CALLS_MAX = 20_000
"""Calls in progress on the main port: two for each peer that a broker may know."""
FIRST_CONTACTS_MAX = 64
"""Calls in progress on the enrolment port, where anybody may call."""
RANKINGS_MAX = 1
"""Rankings of backups made at once, beside one plan: nobody waits for a ranking."""
REPLANS_MAX = 1
"""Started jobs planned anew at once, beside those: each may take as long as a plan."""
HEARTBEAT_TICK_S = 0.5
STOP_GRACE_S = 1.0


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
    actions: OperatorActions
    console: ConsoleServer
    tracing: Tracing | None = None
    sightings: Sightings = field(default_factory=Sightings)
    work: asyncio.TaskGroup = field(default_factory=asyncio.TaskGroup)
    """Everything that runs while it serves: what fails here ends the broker."""

    @classmethod
    def open(cls, directory: BrokerDirectory) -> BrokerServer:
        """Load a broker's directory and replay its journal.

        Raises:
            HomespunError: BAD_CONFIGURATION when the directory is not usable.
        """
        settings = directory.load_settings()
        console_address = ConsoleAddress.of(settings)
        lifetime = timedelta(seconds=settings.certificate_lifetime_s)
        authority = replace(
            Authority.load(directory.root, utc_now()), member_lifetime=lifetime)
        outlet = _Outlet()
        # First, as it also locks the directory: a second broker must not touch anything in it.
        driver = Driver.recover(Journal.open(directory.journal), outlet.carry_out)
        write_operator(
            authority, directory.root, broker_address=settings.address, now=utc_now()
        )
        blobs = BlobStore(directory.blobs, settings.blob_quota_bytes or None)
        actions = OperatorActions(driver, authority.root_fingerprint, settings.enrolment_port)
        telemetry = Telemetry()
        console = ConsoleServer(driver, actions, telemetry, settings, console_address)
        self = cls(
            directory, settings, authority, driver, blobs, Sessions(), telemetry, actions, console,
            open_tracing(settings.trace_endpoint))
        outlet.server = self
        return self

    async def serve(self) -> None:
        """Serve until cancelled.

        Raises:
            HomespunError: BAD_CONFIGURATION when a port is taken; DISK_FULL when the journal
                cannot grow.
        """
        host, port = split_address(self.settings.listen)
        async with asyncio.TaskGroup() as self.work:
            self.work.create_task(self.driver.run(self.settings.policy))
            async with (
                self._traced(), self._ports(host, port), self._announcement(),
                self.console.serving(self.work),
            ):
                log.info(
                    "serving", address=self.settings.address,
                    network_id=self.authority.network_id,
                )
                await self._merge_heartbeats()

    @contextlib.asynccontextmanager
    async def _traced(self) -> AsyncIterator[None]:
        if self.tracing is None:
            yield
            return
        self.work.create_task(self.tracing.follow(self.driver))
        try:
            yield
        finally:
            await self.tracing.close()

    def _announcement(self) -> contextlib.AbstractAsyncContextManager[None]:
        if self.settings.announce:
            return announced(self.authority.network_id, self.settings.address)
        return contextlib.nullcontext()

    @contextlib.asynccontextmanager
    async def _ports(self, host: str, port: int) -> AsyncIterator[None]:
        certificate = ServerCertificate(self.authority)
        guard = Guard(
            PERMISSIONS, self.authority.network_id,
            is_denied=lambda identity: operator_views.is_shut_out(self.driver.core, identity),
            note_call=self.sightings.called)
        main = grpc.aio.server(
            interceptors=(guard,) if self.tracing is None else (self.tracing, guard),
            options=SERVER_OPTIONS,
            maximum_concurrent_rpcs=CALLS_MAX,
        )
        self._add_services(main)
        first_contact = grpc.aio.server(
            interceptors=(Guard(ENROLMENT_PERMISSIONS, self.authority.network_id),),
            options=SERVER_OPTIONS,
            maximum_concurrent_rpcs=FIRST_CONTACTS_MAX,
        )
        enrolment_pb2_grpc.add_EnrolmentServiceServicer_to_server(
            EnrolmentServicer(
                self.authority, self.driver.ask,
                renew_within=timedelta(seconds=self.settings.renew_expired_within_s),
                note_issued=self.sightings.issued),
            first_contact
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
            JobService(driver, self.blobs, self.telemetry, self.actions), server
        )
        blobs_pb2_grpc.add_BlobServiceServicer_to_server(
            BlobService(self.blobs, lambda context: identify(context).id, self._may), server
        )
        enrolment_pb2_grpc.add_RenewalServiceServicer_to_server(
            RenewalServicer(self.authority, note_issued=self.sightings.issued), server
        )
        operator_pb2_grpc.add_OperatorServiceServicer_to_server(
            OperatorService(driver, self.actions, self.console.door, Copying(
                driver, self.directory, self.authority.network_id), self.telemetry,
                self.sightings), server
        )

    def _may(
        self, identity: str, action: str, digest: str, size_bytes: int
    ) -> HomespunError | None:
        """Who may touch which blob: the core's rules."""
        core = self.driver.core
        if action == "read":
            allowed = blob_rights.may_read_blob(core, identity, digest)
        else:
            allowed = blob_rights.may_write_blob(core, identity, size_bytes)
        if allowed and action == "write":
            return disk_shortage(self.directory.blobs, "a blob", size_bytes)
        if allowed:
            return None
        return HomespunError(Code.NOT_ALLOWED, f"{identity} may not {action} blob {digest}")

    async def _merge_heartbeats(self) -> None:
        """One event per tick, however many peers show life in it."""
        while True:
            await asyncio.sleep(HEARTBEAT_TICK_S)
            alive = self.telemetry.take_alive()
            if alive:
                await self.driver.post(HeartbeatsSeen(at_ns=0, peer_ids=alive), is_own=True)


class _Outlet:
    """Carries out the core's commands that are not answers or notes."""

    def __init__(self) -> None:
        self.server: BrokerServer | None = None
        self._planning: asyncio.Task[None] | None = None
        self._ranking = asyncio.Semaphore(RANKINGS_MAX)
        self._replanning = asyncio.Semaphore(REPLANS_MAX)

    def carry_out(self, command: do.AnyCommand) -> None:
        server = self.server
        assert server is not None
        match command:
            case do.SolvePlacement():
                if self._planning is not None:
                    self._planning.cancel()  # the core plans one job at a time
                self._planning = server.work.create_task(_plan(server, command))
            case do.RankBackups():
                server.work.create_task(_advise(server, self._ranking, command))
            case do.ReplanJob():
                server.work.create_task(_advise(server, self._replanning, command))
            case do.DisconnectPeer():
                server.sessions.end(command)
            case (
                do.AssignSegment()
                | do.StartJob()
                | do.RevokeSegment()
                | do.AcknowledgeReports()
                | do.MeasureLink()
                | do.StandBy()
                | do.PlanSnapshots()
                | do.CompleteSnapshot()
                | do.StorePiece()
            ):
                server.sessions.send(server.driver.session_of(command.peer_id), command)


async def _plan(server: BrokerServer, command: do.SolvePlacement) -> None:
    answer = await solve_apart(command, server.blobs.path(command.spec.graph_digest))
    await server.driver.post(answer, is_own=True)


async def _advise(
    server: BrokerServer, turn: asyncio.Semaphore, command: do.RankBackups | do.ReplanJob
) -> None:
    """Answer about a started job, unless it has ended by the time that it is its turn.

    The core asks each of the two things of a job once at a time, so few wait.
    """
    async with turn:
        job = views.job(server.driver.core, command.job_id)
        if job is not None and not job.has_ended:
            answer = await solve_apart(command, server.blobs.path(command.spec.graph_digest))
            await server.driver.post(answer, is_own=True)


def _bind(server: grpc.aio.Server, address: str, credentials: grpc.ServerCredentials) -> None:
    try:
        server.add_secure_port(address, credentials)
    except RuntimeError:
        raise HomespunError(
            Code.BAD_CONFIGURATION,
            f"cannot listen on {address}: another program has the port, or the address is not "
            "this machine's",
        ) from None
