"""The stream to the broker: opened by the peer, opened again for as long as the daemon runs.

Running segments do not notice when it breaks. Reconnects are jittered and back off to
`BACKOFF_LONGEST_S`, so that a thousand peers do not stampede a broker that has just come back.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from typing import Protocol

import grpc
import structlog

from homespun.errors import Code, HomespunError
from homespun.rpc_errors import ended, error_of
from homespun.v1 import session_pb2, session_pb2_grpc
from homespun.version import check_version

log = structlog.get_logger(__name__)

BACKOFF_FIRST_S = 0.2
BACKOFF_LONGEST_S = 10.0
BACKOFF_RESET_S = 10.0
"""A stream that lived so long starts the backoff anew; one that ends at once must not."""
OUTBOX_MESSAGES_MAX = 100_000
"""Reports wait in the core while the broker is away, so this holds only a stream's worth."""
WELCOME_TIMEOUT_S = 15.0
PERMANENT = frozenset(
    {Code.CERTIFICATE_EXPIRED, Code.NOT_ALLOWED, Code.INCOMPATIBLE_VERSION, Code.UNTRUSTED_BROKER}
)
"""Errors that trying again does not cure: the daemon ends with them."""

Call = grpc.aio.StreamStreamCall[session_pb2.PeerMessage, session_pb2.BrokerMessage]


class SessionOwner(Protocol):
    """What the session needs of the daemon."""

    async def register(self) -> session_pb2.Register:
        """First message of a stream: who this is and what it holds."""
        ...

    def heartbeat(self) -> session_pb2.Heartbeat:
        """Sign of life, with what the operator likes to see."""
        ...

    def on_message(self, message: session_pb2.BrokerMessage) -> None:
        """A message of the broker."""
        ...

    def on_connected(self) -> None:
        """The broker has said welcome; its message follows by `on_message`."""
        ...

    def on_disconnected(self) -> None:
        """The stream has ended, which the broker had welcomed; `on_unreachable` follows."""
        ...

    def on_unreachable(self, reason: str, retry_in_s: float) -> None:
        """There is no stream, for a reason in words; the next attempt begins in so long."""
        ...


async def _nothing() -> None:
    pass


