"""The stream to the broker: opened by the peer, opened again for as long as the daemon runs.

Running segments do not notice when it breaks. Reconnects are jittered and back off to
`BACKOFF_LONGEST_S`, so that a thousand peers do not stampede a broker that has just come back.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Protocol

import grpc
import structlog

from homespun.errors import Code, HomespunError
from homespun.rpc_errors import error_of
from homespun.v1 import session_pb2, session_pb2_grpc
from homespun.version import check_version

log = structlog.get_logger(__name__)

BACKOFF_FIRST_S = 0.2
BACKOFF_LONGEST_S = 10.0
OUTBOX_MESSAGES_MAX = 100_000
"""Reports wait in the core while the broker is away, so this holds only a stream's worth."""
WELCOME_TIMEOUT_S = 15.0
PERMANENT = frozenset(
    {Code.CERTIFICATE_EXPIRED, Code.NOT_ALLOWED, Code.INCOMPATIBLE_VERSION, Code.UNTRUSTED_BROKER}
)
"""Errors that trying again does not cure: the daemon ends with them."""


class SessionOwner(Protocol):
    """What the session needs of the daemon."""

    def register(self) -> session_pb2.Register:
        """First message of a stream: who this is and what it holds."""
        ...

    def heartbeat(self) -> session_pb2.Heartbeat:
        """Sign of life, with what the operator likes to see."""
        ...

    async def on_message(self, message: session_pb2.BrokerMessage) -> None:
        """A message of the broker."""
        ...

    async def on_connected(self) -> None:
        """The broker has said welcome; its message follows by `on_message`."""
        ...

    async def on_disconnected(self, reason: str) -> None:
        """The stream has ended."""
        ...


class Session:
    """Keeps one stream to the broker open."""

    def __init__(self, owner: SessionOwner, open_channel: Callable[[], grpc.aio.Channel]) -> None:
        """Prepare; `run` does the work.

        Args:
            owner: the daemon.
            open_channel: opens an mTLS channel to the broker with the newest certificate.
        """
        self._owner = owner
        self._open_channel = open_channel
        self._outbox: asyncio.Queue[session_pb2.PeerMessage] = asyncio.Queue(OUTBOX_MESSAGES_MAX)
        self._interval_s = 1.0

    def send(self, message: session_pb2.PeerMessage) -> None:
        """Queue a message for the current stream; without one it is dropped (the core keeps it)."""
        with contextlib.suppress(asyncio.QueueFull):
            self._outbox.put_nowait(message)

    def send_all(self, messages: Sequence[session_pb2.PeerMessage]) -> None:
        """Queue several messages in order."""
        for message in messages:
            self.send(message)

    async def run(self) -> None:
        """Connect again and again until cancelled.

        Raises:
            HomespunError: one of `PERMANENT`: trying again would not help.
        """
        backoff_s = BACKOFF_FIRST_S
        while True:
            welcomed = False
            try:
                async with self._open_channel() as channel:
                    async for _ in self._stream(channel):
                        welcomed = True
                reason = "the broker ended the session"
            except grpc.RpcError as call:
                error = error_of(call, "the broker")
                if error.code in PERMANENT:
                    raise error from call
                reason = error.message
            except HomespunError as error:
                if error.code in PERMANENT:
                    raise
                reason = error.message
            except TimeoutError:
                reason = "the broker was silent"
            if welcomed:
                backoff_s = BACKOFF_FIRST_S
                await self._owner.on_disconnected(reason)
            log.warning("broker_unreachable", reason=reason, retry_in_s=round(backoff_s, 1))
            await asyncio.sleep(backoff_s * random.uniform(0.5, 1.5))
            backoff_s = min(BACKOFF_LONGEST_S, backoff_s * 2)

    async def _stream(self, channel: grpc.aio.Channel) -> AsyncIterator[None]:
        """One stream from register to end; yields once when the broker has said welcome."""
        while not self._outbox.empty():
            self._outbox.get_nowait()
        stub = session_pb2_grpc.SessionServiceStub(channel)
        call = stub.Connect()
        await call.write(session_pb2.PeerMessage(register=self._owner.register()))
        async with asyncio.timeout(WELCOME_TIMEOUT_S):
            first = await call.read()
        if first is grpc.aio.EOF:
            # Ends the call's status as the exception that the caller translates.
            raise grpc.aio.AioRpcError(
                await call.code(), await call.initial_metadata(), await call.trailing_metadata(),
                await call.details(),
            )
        self._check_welcome(first)
        yield
        await self._owner.on_connected()
        await self._owner.on_message(first)
        writer = asyncio.create_task(self._write(call))
        try:
            await self._read(call)
        finally:
            writer.cancel()
            call.cancel()

    def _check_welcome(self, first: session_pb2.BrokerMessage) -> None:
        if first.WhichOneof("body") == "goodbye":
            raise HomespunError(Code(first.goodbye.code), first.goodbye.message)
        if first.WhichOneof("body") != "welcome":
            raise HomespunError(Code.INTERNAL, "the broker's first message was no welcome")
        check_version(first.welcome.protocol_version, "broker")
        self._interval_s = max(0.05, first.welcome.heartbeat_interval_ms / 1000)

    async def _read(self, call: grpc.aio.StreamStreamCall) -> None:
        while (message := await call.read()) is not grpc.aio.EOF:
            if message.WhichOneof("body") == "goodbye":
                goodbye = message.goodbye
                raise HomespunError(Code(goodbye.code), goodbye.message)
            await self._owner.on_message(message)

    async def _write(self, call: grpc.aio.StreamStreamCall) -> None:
        """Send queued messages, and a heartbeat whenever the interval has passed."""
        loop = asyncio.get_running_loop()
        beat_at = loop.time()
        while True:
            try:
                async with asyncio.timeout_at(beat_at):
                    message = await self._outbox.get()
            except TimeoutError:
                message = session_pb2.PeerMessage(heartbeat=self._owner.heartbeat())
                beat_at = loop.time() + self._interval_s
            await call.write(message)
