"""One authenticated connection to a broker: deadlines on all calls, retries that end."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import grpc

from homespun.errors import Code, HomespunError
from homespun.identity.channels import open_channel
from homespun.identity.directory import Credentials, load
from homespun.paths import credentials_directory
from homespun.rpc_errors import error_of
from homespun.v1 import blobs_pb2_grpc, jobs_pb2_grpc

T = TypeVar("T")

PASSING = frozenset({Code.UNREACHABLE, Code.TIMED_OUT, Code.OVERLOADED})
"""Errors that may be gone a moment later."""
FIRST_BACKOFF_S = 0.2
LONGEST_BACKOFF_S = 5.0
STREAM_TIMEOUT_S = 60.0
"""A watch is renewed this often, so that a broker that vanished silently is noticed."""


class Connection:
    """Calls to the broker's job and blob services. Safe for threads, as gRPC channels are."""

    def __init__(
        self, channel: grpc.Channel, *, address: str, owner_id: str, timeout_s: float
    ) -> None:
        """Wrap a channel.

        Args:
            channel: open to the broker; `close` closes it.
            address: what was dialled, for messages.
            owner_id: who we are to the broker.
            timeout_s: how long one call may take, retries included, > 0.
        """
        self.address = address
        self.owner_id = owner_id
        self.timeout_s = timeout_s
        self.blobs: Any = blobs_pb2_grpc.BlobServiceStub(channel)
        self._jobs: Any = jobs_pb2_grpc.JobServiceStub(channel)
        self._channel = channel

    def call(self, method: str, request: Any) -> Any:
        """Call a method of `JobService`, again after passing errors until `timeout_s` is over.

        Every method is safe to repeat: `Submit` carries a request id of its own.

        Raises:
            HomespunError: what the broker answered; UNREACHABLE or TIMED_OUT when it did not.
        """
        return self.patiently(lambda left_s: self._once(method, request, left_s))

    def patiently(self, action: Callable[[float], T]) -> T:
        """Run `action(seconds left)` again after passing errors, until `timeout_s` is over."""
        deadline = time.monotonic() + self.timeout_s
        backoff_s = FIRST_BACKOFF_S
        while True:
            try:
                return action(max(0.05, deadline - time.monotonic()))
            except HomespunError as error:
                if error.code not in PASSING or time.monotonic() + backoff_s >= deadline:
                    raise
            time.sleep(backoff_s)
            backoff_s = min(LONGEST_BACKOFF_S, 2 * backoff_s)

    def stream(self, method: str, request: Any) -> Iterator[Any]:
        """Responses of a streaming method, for at most `STREAM_TIMEOUT_S`.

        Raises:
            HomespunError: what ended the stream; TIMED_OUT when its time was over.
        """
        call = getattr(self._jobs, method)(request, timeout=STREAM_TIMEOUT_S)
        try:
            yield from call
        except grpc.RpcError as error:
            raise error_of(error, f"The broker at {self.address}") from error
        finally:
            call.cancel()

    def close(self) -> None:
        """Close the channel; later calls fail."""
        self._channel.close()

    def _once(self, method: str, request: Any, timeout_s: float) -> Any:
        try:
            return getattr(self._jobs, method)(request, timeout=timeout_s)
        except grpc.RpcError as error:
            raise error_of(error, f"The broker at {self.address}") from error


def open_connection(
    address: str | None, credentials: Path | str | Credentials | None, timeout_s: float
) -> Connection:
    """Open a connection with the identity in a directory.

    Args:
        address: `host:port`; None for the address that the identity was joined with.
        credentials: the identity or its directory; None for the user's own (`homespun join`).
        timeout_s: how long one call may take, > 0.

    Raises:
        HomespunError: BAD_CONFIGURATION without an identity, CERTIFICATE_EXPIRED,
            INVALID_ARGUMENT for a malformed address.
    """
    if not timeout_s > 0:
        raise HomespunError(
            Code.INVALID_ARGUMENT, f"timeout_s must be > 0; it is {timeout_s!r}.")
    if not isinstance(credentials, Credentials):
        credentials = load(credentials_directory(credentials))
    target = address or credentials.broker_address
    return Connection(
        open_channel(credentials, target),
        address=target, owner_id=credentials.id, timeout_s=timeout_s)
