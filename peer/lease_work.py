"""What the shell does for one lease: fetch, load, feed the executor, talk to neighbours, store.

The core decides; this carries out. Everything that happens is posted to the core as an event, and
so is everything that fails: nothing here may end in silence.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import time
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import grpc
import msgspec
import structlog

from dag.cluster import Correction
from dag.cost import WorkSeconds
from homespun.errors import Code, HomespunError
from ir.graph import INFER
from ir.segment import LEAD
from peer.boundary_log import BoundaryLog
from peer.core import commands as do
from peer.core import events as ev
from peer.core.events import TaskKind
from peer.diagnosis import diagnose
from peer.executor.messages import (
    Done,
    Export,
    Exported,
    Failed,
    Loaded,
    Message,
    Restore,
    Restored,
    Run,
    SnapshotNotWritten,
    SnapshotWritten,
    TakeSnapshot,
)
from peer.executor_process import ExecutorProcess, Listener
from peer.frames import Frame, Kind, opaque_frame
from peer.lease_fetch import fetch, load_request, needed_blobs
from peer.links import Link, Traffic
from peer.metering import Meter
from peer.neighbours import Neighbours
from peer.result_upload import upload_result
from peer.snapshot_work import SnapshotWork
from peer.snapshots.keeper import Kept
from peer.standby_work import Prepared, StandbyParts, Standbys
from peer.time_sheet import PACE_TASKS, TimeSheet
from peer.vitals import VitalsLog

log = structlog.get_logger(__name__)

ANSWER_TIMEOUT_S = 3_600.0
"""Longest that an executor may take to load, to run one task or to write its result."""
NO_TENSORS = frozenset({Kind.ACKNOWLEDGE, Kind.NORMS, Kind.SCALE})
"""Frames that are the core's alone."""
REST_MAX_S = 10.0
"""Far below the time after which a neighbour calls a wait too long."""
NO_EVENT_AT = 0
"""`at_ns` of an event that the daemon has yet to stamp."""

