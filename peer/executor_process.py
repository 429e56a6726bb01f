"""The daemon's side of an executor process: start it, feed it, read it, end it.

A device fault or an out-of-memory kill ends the child, never the daemon: heartbeats go on and the
broker learns which segment is gone and why.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import os
import sys
from collections.abc import Awaitable, Callable

import structlog

from homespun.errors import Code, HomespunError
from peer.devices import device_memory_bytes
from peer.executor.messages import Message, Started, decode
from peer.executor.pipe import PAYLOAD_BYTES_MAX, control_frame, header_bytes
from peer.frames import FIXED_BYTES, Frame, Kind, decode_header, encode_header
from peer.priority import Priority

log = structlog.get_logger(__name__)

SEND_QUEUE_FRAMES = 64
EXIT_TIMEOUT_S = 5.0
START_TIMEOUT_S = 600.0
"""Longest that loading a framework may take; a busy machine with a cold disk needs minutes."""

OnFrame = Callable[[Frame], Awaitable[None]]
OnMessage = Callable[[Message], Awaitable[None]]
OnExit = Callable[[str], Awaitable[None]]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Listener:
    """Who is told of what a child gives.

    Attributes:
        on_frame: called with each tensor; awaited, so that a slow link slows the child down and
            nothing piles up.
        on_message: called with each message.
        on_exit: called once if the child ends by itself, with the reason.
    """

    on_frame: OnFrame
    on_message: OnMessage
    on_exit: OnExit


class ExecutorProcess:
    """One child process. Frames go in and come out in order.

    Args of `start`:
        executor, device, threads: what to run on.
        listener: who is told; `listen` replaces it.
    """

    def __init__(self, process: asyncio.subprocess.Process, listener: Listener) -> None:
        self._process = process
        self._listener = listener
        self._queue: asyncio.Queue[Frame] = asyncio.Queue(SEND_QUEUE_FRAMES)
        self._tasks: list[asyncio.Task[None]] = []
        self._started: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._started.add_done_callback(_look_at)
        self._is_closing = False
        self._is_given_up = False
        self._reason = ""

    @classmethod
    async def start(
        cls,
        executor: str,
        device: str,
        threads: int,
        listener: Listener,
        memory_bytes: int = 0,
        priority: Priority = Priority.NORMAL,
    ) -> ExecutorProcess:
        """Start a child and its reader and writer.

        Args:
            executor: a name of `peer.executor.installed.NAMES`.
            device: `cpu` or `cuda:N`.
            threads: for computing.
            listener: takes what it says.
            memory_bytes: of a GPU that it may take at most, kept by the framework's allocator; 0
                for all of it.
            priority: of the child among the machine's other programs.

        Raises:
            HomespunError: EXECUTOR_DIED, the system starts no process.
        """
        command = [
            # -P: the folder that the daemon was started in must not hide our packages.
            sys.executable, "-P", "-m", "peer.executor.child",
            "--executor", executor, "--device", device, "--threads", str(threads),
            "--memory-bytes", str(memory_bytes), "--priority", priority,
        ]
        try:
            process = await asyncio.create_subprocess_exec(
                *command,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                env=_environment(executor, device, threads, memory_bytes),
            )
        except OSError as error:
            raise HomespunError(
                Code.EXECUTOR_DIED, f"no executor process could be started: {error}") from error
        self = cls(process, listener)
        self._tasks = [
            asyncio.create_task(self._read()),
            asyncio.create_task(self._write()),
        ]
        return self

    def listen(self, listener: Listener) -> None:
        """Tell somebody else from now on: a lease takes over what a standby has prepared."""
        self._listener = listener

    async def started(self) -> None:
        """Wait until the child has its framework loaded.

        Raises:
            HomespunError: why it could not be loaded; EXECUTOR_DIED, the child is gone; TIMED_OUT.
        """
        await asyncio.wait((self._started,), timeout=START_TIMEOUT_S)
        if not self._started.done():
            raise HomespunError(
                Code.TIMED_OUT, f"the framework was not loaded within {START_TIMEOUT_S:.0f} s")
        self._started.result()

    @property
    def pid(self) -> int:
        """Process id of the child."""
        return self._process.pid

    @property
    def exit_status(self) -> int | None:
        """How the child ended: minus a signal's number on POSIX.

        None while it lives, and if it was ended because it was not understood.
        """
        return None if self._is_given_up else self._process.returncode

    async def send_message(self, message: Message) -> None:
        """Send a message after everything sent before; waits while the child is far behind."""
        await self._queue.put(control_frame(message))

    async def send_frame(self, frame: Frame) -> None:
        """Send a tensor after everything sent before; waits while the child is far behind."""
        await self._queue.put(frame)

    async def close(self) -> None:
        """End the child and wait until its memory is free, at most a few seconds."""
        self._is_closing = True
        self._start_failed(Code.EXECUTOR_DIED, "its executor process was ended")
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._process.wait(), EXIT_TIMEOUT_S)
        current = asyncio.current_task()
        for task in self._tasks:
            if task is not current:
                task.cancel()
        await asyncio.gather(
            *(task for task in self._tasks if task is not current), return_exceptions=True
        )

    async def _write(self) -> None:
        stream = self._process.stdin
        assert stream is not None
        try:
            while True:
                frame = await self._queue.get()
                stream.write(encode_header(frame))
                if frame.payload:
                    stream.write(frame.payload)
                await stream.drain()
        except ConnectionError:
            pass  # the child has ended: the reader learns how
        except Exception as error:  # a defect must not become a silent stall
            self._give_up(f"writing to the executor failed: {error!r}")

    async def _read(self) -> None:
        try:
            while True:
                frame, payload = await self._read_frame()
                if frame.kind is Kind.CONTROL:
                    await self._take(decode(payload))
                else:
                    await self._listener.on_frame(dataclasses.replace(frame, payload=payload))
        except asyncio.IncompleteReadError:
            self._reason = self._reason or (
                f"the executor process ended with status {await self._status()}")
        except HomespunError as error:
            self._give_up(error.message)
        except Exception as error:  # a defect must not become a silent stall
            log.exception("executor_output", pid=self.pid)
            self._give_up(f"reading from the executor failed: {error!r}")
        self._start_failed(Code.EXECUTOR_DIED, self._reason)
        if not self._is_closing:
            log.error("executor_died", pid=self.pid, reason=self._reason)
            await self._listener.on_exit(self._reason)

    async def _take(self, message: Message) -> None:
        if not isinstance(message, Started):
            await self._listener.on_message(message)
        elif message.code:
            self._start_failed(Code(message.code), message.message)
        elif not self._started.done():
            self._started.set_result(None)

    def _start_failed(self, code: Code, reason: str) -> None:
        if not self._started.done():
            self._started.set_exception(HomespunError(code, reason))

    async def _status(self) -> int:
        """The exit status of a child that has closed its output."""
        try:
            return await asyncio.wait_for(self._process.wait(), EXIT_TIMEOUT_S)
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
            return await self._process.wait()

    def _give_up(self, reason: str) -> None:
        """The two sides no longer understand each other: end the child, and let that be said."""
        self._reason, self._is_given_up = reason, True
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()

    async def _read_frame(self) -> tuple[Frame, bytes]:
        stream = self._process.stdout
        assert stream is not None
        fixed = await stream.readexactly(FIXED_BYTES)
        header = fixed + await stream.readexactly(header_bytes(fixed) - FIXED_BYTES)
        frame, _ = decode_header(header, PAYLOAD_BYTES_MAX)
        return frame, await stream.readexactly(frame.payload_bytes)


def _look_at(future: asyncio.Future[None]) -> None:
    """That nobody waited for a start is no reason for a warning."""
    if not future.cancelled():
        future.exception()


def _environment(
    executor: str, device: str, threads: int, memory_bytes: int
) -> dict[str, str]:
    """The child's environment: thread pools are sized before the frameworks load.

    So is the share of a GPU that JAX takes, which it takes at once unless it is told otherwise.
    """
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    environment = {**os.environ, **dict.fromkeys(names, str(threads))}
    if executor == "jax" and memory_bytes and device.startswith("cuda:"):
        total_bytes = device_memory_bytes(device)
        if total_bytes:
            environment["XLA_PYTHON_CLIENT_MEM_FRACTION"] = (
                f"{min(1.0, memory_bytes / total_bytes):.4f}")
    return environment
