"""One stream of a transfer as both ends see it: typed messages, a deadline for progress, one error.

The deadline is for silence, never for the whole: a stream on which anything moves, in either
direction, goes on, however slow its line is. Who holds the other up, because its owner's rate is
used up, says so every few seconds.

gRPC hands a message over only when it is asked for, and `write` returns when the transport took it,
so a transfer keeps a few chunks in memory however large the snapshot is.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Coroutine
from typing import Any, Generic, Protocol, TypeVar, cast

import grpc
from google.protobuf.message import DecodeError, Message

from homespun.errors import Code, HomespunError
from homespun.rpc_errors import ended, error_of
from peer.metering import UNMETERED, Route

PROGRESS_TIMEOUT_S = 20.0
"""A transfer ends when nothing has moved for so long."""
SIGN_INTERVAL_S = 5.0
"""Longest time that this end lets the other wait without a word; a quarter of its patience."""

In = TypeVar("In")
Out = TypeVar("Out")
Moved = TypeVar("Moved")


class Stream(Protocol):
    """What a client's call and a servicer's context have in common."""

    async def read(self) -> Any:
        """Next message, or `grpc.aio.EOF`."""
        ...

    async def write(self, message: Any) -> None:
        """Send one message; returns when the transport took it."""
        ...


class Line(Generic[In, Out]):
    """Reads messages of type `In` and writes those of type `Out`."""

    def __init__(
        self, stream: Stream, remote: str, timeout_s: float = PROGRESS_TIMEOUT_S,
        route: Route = UNMETERED,
    ) -> None:
        """Wrap a stream.

        Args:
            stream: a client's call or a servicer's context.
            remote: the other peer, for messages.
            timeout_s: the longest that nothing may move, > 0; waiting for the owner's rate is not
                counted.
            route: meters what goes and comes.
        """
        self._route = route
        self.remote = remote
        self._stream = stream
        self._timeout_s = timeout_s
        self.sign_s = min(SIGN_INTERVAL_S, timeout_s / 4)
        """How often to give a sign of life where there is nothing else to say."""
        self.written = 0
        """Messages that the transport has taken."""
        self._now = asyncio.get_running_loop().time
        self._moved_at_s = self._said_at_s = self._now()

    async def read(self, sign: Out | None = None) -> In:
        """The next message.

        Args:
            sign: said again and again while the owner's rate forbids to read on.

        Raises:
            HomespunError: TIMED_OUT; UNREACHABLE when the stream ended or broke; what the other
                side refused the call with.
        """
        message = await self._moved(self._stream.read())
        if message is None:  # a client's stub gives this for what it cannot parse
            raise self._malformed()
        if not isinstance(message, Message):
            raise HomespunError(
                Code.UNREACHABLE, f"{self.remote} ended the transfer early.", peer=self.remote)
        await self._held(self._route.received(message.ByteSize()), sign)
        return cast(In, message)

    async def write(self, message: Out, sign: Out | None = None) -> None:
        """Send one message.

        Args:
            message: to send.
            sign: said again and again while the owner's rate holds the message back.

        Raises:
            HomespunError: as `read`.
        """
        await self._held(self._route.sent(cast(Message, message).ByteSize()), sign)
        await self._moved(self._stream.write(message))
        self.written += 1
        self._said_at_s = self._now()

    async def say(self, sign: Out) -> None:
        """Give a sign of life, unless something was said within `sign_s`."""
        if self._now() - self._said_at_s >= self.sign_s:
            await self.write(sign)

    async def _held(self, turn: Coroutine[Any, Any, None], sign: Out | None) -> None:
        """Wait for the owner's rate; what this end does not read or write meanwhile is its own."""
        waiting = asyncio.create_task(turn)
        try:
            while not (await asyncio.wait({waiting}, timeout=self.sign_s))[0]:
                self._moved_at_s = self._now()
                if sign is not None:
                    await self.say(sign)
            waiting.result()
        finally:
            waiting.cancel()

    async def _moved(self, step: Awaitable[Moved]) -> Moved:
        try:
            return await self._before_silence(step)
        except DecodeError as error:
            raise self._malformed() from error
        except grpc.aio.AioRpcError as error:
            raise error_of(error, self.remote, expected=self.remote) from error
        except asyncio.CancelledError as error:
            if (task := asyncio.current_task()) is not None and task.cancelling():
                raise
            raise self._broken(error) from error  # grpc's word for: the other side reset it
        except (asyncio.InvalidStateError, grpc.aio.BaseError) as error:
            raise await self._why_ended(error) from error

    async def _before_silence(self, step: Awaitable[Moved]) -> Moved:
        """What a step gives, unless nothing moves on the whole stream for too long."""
        doing, began_s = asyncio.ensure_future(step), self._now()
        try:
            while not doing.done():
                since_s = max(began_s, self._moved_at_s)
                left_s = since_s + self._timeout_s - self._now()
                if left_s <= 0:
                    raise HomespunError(
                        Code.TIMED_OUT,
                        f"A transfer of a snapshot with {self.remote} has not moved for "
                        f"{self._timeout_s:g} s.", peer=self.remote)
                await asyncio.wait({doing}, timeout=left_s)
            self._moved_at_s = self._now()
            return doing.result()
        finally:
            if not doing.done():
                doing.cancel()
                await asyncio.wait({doing})

    async def _why_ended(self, error: Exception) -> HomespunError:
        """A write into a call that has ended says nothing; the call's status tells why."""
        if isinstance(self._stream, grpc.aio.Call):
            status = await ended(self._stream)
            if status.code() is not grpc.StatusCode.OK:
                return error_of(status, self.remote, expected=self.remote)
        return self._broken(error)

    def _malformed(self) -> HomespunError:
        return HomespunError(
            Code.INVALID_ARGUMENT, f"{self.remote} sent what is no message of a transfer.",
            peer=self.remote)

    def _broken(self, error: BaseException) -> HomespunError:
        return HomespunError(
            Code.UNREACHABLE,
            f"The transfer with {self.remote} broke ({type(error).__name__}).", peer=self.remote)
