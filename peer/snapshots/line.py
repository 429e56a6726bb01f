"""One stream of a transfer as both ends see it: typed messages, a deadline for progress, one error.

gRPC hands a message over only when it is asked for, and `write` returns when the transport took it,
so a transfer keeps a few chunks in memory however large the snapshot is.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any, Generic, Protocol, TypeVar, cast

import grpc
from google.protobuf.message import DecodeError, Message

from homespun.errors import Code, HomespunError
from homespun.rpc_errors import error_of
from peer.metering import UNMETERED, Route

PROGRESS_TIMEOUT_S = 20.0
"""A transfer ends when nothing has moved for so long."""

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
            timeout_s: the longest that one message may take, > 0; waiting for the owner's rate
                comes on top.
            route: meters what goes and comes.
        """
        self._route = route
        self.remote = remote
        self._stream = stream
        self._timeout_s = timeout_s

    async def read(self) -> In:
        """The next message.

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
        await self._route.received(message.ByteSize())
        return cast(In, message)

    async def write(self, message: Out) -> None:
        """Send one message.

        Raises:
            HomespunError: as `read`.
        """
        await self._route.sent(cast(Message, message).ByteSize())
        await self._moved(self._stream.write(message))

    async def _moved(self, step: Awaitable[Moved]) -> Moved:
        try:
            async with asyncio.timeout(self._timeout_s):
                return await step
        except TimeoutError:
            raise HomespunError(
                Code.TIMED_OUT,
                f"A transfer of a snapshot with {self.remote} has not moved for "
                f"{self._timeout_s:g} s.", peer=self.remote) from None
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

    async def _why_ended(self, error: Exception) -> HomespunError:
        """A write into a call that has ended says nothing; reading from it tells why."""
        if isinstance(self._stream, grpc.aio.Call):
            try:
                await self._stream.read()
            except grpc.aio.AioRpcError as ended:
                return error_of(ended, self.remote, expected=self.remote)
        return self._broken(error)

    def _malformed(self) -> HomespunError:
        return HomespunError(
            Code.INVALID_ARGUMENT, f"{self.remote} sent what is no message of a transfer.",
            peer=self.remote)

    def _broken(self, error: BaseException) -> HomespunError:
        return HomespunError(
            Code.UNREACHABLE,
            f"The transfer with {self.remote} broke ({type(error).__name__}).", peer=self.remote)