Order = Callable[[], Awaitable[None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings(StandbyParts):
    """What a lease's work needs of the daemon, beside what standbys do.

    Attributes:
        peer_id: this peer.
        peer_channel: opens an mTLS channel to (address, peer id).
        standbys: what is prepared already.
        learn: takes what a microbatch should have taken by kind of work, and what it took by
            direction; gives the corrections that follow.
        vitals: of the machine, to diagnose failures by.
        duty: share of the time that the device may work, above 0 to 1.
        meter: counts and holds what goes between peers.
        book: takes job, operations and seconds of each task that has ended.
    """

    peer_id: str
    peer_channel: Callable[[str, str], grpc.aio.Channel]
    standbys: Standbys
    learn: Callable[[tuple[WorkSeconds, ...], Mapping[str, float]], tuple[Correction, ...]]
    vitals: VitalsLog
    duty: Callable[[], float]
    meter: Meter
    book: Callable[[str, int, float], None]


def rest_after(task_s: float, duty: float) -> float:
    """Seconds to rest after a task, so that the device works a share of the time; 0 at full duty.

    Args:
        task_s: what the task took.
        duty: the share, above 0 to 1.
    """
    return 0.0 if duty >= 1 else min(REST_MAX_S, task_s * (1 / duty - 1))


class LeaseWork:
    """One lease at work. Methods named like commands carry them out."""

    def __init__(self, command: do.LoadSegment, around: Surroundings) -> None:
        """Prepare; `load` begins."""
        self._lease: dict[str, Any] = {
            "job_id": command.job_id,
            "segment": command.segment,
            "token": command.token,
        }
        self._spec = command.spec
        self._program = command.program
        self._position, self._serial = command.position, command.serial
        self._source, self._parts = command.snapshot, command.parts
        self._around = around
        self._process: ExecutorProcess | None = None
        self._result_path = around.scratch / f"{self._name}.safetensors"
        self._state_paths: tuple[Path, ...] = ()
        """What the state of the lease's position is in; () at position 0."""
        self._neighbours = self._make_neighbours()
        self._snapshots = SnapshotWork(
            command.job_id, command.serial, around.peer_id, around.keeper, self._post,
            first_serial=command.first_serial)
        self._arrivals: dict[int, tuple[Frame, asyncio.Event]] = {}
        self._arrived = 0
        self._times = TimeSheet()
        self._predicted: tuple[WorkSeconds, ...] = ()
        self._flops: Mapping[TaskKind, int] = {}
        self._cpu_before_s = time.process_time()
        self._overdue: asyncio.TimerHandle | None = None
        self._task_s = 0.0
        self._rest: asyncio.TimerHandle | None = None
        self._is_closed = False
        self._orders: asyncio.Queue[Order] = asyncio.Queue()
        self._worker = asyncio.create_task(self._work(), name=f"lease {self.job_id}")

    @property
    def job_id(self) -> str:
        """The job."""
        return str(self._lease["job_id"])

    @property
    def pid(self) -> int:
        """Process id of the executor; 0 while there is none."""
        return 0 if self._process is None else self._process.pid

    def link_with(self, peer_id: str, token: int) -> Link | None:
        """The link to a neighbour's lease, for the server that its stream arrives at."""
        return self._neighbours.link_with(peer_id, token)

    def traffic(self) -> dict[str, Traffic]:
        """Payload bytes by neighbour, so far."""
        return self._neighbours.traffic()

    def goodput_reports(self) -> dict[str, float]:
        """Bandwidth of what was sent, by neighbour, where there is news of it."""
        return self._neighbours.goodput_reports()

    # --- commands ------------------------------------------------------------------------------

    def load(self, after: Collection[asyncio.Task[None]] = ()) -> None:
        """Fetch the segment's blobs, start an executor, load.

        Args:
            after: ends of other leases, whose memory must be free first.
        """
        self._order(self._load, tuple(after))

    def set_members(self, command: do.SetMembers) -> None:
        """Link with who holds the neighbouring segments now. Not queued: they may dial at once."""
        try:
            self._neighbours.set_members(command.members)
        except HomespunError as error:
            self._break(error)

    def take_arrival(self, command: do.TakeArrival) -> None:
        """Give the executor what has arrived, before any task that is ordered later."""
        self._order(self._take, command.arrival)

    def drop_arrival(self, command: do.DropArrival) -> None:
        """Forget what has arrived, and let its link go on."""
        known = self._arrivals.pop(command.arrival, None)
        if known is not None:
            known[1].set()

    def take_snapshot(self, command: do.TakeSnapshot) -> None:
        """Have the executor copy its state before the next task."""
        self._order(self._take_snapshot, command.position)

    def set_holders(self, command: do.SetHolders) -> None:
        """Who gets snapshots."""
        self._snapshots.set_holders(command)

    def forget_before(self, command: do.ForgetBefore) -> None:
        """The complete position has moved on."""
        self._neighbours.forget_before(command.position)
        self._snapshots.forget_before(command.position)

    def free_executor(self) -> None:
        """The result is stored: only links and log are needed any more."""
        process, self._process = self._process, None
        if process is not None:
            self._ending = asyncio.create_task(process.close())

    def give_up(self, error: HomespunError) -> None:
        """The daemon ends the lease: its process broke a limit."""
        self._break(error)

    def run_task(self, command: do.RunTask) -> None:
        """Hand a task to the executor; the answer comes as a message.

        Where the device may work only a part of the time, it rests first, in proportion to what the
        last task took. What is to be sent meanwhile does not wait for that.
        """
        rest_s = rest_after(self._task_s, self._around.duty())
        if rest_s == 0:
            self._order(self._run_task, command)
        else:
            self._rest = asyncio.get_running_loop().call_later(
                rest_s, self._order, self._run_task, command)

    def send_acknowledge(self, command: do.SendAcknowledge) -> None:
        """Tell a producer that its activation was used."""
        tensor = next(t for t in self._program.incoming if t.edge == command.edge)
        frame = opaque_frame(
            Kind.ACKNOWLEDGE,
            mode=command.mode,
            edge=command.edge,
            source=self._program.index,
            target=tensor.source,
            step=command.step,
            microbatch=command.microbatch,
        )
        self._order(self._send, frame)

    def send_norms(self, command: do.SendNorms) -> None:
        """Send squared norms to the lead."""
        self._send_numbers(Kind.NORMS, LEAD, command.step, command.squared_norms)

    def send_scale(self, command: do.SendScale) -> None:
        """Send a gradient factor to another segment."""
        self._send_numbers(Kind.SCALE, command.target, command.step, command.scale)

    def store_result(self) -> None:
        """Have the executor finish the result file; `Exported` goes on from there."""
        self._order(self._export)

    async def unload(self) -> None:
        """End the executor, close links and log. Not queued: it overtakes what waits.

        A lease ends when nobody needs what it sent, or somebody else sends it again. May be called
        again, after the first call was cancelled.
        """
        self._is_closed = True
        self._answered()
        if self._rest is not None:
            self._rest.cancel()
        self._worker.cancel()
        await asyncio.wait((self._worker,))
        self._log_summary()
        self._learn()
        try:
            async with asyncio.TaskGroup() as ends:
                if self._process is not None:
                    ends.create_task(self._process.close())
                ends.create_task(self._neighbours.close())
                ends.create_task(self._snapshots.close())
        except* Exception:  # the lease ends all the same
            log.exception("unload_failed", **self._lease)
        with contextlib.suppress(OSError):
            self._result_path.unlink(missing_ok=True)
        self._around.cache.release(self._key)
        self._post(ev.SegmentUnloaded)

    # --- their work, one after the other -------------------------------------------------------

    def _order(self, work: Callable[..., Awaitable[None]], *args: Any) -> None:
        self._orders.put_nowait(functools.partial(work, *args))

    async def _work(self) -> None:
        """Carry out what is ordered; the first failure ends the lease."""
        try:
            while True:
                await (await self._orders.get())()
        except HomespunError as error:
            self._break(error)
        except Exception as error:  # a defect must not become a silent stall
            log.exception("lease_failed", **self._lease)
            self._break(HomespunError(Code.INTERNAL, f"on {self._me}: {error!r}"))

    async def _load(self, after: Collection[asyncio.Task[None]]) -> None:
        if after:
            await asyncio.wait(after)
        around = self._around
        blobs = needed_blobs(self._spec, self._program)
        around.cache.hold(self._key, blobs)
        prepared = await around.standbys.take(self.job_id, self._program)
        around.standbys.release(self.job_id, self._program.index)
        self._process = await self._executor(prepared)
        route = await around.broker_route(self.job_id)
        try:
            async with asyncio.TaskGroup() as group:
                state = group.create_task(self._fetch_state())
                group.create_task(fetch(blobs, around.cache, around.broker_channel, route))
        except* HomespunError as failures:
            raise failures.exceptions[0] from None
        self._state_paths = state.result()
        if prepared is not None and prepared.loaded is not None:
            assert prepared.result_path is not None
            self._result_path = prepared.result_path
            await self._loaded(prepared.loaded)
            return
        await asyncio.to_thread(around.scratch.mkdir, parents=True, exist_ok=True)
        await self._ask(
            load_request(
                self._spec, self._program, around.cache, self._result_path, around.rates()))

    async def _executor(self, prepared: Prepared | None) -> ExecutorProcess:
        """A standby's process, or a new one."""
        listener = Listener(
            on_frame=self._on_output, on_message=self._on_message, on_exit=self._on_exit)
        if prepared is not None:
            prepared.process.listen(listener)
            return prepared.process
        return await self._around.start_process(listener)

    async def _fetch_state(self) -> tuple[Path, ...]:
        """Have the snapshots that the lease begins with on this disk, one after the other."""
        keeper = self._around.keeper
        if self._source is None:
            return tuple([
                await keeper.fetch(self.job_id, part.serial, self._position, part.source)
                for part in self._parts])
        path = await keeper.fetch(self.job_id, self._serial, self._position, self._source)
        self._snapshots.begin_with(Kept(
            self.job_id, self._serial, self._position, self._source.digest,
            self._source.size_bytes))
        return (path,)

    async def _loaded(self, message: Loaded) -> None:
        """The segment is compiled; at a later position its state comes from snapshots."""
        self._predicted = message.predicted
        self._flops = {
            TaskKind.FORWARD: message.forward_flops, TaskKind.BACKWARD: message.backward_flops}
        if not self._state_paths:
            self._post(ev.SegmentLoaded)
            return
        paths = tuple(str(path) for path in self._state_paths)
        is_own = self._source is not None
        await self._ask(Restore(
            path=paths[0] if is_own else "", position=self._position,
            parts=() if is_own else paths))

    async def _take(self, arrival: int) -> None:
        frame, taken = self._arrivals.pop(arrival)
        if frame.kind not in NO_TENSORS and self._process is not None:
            await self._process.send_frame(frame)
        taken.set()

    async def _take_snapshot(self, position: int) -> None:
        if self._process is not None:
            await self._process.send_message(
                TakeSnapshot(path=self._snapshots.path(position), position=position))

    async def _run_task(self, command: do.RunTask) -> None:
        self._times.begin(command.task.kind, time.perf_counter())
        await self._ask(Run(task=command.task))

    async def _export(self) -> None:
        await self._ask(Export())

    async def _upload_result(self) -> None:
        around, path = self._around, self._result_path
        route = await around.broker_route(self.job_id)
        digest = await upload_result(path, self.job_id, around.broker_channel, route)
        self._post(
            ev.ResultStored, digest=digest, size_bytes=path.stat().st_size,
            corrections=self._learn())

    async def _send(self, frame: Frame) -> None:
        """Send a frame to the holder of its target segment, whoever that is."""
        await self._neighbours.send(frame)

    def _send_numbers(self, kind: Kind, target: int, step: int, numbers: object) -> None:
        payload = msgspec.msgpack.encode(numbers)
        frame = opaque_frame(kind, payload, source=self._program.index, target=target, step=step)
        self._order(self._send, frame)

    # --- what comes from the executor ----------------------------------------------------------

    async def _ask(self, message: Message) -> None:
        """Ask the executor for something; an answer that never comes ends the lease."""
        assert self._process is not None, "ordered before it was loaded"
        self._overdue = asyncio.get_running_loop().call_later(ANSWER_TIMEOUT_S, self._too_late)
        await self._process.send_message(message)

    def _answered(self) -> None:
        if self._overdue is not None:
            self._overdue.cancel()

    def _too_late(self) -> None:
        text = f"the executor on {self._me} gave no answer for {ANSWER_TIMEOUT_S:.0f} s"
        self._break(HomespunError(Code.STALLED, text))

    async def _on_output(self, frame: Frame) -> None:
        await self._send(frame)

    async def _on_message(self, message: Message) -> None:
        if not isinstance(message, SnapshotWritten | SnapshotNotWritten):
            self._answered()
        match message:
            case Loaded():
                self._order(self._loaded, message)
            case Restored():
                self._post(ev.SegmentLoaded)
            case SnapshotWritten():
                self._snapshots.written(message)
            case SnapshotNotWritten():
                self._post(
                    ev.SnapshotFailed, position=message.position, code=message.code,
                    message=message.message)
            case Done():
                self._count(message)
                self._post(
                    ev.TaskFinished,
                    task=message.task,
                    loss=None if message.loss is None else float.fromhex(message.loss),
                    has_deferred=message.has_deferred,
                    squared_norms=tuple(
                        (name, float.fromhex(value))
                        for name, value in zip(
                            message.norm_names, message.norm_values, strict=True
                        )
                    ),
                )
            case Failed():
                text = f"{message.message} (segment {self._program.index} on {self._me})"
                self._break(HomespunError(Code(message.code), text), self._blamed(message))
            case Exported():
                self._order(self._upload_result)
            case _:
                self._break(HomespunError(Code.INTERNAL, f"the executor sent a {type(message)}"))

    async def _on_exit(self, reason: str) -> None:
        self._break(HomespunError(Code.EXECUTOR_DIED, f"{reason} (on {self._me})"))

    # --- what comes from neighbours ------------------------------------------------------------

    async def _on_frame(self, frame: Frame) -> None:
        """A frame that the routes have accepted, in order.

        Waits until the core has judged it, so that a link brings nothing more before. What is here
        stays when the link goes.
        """
        event_class, fields = self._arrival_of(frame)
        self._arrived += 1
        judged = asyncio.Event()
        self._arrivals[self._arrived] = frame, judged
        self._post(event_class, arrival=self._arrived, step=frame.step, **fields)
        await judged.wait()

    def _arrival_of(self, frame: Frame) -> tuple[type[ev.SegmentEvent], dict[str, Any]]:
        """The event that a frame is, and what it says."""
        match frame.kind:
            case Kind.NORMS:
                norms = self._numbers(frame, tuple[tuple[str, float], ...])
                return ev.NormsReceived, {"source": frame.source, "squared_norms": norms}
            case Kind.SCALE:
                return ev.ScaleReceived, {"scale": self._numbers(frame, float)}
        return ev.TensorReceived, {
            "kind": ev.TensorKind(frame.kind.value), "edge": frame.edge, "mode": frame.mode,
            "microbatch": frame.microbatch}

    def _on_lost(self, member: ev.Member, error: HomespunError) -> None:
        """A neighbour cannot be reached or served: the broker finds another holder."""
        if not self._is_closed:
            self._post(
                ev.NeighbourLost, neighbour=member.segment, peer_id=member.peer_id,
                code=str(error.code), message=error.message)

    def _on_broken(self, peer_id: str, error: HomespunError) -> None:
        text = f"the link from {self._me} to {peer_id} broke: {error.message}"
        self._break(HomespunError(error.code, text), blamed_peer=peer_id)

    # --- parts ---------------------------------------------------------------------------------

    def _count(self, done: Done) -> None:
        now_s = time.perf_counter()
        self._task_s = done.compute_s
        self._around.book(self.job_id, self._flops.get(done.task.kind, 0), done.compute_s)
        if self._times.end(done.task.kind, done.compute_s, done.cpu_s, now_s):
            self._cpu_before_s = time.process_time()
        pace_s = self._times.pace_s(
            now_s, is_training=self._spec.kind != INFER, duty=self._around.duty())
        if pace_s is not None:
            self._post(ev.PaceMeasured, microbatch_s=pace_s, microbatches=PACE_TASKS)

    def _learn(self) -> tuple[Correction, ...]:
        """Compare what tasks took with what they should have taken; once for each lease."""
        predicted, self._predicted = self._predicted, ()
        typical_s = self._times.typical_s()
        return self._around.learn(predicted, typical_s) if predicted and typical_s else ()

    def _log_summary(self) -> None:
        """Say once where the time went, in the daemon's log."""
        log.info(
            "lease_summary",
            **self._lease,
            **self._times.summary(),
            daemon_cpu_s=round(time.process_time() - self._cpu_before_s, 3),
            sent_bytes=sum(moved.sent_bytes for moved in self.traffic().values()),
            received_bytes=sum(moved.received_bytes for moved in self.traffic().values()),
        )

    @property
    def _me(self) -> str:
        return self._around.peer_id

    @property
    def _key(self) -> tuple[Any, ...]:
        return tuple(self._lease.values())

    def _numbers(self, frame: Frame, kind: Any) -> Any:
        try:
            return msgspec.msgpack.decode(frame.payload, type=kind)
        except msgspec.DecodeError as error:
            raise HomespunError(
                Code.INVALID_ARGUMENT, f"a {frame.title()} is unreadable: {error}"
            ) from error

    @property
    def _name(self) -> str:
        """Of the lease's files."""
        return f"{self.job_id}-{self._program.index}-{self._lease['token']}"

    def _make_neighbours(self) -> Neighbours:
        return Neighbours(
            self.job_id,
            self._me,
            self._program,
            int(self._lease["token"]),
            with_lead=self._spec.training.clip_norm > 0,
            open_channel=self._around.peer_channel,
            on_frame=self._on_frame,
            on_lost=self._on_lost,
            on_broken=self._on_broken,
            log=BoundaryLog(self._around.scratch / f"{self._name}.log", self._position),
            meter=self._around.meter,
        )

    def _blamed(self, message: Failed) -> str:
        """The peer whose segment a failed task blames; "" for none."""
        return self._neighbours.holder_of(message.blamed_segment)

    def _break(self, error: HomespunError, blamed_peer: str = "") -> None:
        if not self._is_closed:
            status = None if self._process is None else self._process.exit_status
            found = diagnose(self._around.vitals.facts(
                error, blamed_peer=blamed_peer, exit_status=status))
            log.warning("segment_broke", **self._lease, code=str(error.code), **asdict(found))
            self._post(
                ev.SegmentBroke,
                code=str(error.code),
                message=error.message,
                blamed_peer=blamed_peer,
                cause=str(found.cause),
                evidence=found.evidence,
                remedy=found.remedy,
            )

    def _post(self, event_class: type[ev.SegmentEvent], **fields: Any) -> None:
        event: Any = event_class(at_ns=NO_EVENT_AT, **self._lease, **fields)
        self._around.post(event)
