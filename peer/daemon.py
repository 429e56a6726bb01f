"""The peer daemon: drives the peer core, and owns everything that touches the world.

Order, for every event: `apply` it, carry out the commands in order. Nothing that waits is done in
the loop itself: each lease has a worker of its own, so a slow link or a long download never delays
another lease or a heartbeat.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import AsyncIterator, Coroutine, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import grpc
import msgspec
import structlog

from dag.cluster import Correction
from dag.cost import WorkSeconds
from homespun.blobs.store import BlobStore
from homespun.directory_lock import locked
from homespun.errors import Code, HomespunError
from homespun.identity import directory as identity_directory
from homespun.identity.address import join_address, outward_host, with_port
from homespun.identity.certificates import utc_now
from homespun.identity.channels import SERVER_OPTIONS, open_aio_channel, server_credentials
from homespun.identity.directory import Credentials
from homespun.identity.enrol import renew
from homespun.identity.guard import PEER_PERMISSIONS, Guard
from homespun.ids import JobId, PeerId
from homespun.v1 import session_pb2
from homespun.version import PROTOCOL_VERSION, SOFTWARE_VERSION
from peer import connection
from peer.blob_cache import BlobCache
from peer.bookkeeping import Bookkeeping
from peer.clock import MonotonicClock
from peer.core import commands as do
from peer.core import events as ev
from peer.core.machine import Peer
from peer.core.refinement import refined
from peer.devices import nvml_name
from peer.hardware import HardwareReport, remember
from peer.lease_work import LeaseWork, Surroundings
from peer.ledger import Ledger
from peer.links import Link, LinkServer
from peer.live_settings import LiveSettings
from peer.memory_watch import MemoryLimits, over_limit, private_bytes
from peer.metering import Meter, Rates
from peer.owner.sensors.machine import Machine
from peer.owner.sensors.zone import SystemZone
from peer.owner.watch import OwnerLeaves, OwnerWatch
from peer.piece_work import Pieces
from peer.probes import Probes
from peer.session import Session
from peer.session_codec import (
    availability_message,
    event_of,
    hardware_message,
    held_leases,
    held_snapshots,
    held_standbys,
    no_work_of,
    progress_of,
    report_message,
    traffic_message,
)
from peer.settings import PeerDirectory, PeerSettings
from peer.snapshots.keeper import SnapshotKeeper
from peer.standby_work import StandbyParts, Standbys
from peer.status_note import (
    clear_results,
    remove_status,
    what_is_allowed,
    what_is_held,
    write_status,
)
from peer.vitals import VitalsLog

log = structlog.get_logger(__name__)

RENEW_RETRY_S = 60.0
RENEW_LOOK_S = 60.0
"""How often to look at the clock on the wall: the loop's own stops while a laptop sleeps."""
STATUS_INTERVAL_S = 2.0
TOLD = ("name", "memory_bytes", "advertise")
"""Settings that the broker is told when a stream begins."""
SHUT_DOWN_TIMEOUT_S = 8.0


@dataclass(frozen=True, slots=True, kw_only=True)
class DaemonParts:
    """What a daemon is made of.

    Attributes:
        settings: that it starts with.
        directory: its own.
        hardware: as measured.
        overrides: fields of the settings that hold whatever is set while it runs.
    """

    settings: PeerSettings
    directory: PeerDirectory
    hardware: HardwareReport
    overrides: Mapping[str, Any] = field(default_factory=dict)


