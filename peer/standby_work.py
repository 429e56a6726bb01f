"""What this peer prepares for the segments that it stands by for.

`store` is a permission: the segment's holder may put snapshots here. `warm` adds the blobs and an
executor process that has its framework loaded; `hot` has the segment compiled in it. One process
serves all standbys of a daemon, so at most one is hot: a home machine must not carry more.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import grpc
import structlog

from dag.cluster import PeerRates
from dag.job import JobSpec
from homespun.errors import Code, HomespunError
from ir.graph import INFER
from ir.segment import Segment
from peer.blob_cache import BlobCache
from peer.core import commands as do
from peer.core import events as ev
from peer.executor.messages import Failed, Loaded, Message, Unload
from peer.executor_process import ExecutorProcess, Listener
from peer.frames import Frame
from peer.lease_fetch import fetch, load_request, needed_blobs
from peer.metering import Route
from peer.priority import Priority
from peer.snapshots.keeper import SnapshotKeeper

log = structlog.get_logger(__name__)

LOAD_TIMEOUT_S = 600.0

Key = tuple[str, int]
"""(job, segment)"""


@dataclass(frozen=True, slots=True, kw_only=True)
class StandbyParts:
    """What standbys need of the daemon.

    Attributes:
        executor, device, threads: what segments run on.
        priority: of the processes that compute.
        cache: the local cache of blobs.
        scratch: folder for results on their way out.
        keeper: of snapshots.
        broker_channel: opens an mTLS channel to the broker.
        post: queues an event for the core.
        rates: the device's, as known now.
        lent_bytes: of the device's memory, to each process that computes.
        broker_route: the way to the broker for a job's bytes, metered.
    """

    executor: str
    device: str
    threads: int
    priority: Priority
    cache: BlobCache
    scratch: Path
    keeper: SnapshotKeeper
    broker_channel: Callable[[], grpc.aio.Channel]
    post: Callable[[ev.AnyEvent], None]
    rates: Callable[[], PeerRates]
    lent_bytes: Callable[[], int]
    broker_route: Callable[[str], Awaitable[Route]]

    async def start_process(self, listener: Listener) -> ExecutorProcess:
        """A new process that computes, with what the owner lends now.

        Raises:
            HomespunError: EXECUTOR_DIED, the system starts no process.
        """
        return await ExecutorProcess.start(
            self.executor, self.device, self.threads, listener, self.lent_bytes(), self.priority)


@dataclass(frozen=True, slots=True)
class Hot:
    """What a process has compiled: a job that is cut anew has other segments of the same number."""

    job_id: str
    program: Segment

    @property
    def key(self) -> Key:
        """Of the standby that wanted it."""
        return self.job_id, self.program.index


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """A process that a lease takes over.

    Attributes:
        process: running.
        loaded: what it said when it had compiled the segment; None if it has not.
        result_path: where it writes the result, if it has.
    """

    process: ExecutorProcess
    loaded: Loaded | None
    result_path: Path | None


class Standbys:
    """All standbys of a daemon. Use it in one event loop."""

    def __init__(self, parts: StandbyParts) -> None:
        """Prepare nothing yet."""
        self._parts = parts
        self._commands: dict[Key, do.PrepareStandby] = {}
        self._tasks: dict[Key, asyncio.Task[None]] = {}
        self._process: ExecutorProcess | None = None
        self._hot: Hot | None = None
        """What the process was told to load; `_loaded` is its answer."""
        self._loaded: asyncio.Future[Loaded] | None = None
        self._result_path: Path | None = None
        self._turn = asyncio.Lock()
        """Of whoever starts, loads or ends the process."""

    @property
    def pid(self) -> int:
        """Process id of the executor that is prepared; 0 while there is none."""
        return 0 if self._process is None else self._process.pid

    def prepare(self, command: do.PrepareStandby) -> None:
        """Get ready, as far as the command says; answers are posted."""
        key = command.job_id, command.segment
        before = self._cancel(key)
        self._unpermit(key)  # another cut's segment of that number is filed elsewhere
        self._commands[key] = command
        self._parts.keeper.permit(
            command.job_id, command.serial, command.source,
            bytes_max(command.spec, command.program), command.first_serial)
        self._tasks[key] = asyncio.create_task(
            self._prepare(key, command, before),
            name=f"standby {command.job_id} {command.segment}")

    async def drop(self, command: do.DropStandby) -> None:
        """End a standby; the process goes with the last one that wanted it."""
        key = command.job_id, command.segment
        if key in self._commands and self._commands[key].token > command.token:
            return
        await self._forget(key)
        self._parts.cache.release(_holder(key))
        async with self._turn:
            if self._hot is not None and self._hot.key == key:
                await self._unload()
            await self._fit_process()

    async def take(self, job_id: str, program: Segment) -> Prepared | None:
        """Give what is prepared to the lease that takes the segment over; None for nothing.

        The process is given to any segment, as starting one takes seconds. What it has compiled is
        of use to one only, and goes when another is loaded. The blobs stay until `release`.
        """
        key = job_id, program.index
        async with self._turn:
            await self._forget(key)
            loaded = await self._answer()
            if self._process is None:
                return None
            prepared = Prepared(
                process=self._process,
                loaded=loaded if self._hot == Hot(job_id, program) else None,
                result_path=self._result_path)
            self._process = self._hot = self._loaded = self._result_path = None
            self._fall_back("its executor process runs a segment now")
            return prepared

    def release(self, job_id: str, segment: int) -> None:
        """The lease that took a standby over has blobs of its own in hold."""
        self._parts.cache.release(_holder((job_id, segment)))

    async def close(self) -> None:
        """End everything."""
        for key in list(self._commands):
            await self._forget(key)
        async with self._turn:
            await self._end_process()

    # --- preparing -----------------------------------------------------------------------------

    async def _prepare(
        self, key: Key, command: do.PrepareStandby, before: asyncio.Task[None] | None
    ) -> None:
        if before is not None:
            await asyncio.wait((before,))
        try:
            self._reached(command, ev.StandbyLevel.STORE)
            if command.level is ev.StandbyLevel.STORE:
                async with self._turn:
                    await self._fit_process()  # it may have been the last that wanted one
                return
            await self._warm_up(key, command)
            self._reached(command, ev.StandbyLevel.WARM)
            if command.level is ev.StandbyLevel.HOT and await self._heat(command):
                self._reached(command, ev.StandbyLevel.HOT)
        except HomespunError as error:
            self._broke(command, error)
        except Exception as error:  # a defect must not become a silent gap
            log.exception("standby_failed", job_id=command.job_id, segment=command.segment)
            self._broke(command, HomespunError(Code.INTERNAL, repr(error)))

    async def _warm_up(self, key: Key, command: do.PrepareStandby) -> None:
        parts = self._parts
        blobs = needed_blobs(command.spec, command.program)
        parts.cache.hold(_holder(key), blobs)
        route = await parts.broker_route(command.job_id)
        await fetch(blobs, parts.cache, parts.broker_channel, route)
        await self._have_process()

    async def _have_process(self) -> None:
        """Have a process with its framework loaded; another one, if a lease takes it meanwhile."""
        process = None
        while process is None or process is not self._process:
            async with self._turn:
                await self._fit_process()
                process = self._process
            if process is None:
                return  # nobody wants one any more
            try:
                await process.started()
            except HomespunError:
                if self._process in (None, process):
                    raise

    async def _heat(self, command: do.PrepareStandby) -> bool:
        """Compile the segment; False if another is compiled, or nothing is gained by it."""
        if command.spec.kind == INFER:
            return False
        wanted = Hot(command.job_id, command.program)
        async with self._turn:
            if self._hot != wanted and self._is_hot_still_wanted():
                log.info("standby_stays_warm", **_of(command))
                return False
            if self._hot != wanted:
                await self._answer()
                await self._load(command)
        try:
            await self._outcome()
        except HomespunError:
            async with self._turn:
                if self._hot == wanted:
                    await self._end_process()
                    await self._fit_process()
            raise
        return True

    def _is_hot_still_wanted(self) -> bool:
        now = None if self._hot is None else self._commands.get(self._hot.key)
        return self._hot is not None and now is not None and (
            now.level is ev.StandbyLevel.HOT and now.program == self._hot.program)

    async def _load(self, command: do.PrepareStandby) -> None:
        parts = self._parts
        await self._fit_process()
        assert self._process is not None
        path = parts.scratch / f"{command.job_id}-{command.segment}-{command.token}.safetensors"
        await asyncio.to_thread(parts.scratch.mkdir, parents=True, exist_ok=True)
        request = load_request(command.spec, command.program, parts.cache, path, parts.rates())
        self._hot, self._result_path = Hot(command.job_id, command.program), path
        self._loaded = asyncio.get_running_loop().create_future()
        await self._process.send_message(request)

    async def _answer(self) -> Loaded | None:
        """What the process is asked, if anything, is over: only then it may be asked anew."""
        if self._loaded is None:
            return None
        with contextlib.suppress(HomespunError):
            return await self._outcome()
        return None

    async def _unload(self) -> None:
        """Let the process drop what it has compiled, and keep its framework. With the turn only."""
        await self._answer()
        self._hot = self._loaded = self._result_path = None
        if self._process is not None:
            await self._process.send_message(Unload())

    async def _outcome(self) -> Loaded:
        """What the process says when it has compiled its segment.

        Raises:
            HomespunError: why it has not.
        """
        loaded = self._loaded
        assert loaded is not None
        await asyncio.wait((loaded,), timeout=LOAD_TIMEOUT_S)
        if loaded.cancelled():
            raise HomespunError(Code.EXECUTOR_DIED, "its executor process was ended")
        if not loaded.done():
            raise HomespunError(
                Code.TIMED_OUT, f"the segment was not compiled within {LOAD_TIMEOUT_S:.0f} s")
        return loaded.result()

    async def _fit_process(self) -> None:
        """Have a process exactly if some standby wants one. With the turn only."""
        is_wanted = any(
            command.level is not ev.StandbyLevel.STORE for command in self._commands.values())
        if not is_wanted:
            await self._end_process()
        elif self._process is None:
            self._process = await self._parts.start_process(Listener(
                on_frame=_no_frame, on_message=self._on_message, on_exit=self._on_exit))

    async def _end_process(self) -> None:
        process, self._process = self._process, None
        if self._loaded is not None and not self._loaded.done():
            self._loaded.cancel()
        self._hot = self._loaded = self._result_path = None
        if process is not None:
            await process.close()

    # --- what comes from the process -----------------------------------------------------------

    async def _on_message(self, message: Message) -> None:
        if self._loaded is None or self._loaded.done():
            return
        if isinstance(message, Loaded):
            self._loaded.set_result(message)
        elif isinstance(message, Failed):
            self._loaded.set_exception(HomespunError(Code(message.code), message.message))

    async def _on_exit(self, reason: str) -> None:
        """The process has ended by itself: everybody who counted on it is only a keeper now."""
        self._process = None
        if self._loaded is not None and not self._loaded.done():
            self._loaded.set_exception(HomespunError(Code.EXECUTOR_DIED, reason))
        self._hot = None
        self._fall_back(reason)

    def _fall_back(self, reason: str) -> None:
        """Tell that those who had come further are keepers only."""
        for key, command in list(self._commands.items()):
            if command.level is not ev.StandbyLevel.STORE and self._tasks[key].done():
                self._commands[key] = replace(command, level=ev.StandbyLevel.STORE)
                self._broke(command, HomespunError(Code.EXECUTOR_DIED, reason))

    # --- parts ---------------------------------------------------------------------------------

    def _cancel(self, key: Key) -> asyncio.Task[None] | None:
        task = self._tasks.pop(key, None)
        if task is not None:
            task.cancel()
        return task

    def _unpermit(self, key: Key) -> None:
        """Nobody may put snapshots of a standby's segment here any more."""
        known = self._commands.get(key)
        if known is not None:
            self._parts.keeper.revoke(known.job_id, known.serial)

    async def _forget(self, key: Key) -> None:
        """Nothing is prepared for a segment any more, when this returns."""
        self._unpermit(key)
        self._commands.pop(key, None)
        task = self._cancel(key)
        if task is not None:
            await asyncio.wait((task,))

    def _reached(self, command: do.PrepareStandby, level: ev.StandbyLevel) -> None:
        self._parts.post(ev.StandbyPrepared(at_ns=0, **_of(command), level=level))

    def _broke(self, command: do.PrepareStandby, error: HomespunError) -> None:
        log.warning("standby_broke", **_of(command), reason=error.message)
        self._parts.post(ev.StandbyBroke(
            at_ns=0, **_of(command), code=str(error.code), message=error.message))


def bytes_max(spec: JobSpec, program: Segment) -> int:
    """Most bytes of a segment's snapshot, headers and predicted rows included.

    An optimizer keeps at most two more values for each parameter, in float32 where they are
    narrower.
    """
    own = frozenset(program.parameters)
    sizes = [ref.type.size_bytes for ref in spec.parameters if ref.name in own]
    rows = sum(spec.flow * result.type.size_bytes for result in program.results) if (
        spec.kind == INFER) else 0
    return 8 * sum(sizes) + 8_192 * len(sizes) + rows + (1 << 20)


def _of(command: do.Command) -> dict[str, Any]:
    return {"job_id": command.job_id, "segment": command.segment, "token": command.token}


def _holder(key: Key) -> tuple[str, str, int]:
    return ("standby", *key)


async def _no_frame(frame: Frame) -> None:
    """A process that computes nothing gives no tensors."""