class Session:
    """Keeps one stream to the broker open."""

    def __init__(
        self, owner: SessionOwner, open_channel: Callable[[], grpc.aio.Channel],
        prepare: Callable[[], Awaitable[None]] = _nothing,
    ) -> None:
        """Prepare; `run` does the work.

        Args:
            owner: the daemon.
            open_channel: opens an mTLS channel to the broker with the newest certificate.
            prepare: what must be done before that, each time.
        """
        self._prepare = prepare
        self._owner = owner
        self._open_channel = open_channel
        self._outbox: asyncio.Queue[session_pb2.PeerMessage] = asyncio.Queue()
        self._call: Call | None = None
        self._welcomed_at_s: float | None = None
        self._interval_s = 1.0

    def send(self, message: session_pb2.PeerMessage) -> None:
        """Queue a message for the current stream; without one it is dropped (the core keeps it).

        A report must not be dropped while later ones are sent, so an outbox that overflows ends the
        stream, and the core sends again what the broker does not have.
        """
        if self._call is None:
            return
        if self._outbox.qsize() >= OUTBOX_MESSAGES_MAX:
            self.reconnect()
            return
        self._outbox.put_nowait(message)

    def reconnect(self) -> None:
        """End the current stream: the next one tells the broker anew what this peer is."""
        if self._call is not None:
            self._call.cancel()

    async def run(self) -> None:
        """Connect again and again until cancelled.

        Raises:
            HomespunError: one of `PERMANENT`: trying again would not help.
        """
        backoff_s = BACKOFF_FIRST_S
        while True:
            reason = await self._once()
            if self._welcomed_at_s is not None:
                if time.monotonic() - self._welcomed_at_s >= BACKOFF_RESET_S:
                    backoff_s = BACKOFF_FIRST_S
                self._owner.on_disconnected()
            wait_s = backoff_s * random.uniform(0.5, 1.5)
            log.warning("broker_unreachable", reason=reason, retry_in_s=round(wait_s, 1))
            self._owner.on_unreachable(reason, wait_s)
            await asyncio.sleep(wait_s)
            backoff_s = min(BACKOFF_LONGEST_S, backoff_s * 2)

    async def _once(self) -> str:
        """One connection, from its first attempt to its end; returns why it ended.

        Raises:
            HomespunError: one of `PERMANENT`.
        """
        self._welcomed_at_s = None
        try:
            await self._prepare()
            async with self._open_channel() as channel:
                await self._stream(channel)
            return "the broker ended the session"
        except grpc.RpcError as call:
            error = error_of(call, "the broker")
        except HomespunError as refusal:
            error = refusal
        except TimeoutError:
            return "the broker was silent"
        except asyncio.CancelledError:
            # grpc raises it too when the other side has reset the stream.
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            return "the stream was reset"
        finally:
            self._call = None
        if error.code in PERMANENT:
            raise error
        return error.message

    async def _stream(self, channel: grpc.aio.Channel) -> None:
        """One stream from register to end."""
        call: Call = session_pb2_grpc.SessionServiceStub(channel).Connect()
        async with asyncio.timeout(WELCOME_TIMEOUT_S):
            await _write(call, session_pb2.PeerMessage(register=await self._owner.register()))
            first = await call.read()
        if first is grpc.aio.EOF:
            raise await ended(call)
        self._check_welcome(first)
        self._outbox = asyncio.Queue()
        self._call, self._welcomed_at_s = call, time.monotonic()
        self._owner.on_connected()
        self._owner.on_message(first)
        await self._converse(call)

    async def _converse(self, call: Call) -> None:
        """Read and write side by side; when one of them ends, or fails, so does the stream."""
        sides = (asyncio.create_task(self._read(call)), asyncio.create_task(self._write_all(call)))
        try:
            done, _ = await asyncio.wait(sides, return_when=asyncio.FIRST_COMPLETED)
            for side in done:
                side.result()
        finally:
            for side in sides:
                side.cancel()
            call.cancel()
            await asyncio.wait(sides)

    def _check_welcome(self, first: session_pb2.BrokerMessage) -> None:
        if first.WhichOneof("body") == "goodbye":
            raise _goodbye(first)
        if first.WhichOneof("body") != "welcome":
            raise HomespunError(Code.INTERNAL, "the broker's first message was no welcome")
        check_version(first.welcome.protocol_version, "broker")
        self._interval_s = max(0.05, first.welcome.heartbeat_interval_ms / 1000)

    async def _read(self, call: Call) -> None:
        while (message := await call.read()) is not grpc.aio.EOF:
            if message.WhichOneof("body") == "goodbye":
                raise _goodbye(message)
            self._owner.on_message(message)

    async def _write_all(self, call: Call) -> None:
        """Send queued messages, and a heartbeat whenever the interval has passed."""
        loop = asyncio.get_running_loop()
        beat_at = loop.time()
        while True:
            message = None
            if loop.time() < beat_at:
                try:
                    async with asyncio.timeout_at(beat_at):
                        message = await self._outbox.get()
                except TimeoutError:
                    pass
            if message is None:
                message = session_pb2.PeerMessage(heartbeat=self._owner.heartbeat())
                beat_at = loop.time() + self._interval_s
            await _write(call, message)


async def _write(call: Call, message: session_pb2.PeerMessage) -> None:
    """Write, and say why the call has ended if it has."""
    try:
        await call.write(message)
    except asyncio.InvalidStateError:  # what grpc raises for a call that is over
        raise await ended(call) from None


def _goodbye(message: session_pb2.BrokerMessage) -> HomespunError:
    goodbye = message.goodbye
    try:
        return HomespunError(Code(goodbye.code), goodbye.message)
    except ValueError:  # a code of a newer broker
        return HomespunError(Code.INTERNAL, f"{goodbye.message} ({goodbye.code})")
