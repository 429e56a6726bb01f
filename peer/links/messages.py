"""gRPC streams as the link sees them: bytes in, bytes out, every failure a `HomespunError`."""

from __future__ import annotations

import asyncio
from typing import Any, Protocol

import grpc

from homespun.errors import Code, HomespunError
from homespun.rpc_errors import error_of
from peer.metering import UNMETERED, Route

SERVICE = "homespun.v1.TensorService"
EXCHANGE = f"/{SERVICE}/Exchange"
PROBE = f"/{SERVICE}/Probe"
JOB_METADATA = "homespun-job"
LEASE_METADATA = "homespun-lease"
"""`<token of the dialer's lease>:<token of the acceptor's>`."""
PROTOCOL_METADATA = "homespun-protocol"


class GrpcStream(Protocol):
    """What a client call and a servicer context have in common."""

    async def read(self) -> object:
        """Next message, or `grpc.aio.EOF`."""
        ...

    async def write(self, message: bytes) -> None:
        """Send one message; returns when the transport took it."""
        ...


class GrpcCall(GrpcStream, Protocol):
    """The client's end of a stream."""

    def cancel(self) -> bool:
        """End the stream at once."""
        ...


def open_stream(
    channel: grpc.aio.Channel, method: str, metadata: tuple[tuple[str, str], ...]
) -> GrpcCall:
    """Start a bidirectional call with raw bytes for messages."""
    open_call: Any = channel.stream_stream(
        method, request_serializer=None, response_deserializer=None)
    call: GrpcCall = open_call(metadata=metadata)
    return call


class Messages:
    """One bidirectional stream of raw messages."""

    def __init__(self, stream: GrpcStream, remote: str, route: Route = UNMETERED) -> None:
        self._stream = stream
        self._remote = remote
        self._route = route

    async def read(self) -> bytes | None:
        """The next message, or None when the other side has ended the stream.

        Raises:
            HomespunError: UNREACHABLE when the stream broke; the code that the other side sent when
                it refused the stream.
        """
        try:
            message = await self._stream.read()
        except asyncio.CancelledError as error:
            raise self._broken(error) from error
        except Exception as error:
            raise self._failure(error) from error
        if not isinstance(message, bytes):
            return None
        await self._route.received(len(message))
        return message

    async def write(self, message: bytes) -> None:
        """Send one message; waits while the transport is full, or the owner's rate is used up.

        Raises:
            HomespunError: UNREACHABLE when the stream broke.
        """
        await self._route.sent(len(message))
        try:
            await self._stream.write(message)
        except asyncio.CancelledError as error:
            raise self._broken(error) from error
        except Exception as error:
            raise self._failure(error) from error

    def _failure(self, error: Exception) -> HomespunError:
        """What an exception of grpc means. This is the edge: all of its kinds are met here."""
        if isinstance(error, grpc.aio.AioRpcError):
            return call_failure(error, self._remote)
        return self._broken(error)

    def _broken(self, error: BaseException) -> HomespunError:
        """What is left to say; raises `error` again where it is this task that was cancelled.

        grpc raises CancelledError too when the *other side* reset the stream.
        """
        task = asyncio.current_task()
        if isinstance(error, asyncio.CancelledError) and task is not None and task.cancelling():
            raise error
        return HomespunError(
            Code.UNREACHABLE, f"The stream with {self._remote} broke ({type(error).__name__}).",
            peer=self._remote)


def call_failure(error: grpc.aio.AioRpcError, remote: str) -> HomespunError:
    """What a failed call to another peer means.

    A refusal keeps its code; everything that may pass by itself is UNREACHABLE.
    """
    meaning = error_of(error, remote, expected=remote)
    if meaning.code in _KEPT:
        return meaning
    return HomespunError(Code.UNREACHABLE, meaning.message, peer=remote)


_KEPT = frozenset({
    Code.INCOMPATIBLE_VERSION, Code.NOT_ALLOWED, Code.NOT_AUTHENTICATED, Code.CERTIFICATE_EXPIRED,
    Code.TIMED_OUT,
})