class Daemon:
    """One running peer."""

    def __init__(self, parts: DaemonParts) -> None:
        """Prepare; `run` does the work."""
        self._parts = parts
        self._credentials: Credentials = identity_directory.load(parts.directory.identity)
        self._hardware = parts.hardware
        self._is_learnt_kept = True
        self._clock = MonotonicClock()
        self._core = Peer()
        self._events: asyncio.Queue[ev.AnyEvent] = asyncio.Queue()
        self._works: dict[tuple[str, int, int], LeaseWork] = {}
        self._unloading: set[asyncio.Task[None]] = set()
        self._session = Session(self, self._broker_channel, self._renew_expired)
        self._renewing = asyncio.Lock()
        self._tensor_port = 0
        self._tensor_address = ""
        self._meter = Meter(self._rates)
        self._probes = Probes(self._peer_channel, self._meter)
        self._connection = connection.not_yet(_now_unix_ms())
        self._reached_by: set[str] = set()
        self._no_work: list[dict[str, object]] = []
        self._settings = LiveSettings(
            parts.directory, parts.settings, parts.overrides, self._settings_changed)
        self._machine = Machine(
            parts.hardware.device, parts.directory.root, own_processes=self._executor_pids,
            moved_bytes=lambda: self._books.month_bytes())
        self._books = Bookkeeping(
            Ledger(parts.directory.ledger), self._meter, SystemZone(), time.time,
            self._machine.energy_j, lambda: self._settings.current.limits.reset_day)
        self._owner = OwnerWatch(
            parts.directory, self._settings, self._core.state, self._post,
            is_connected=lambda: self._connection.is_up, is_working=lambda: bool(self._works),
            sense=self._machine.read)

    def leave(self) -> None:
        """Hand over and end, within the grace: what the first signal asks for."""
        self._owner.leave()

    async def run(self) -> None:
        """Serve until cancelled, or until the owner's wish to leave has come true.

        Raises:
            HomespunError: what trying again does not cure: a certificate that expired too long
                ago, a broker of another version; BAD_CONFIGURATION when another daemon has the
                directory.
        """
        with locked(self._parts.directory.root, "peer run"):
            clear_results(self._parts.directory)
            self._around = self._surroundings()
            self._pieces = Pieces(self._around)
            await self._books.begin()
            await self._owner.begin()
            try:
                async with self._tensor_server(), asyncio.TaskGroup() as self._work:
                    for work in (
                        self._drive(), self._owner.run(), self._owner.watch_machine(),
                        self._session.run(), self._renew_forever(), self._keep_status(),
                        self._books.run(),
                    ):
                        self._work.create_task(work)
            except* OwnerLeaves:
                log.info("left")
            finally:
                await self._shut_down()

    async def _shut_down(self) -> None:
        """End every lease's executor and links: the last thing a daemon does."""
        ends = [asyncio.create_task(work.unload()) for work in self._works.values()]
        ends.append(asyncio.create_task(self._around.standbys.close()))
        await asyncio.wait(ends, timeout=SHUT_DOWN_TIMEOUT_S)
        await self._keep_learnt()
        await self._books.write()
        remove_status(self._parts.directory)

    # --- the loop ------------------------------------------------------------------------------

    async def _drive(self) -> None:
        while True:
            event = await self._next_event()
            stamped = replace(event, at_ns=self._clock.now_ns())
            for command in self._core.apply(stamped):
                self._execute(command)

    async def _next_event(self) -> ev.AnyEvent:
        wakeup_ns = self._core.next_wakeup_ns()
        wait_s = None if wakeup_ns is None else (wakeup_ns - self._clock.now_ns()) / 1e9
        try:
            if wait_s is not None and wait_s <= 0:
                raise TimeoutError  # goes first, however many events wait
            async with asyncio.timeout(wait_s):
                return await self._events.get()
        except TimeoutError:
            return ev.TimerFired(at_ns=0)

    def _execute(self, command: do.AnyCommand) -> None:
        if isinstance(command, do.TellAvailability):
            self._session.send(session_pb2.PeerMessage(
                availability=availability_message(command.availability, command.deadline_ms)))
            return
        key = (command.job_id, command.segment, command.token)
        match command:
            case do.SendReport():
                self._session.send(report_message(command))
            case do.LoadSegment():
                self._works[key] = work = LeaseWork(command, self._around)
                work.load(after=self._unloading)
            case do.PrepareStandby():
                self._around.standbys.prepare(command)
            case do.DropStandby():
                self._begin(self._around.standbys.drop(command))
            case _:
                self._execute_for(self._works.get(key), key, command)

    def _execute_for(
        self, work: LeaseWork | None, key: tuple[str, int, int], command: do.AnyCommand
    ) -> None:
        """Carry out a command about a lease at work.

        What the core asks of a lease that has just ended here is void: its `SegmentUnloaded` is
        still on its way to the core.
        """
        if work is None:
            return
        match command:
            case do.SetMembers():
                work.set_members(command)
            case do.TakeArrival():
                work.take_arrival(command)
            case do.DropArrival():
                work.drop_arrival(command)
            case do.TakeSnapshot():
                work.take_snapshot(command)
            case do.SetHolders():
                work.set_holders(command)
            case do.ForgetBefore():
                work.forget_before(command)
            case do.FreeExecutor():
                work.free_executor()
            case do.RunTask():
                work.run_task(command)
            case do.SendAcknowledge():
                work.send_acknowledge(command)
            case do.SendNorms():
                work.send_norms(command)
            case do.SendScale():
                work.send_scale(command)
            case do.StoreResult():
                work.store_result()
            case do.UnloadSegment():
                self._begin(self._unload(key, work))

    def _begin(self, ending: Coroutine[object, object, None]) -> None:
        """Let something end beside the loop; a lease that loads waits for it."""
        end = self._work.create_task(ending)
        self._unloading.add(end)
        end.add_done_callback(self._unloading.discard)

    async def _unload(self, key: tuple[str, int, int], work: LeaseWork) -> None:
        await work.unload()
        del self._works[key]

    # --- what the session asks and tells -------------------------------------------------------

    async def register(self) -> session_pb2.Register:
        """First message of a stream."""
        self._tensor_address = await asyncio.to_thread(self._reachable_address)
        hardware = self._hardware
        return session_pb2.Register(
            protocol_version=PROTOCOL_VERSION,
            software_version=SOFTWARE_VERSION,
            name=self._settings.current.name,
            tensor_address=self._tensor_address,
            hardware=hardware_message(hardware, self._lent_bytes()),
            leases=held_leases(self._core.state),
            standbys=held_standbys(self._core.state),
            snapshots=held_snapshots(self._around.keeper.held()),
            availability=availability_message(
                self._owner.availability, self._owner.remaining_ms()),
            joins_parts=True,
        )

    def heartbeat(self) -> session_pb2.Heartbeat:
        """Sign of life."""
        now_ns = self._clock.now_ns()
        traffic = [
            traffic_message(work.job_id, peer_id, moved, goodput.get(peer_id))
            for work in self._works.values()
            for goodput in (work.goodput_reports(),)
            for peer_id, moved in work.traffic().items()
        ]
        progress = [progress_of(lease, now_ns) for lease in self._core.state.leases.values()]
        return session_pb2.Heartbeat(progress=progress, traffic=traffic)

    def on_message(self, message: session_pb2.BrokerMessage) -> None:
        """A message of the broker."""
        if message.WhichOneof("body") == "measure_link":
            self._work.create_task(self._probes.measure(message.measure_link, self._session.send))
            return
        if message.WhichOneof("body") == "store_piece":
            self._work.create_task(self._pieces.store(message.store_piece, self._session.send))
            return
        if message.WhichOneof("body") == "no_work":
            self._no_work = no_work_of(message.no_work)
            return
        event = event_of(message, at_ns=0)
        if event is not None:
            self._post(event)

    def on_connected(self) -> None:
        """The broker has said welcome."""
        self._connection = connection.up(_now_unix_ms())
        log.info("connected", broker=self._credentials.broker_address, peer_id=self._credentials.id)

    def on_disconnected(self) -> None:
        """The stream has ended."""
        self._no_work = []
        self._post(ev.BrokerDisconnected(at_ns=0))

    def on_unreachable(self, reason: str, retry_in_s: float) -> None:
        """There is no stream; the session tries again by itself."""
        self._connection = self._connection.lost(reason, retry_in_s, _now_unix_ms())

    # --- parts ---------------------------------------------------------------------------------

    def _settings_changed(self, before: PeerSettings, after: PeerSettings) -> None:
        """What the broker was told goes by a new stream; disk limits hold from now on."""
        log.info("settings_changed")
        self._cache.limit_bytes = after.cache_bytes
        self._around.keeper.allow(after.snapshot_bytes)
        if any(getattr(before, name) != getattr(after, name) for name in TOLD):
            self._session.reconnect()

    def _post(self, event: ev.AnyEvent) -> None:
        self._events.put_nowait(event)

    def _surroundings(self) -> Surroundings:
        parts = self._parts
        cache = self._cache = BlobCache(
            BlobStore(parts.directory.blobs), parts.settings.cache_bytes)
        keeper = SnapshotKeeper(
            parts.directory.snapshots, self._peer_channel,
            limit_bytes=parts.settings.snapshot_bytes, meter=self._meter)
        shared: dict[str, Any] = {
            "executor": parts.settings.executor,
            "device": self._hardware.device,
            "threads": self._hardware.threads,
            "priority": parts.settings.priority,
            "cache": cache,
            "scratch": parts.directory.results,
            "keeper": keeper,
            "broker_channel": self._broker_channel,
            "post": self._post,
            "rates": lambda: self._hardware.rates,
            "lent_bytes": self._lent_bytes,
            "broker_route": lambda job_id: self._meter.route(
                self._credentials.broker_address, job_id),
        }
        return Surroundings(
            **shared,
            peer_id=self._credentials.id,
            peer_channel=self._peer_channel,
            standbys=Standbys(StandbyParts(**shared)),
            learn=self._learn,
            vitals=VitalsLog(parts.directory.root),
            duty=lambda: self._owner.allowance.duty,
            meter=self._meter,
            book=self._books.task_done,
        )

    def _lent_bytes(self) -> int:
        """Memory of the device that the owner lends."""
        return self._settings.current.memory_bytes or self._hardware.memory_bytes

    def _watch_memory(self) -> None:
        """End the lease whose process takes more of the machine's memory than is lent."""
        limits = MemoryLimits(
            lease_bytes=self._lent_bytes() if self._hardware.device == "cpu" else 0,
            ram_bytes=self._settings.current.ram_bytes)
        works = {work.pid: work for work in self._works.values() if work.pid}
        own = private_bytes([os.getpid()])
        found = over_limit(sum(own.values()), private_bytes(works), limits)
        if found is not None:
            pid, error = found
            works[pid].give_up(error)

    def _rates(self) -> Rates:
        """The owner's, for traffic beyond the local network."""
        limits = self._settings.current.limits
        return Rates(limits.upload_bytes_per_s, limits.download_bytes_per_s)

    def _executor_pids(self) -> list[int]:
        """Ids of the processes that compute; asked for in a thread."""
        pids = [work.pid for work in list(self._works.values())]
        return [pid for pid in (*pids, self._around.standbys.pid) if pid]

    def _learn(
        self, predicted: tuple[WorkSeconds, ...], typical_s: Mapping[str, float]
    ) -> tuple[Correction, ...]:
        """Correct the rates by what a lease's tasks took; `_keep_learnt` keeps that on disk."""
        rates = self._hardware.rates
        corrections = refined(rates.corrections, predicted, typical_s)
        self._hardware = replace(
            self._hardware, rates=replace(rates, corrections=corrections),
            refined_unix_s=int(time.time()))
        self._is_learnt_kept = False
        return corrections

    async def _keep_learnt(self) -> None:
        if not self._is_learnt_kept:
            self._is_learnt_kept = True
            await asyncio.to_thread(remember, self._hardware, self._parts.directory.hardware)

    def _broker_channel(self) -> grpc.aio.Channel:
        return open_aio_channel(self._credentials, self._credentials.broker_address)

    def _peer_channel(self, address: str, peer_id: str) -> grpc.aio.Channel:
        return open_aio_channel(self._credentials, address, peer_id)

    @contextlib.asynccontextmanager
    async def _tensor_server(self) -> AsyncIterator[None]:
        """Listen for other peers."""
        guard = Guard(PEER_PERMISSIONS, self._credentials.network_id)
        server = grpc.aio.server(interceptors=(guard,), options=SERVER_OPTIONS)
        links = LinkServer(self._link_of, self._may_probe, self._meter)
        server.add_generic_rpc_handlers((links.handler(),))
        self._around.keeper.server.add_to(server)
        host, port = self._parts.settings.listen_host, self._parts.settings.listen_port
        credentials = server_credentials(self._credentials, lambda: self._credentials)
        address = join_address(host, port)
        try:
            self._tensor_port = server.add_secure_port(address, credentials)
        except RuntimeError:
            raise HomespunError(
                Code.BAD_CONFIGURATION,
                f"cannot listen on {address}: another program has the port, or the address is not "
                "this machine's",
            ) from None
        await server.start()
        log.info("listening", port=self._tensor_port)
        try:
            yield
        finally:
            await server.stop(grace=1.0)

    def _reachable_address(self) -> str:
        """Where other peers reach this one; asked for each stream, as machines change networks."""
        told = self._settings.current.advertise
        return with_port(
            told or outward_host(self._credentials.broker_address), self._tensor_port)

    def _may_probe(self, peer_id: PeerId) -> bool:
        self._reached_by.add(peer_id)
        return self._probes.may(peer_id)

    def _link_of(self, job_id: JobId, peer_id: PeerId, token: int) -> Link | None:
        """The link of the newest lease, as an older one of the same job may still be closing."""
        for work in reversed(self._works.values()):
            if work.job_id == job_id and (link := work.link_with(peer_id, token)) is not None:
                self._reached_by.add(peer_id)
                return link
        return None

    async def _renew_forever(self) -> None:
        """Replace the certificate at two thirds of its life; running streams are not touched."""
        while True:
            wait_s = (self._credentials.renew_at - utc_now()).total_seconds()
            if wait_s > 0:
                await asyncio.sleep(min(wait_s, RENEW_LOOK_S))
                continue
            try:
                await self._renew()
            except Exception as error:  # tried again; what an expired one means, the session says
                log.warning("certificate_not_renewed", reason=str(error))
                await asyncio.sleep(RENEW_RETRY_S)

    async def _renew_expired(self) -> None:
        """Before the broker is dialled: after days without it, or asleep, that needs a renewal."""
        if self._credentials.has_expired(utc_now()):
            await self._renew()

    async def _renew(self) -> None:
        """Replace the certificate, unless somebody has just done it."""
        async with self._renewing:
            if self._credentials.needs_renewal(utc_now()):
                self._credentials = await asyncio.to_thread(renew, self._parts.directory.identity)
                log.info("certificate_renewed", expires_at=str(self._credentials.expires_at))

    async def _keep_status(self) -> None:
        """Leave a note for `peer status`, which must not need the daemon's attention."""
        while True:
            status = {
                "pid": os.getpid(),
                "updated_unix_ms": _now_unix_ms(),
                "name": self._settings.current.name,
                "overrides": self._settings.overrides,
                "device": self._hardware.device_name,
                "gpu": "" if self._hardware.device == "cpu" else nvml_name(self._hardware.device),
                "executor": self._hardware.executor,
                "peer_id": self._credentials.id,
                "broker": self._credentials.broker_address,
                "connected": self._connection.is_up,
                "connection": asdict(self._connection),
                "tensor_address": self._tensor_address,
                "reached_by": sorted(self._reached_by),
                "no_work": self._no_work,
                "wish_id": self._owner.wish_id,
                **what_is_allowed(self._owner.allowance, self._owner.readings),
                "traffic": {
                    **asdict(self._meter.total), "month_bytes": self._books.month_bytes()},
                **what_is_held(
                    self._core.state, self._around.keeper.held(), self._clock.now_ns()),
            }
            await asyncio.to_thread(
                write_status, self._parts.directory, msgspec.json.encode(status)
            )
            await self._keep_learnt()
            self._around.vitals.sample()
            self._watch_memory()
            await self._owner.news(STATUS_INTERVAL_S)


def _now_unix_ms() -> int:
    return time.time_ns() // 1_000_000
