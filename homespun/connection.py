"""One authenticated connection to a broker: deadlines on all calls, retries that end."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import grpc

from homespun.errors import Code, HomespunError
from homespun.identity.certificates import utc_now
from homespun.identity.channels import open_channel
from homespun.identity.directory import Credentials, exists, load
from homespun.identity.enrol import load_valid, renew
from homespun.paths import credentials_directory
from homespun.pieces import SLOWEST_LINE_BYTES_PER_S
from homespun.rpc_errors import error_of
from homespun.v1 import blobs_pb2_grpc, jobs_pb2_grpc

T = TypeVar("T")

PASSING = frozenset({Code.UNREACHABLE, Code.TIMED_OUT, Code.OVERLOADED})
"""Errors that may be gone a moment later."""
FIRST_BACKOFF_S = 0.2
LONGEST_BACKOFF_S = 5.0
STREAM_TIMEOUT_S = 60.0
"""A watch is renewed this often, so that a broker that vanished silently is noticed."""
RENEW_RETRY_S = 60.0
"""Between attempts to renew a certificate: a third of its life is left for them."""


class Connection:
    """Calls to the broker's job and blob services. Safe for threads, as gRPC channels are."""

    def __init__(
        self, channel: grpc.Channel, *, address: str, owner_id: str, timeout_s: float,
        renewal: Renewal | None = None, is_private: bool = False,
    ) -> None:
        """Wrap a channel.

        Args:
            channel: open to the broker; `close` closes it.
            address: what was dialled, for messages.
            owner_id: who we are to the broker.
            timeout_s: how long one call may take, retries included, > 0.
            renewal: gives a new channel when the identity's certificate was renewed.
            is_private: whether the broker ends with this program, and its jobs with it.
        """
        self.is_private = is_private
        self.address = address
        self.owner_id = owner_id
        self.timeout_s = timeout_s
        self._renewal = renewal
        self._channels: list[grpc.Channel] = []
        self._is_closed = False
        self._use(channel)

    @property
    def blobs(self) -> Any:
        """A blocking `BlobServiceStub`, good for a transfer; ask again for the next."""
        self._keep_valid()
        return self._blobs

    def call(self, method: str, request: Any) -> Any:
        """Call a method of `JobService`, again after passing errors until `timeout_s` is over.

        A large request has, on top, the time that its bytes take on the slowest line. Every method
        is safe to repeat: `Submit` carries a request id of its own.

        Raises:
            HomespunError: what the broker answered; UNREACHABLE or TIMED_OUT when it did not.
        """
        sending_s = request.ByteSize() / SLOWEST_LINE_BYTES_PER_S
        return self.patiently(lambda left_s: self._once(method, request, left_s), sending_s)

    def patiently(self, action: Callable[[float], T], more_s: float = 0.0) -> T:
        """Run `action(seconds left)` again after passing errors, for `timeout_s` and `more_s`."""
        deadline = time.monotonic() + self.timeout_s + more_s
        backoff_s = FIRST_BACKOFF_S
        while True:
            try:
                return action(max(0.05, deadline - time.monotonic()))
            except HomespunError as error:
                if error.code not in PASSING or time.monotonic() + backoff_s >= deadline:
                    raise
            time.sleep(backoff_s)
            backoff_s = min(LONGEST_BACKOFF_S, 2 * backoff_s)

    def stream(
        self, method: str, request: Any, timeout_s: float = STREAM_TIMEOUT_S
    ) -> Iterator[Any]:
        """Responses of a streaming method, for at most `timeout_s`.

        Raises:
            HomespunError: what ended the stream; TIMED_OUT when its time was over.
        """
        self._keep_valid()
        call = getattr(self._jobs, method)(request, timeout=timeout_s)
        try:
            yield from call
        except grpc.RpcError as error:
            raise error_of(error, f"The broker at {self.address}") from error
        finally:
            call.cancel()

    def close(self) -> None:
        """Close the channel; later calls fail, and a stream that somebody follows ends so."""
        self._is_closed = True
        for channel in self._channels:
            channel.close()

    def _use(self, channel: grpc.Channel) -> None:
        """Make new calls on this channel; calls under way go on where they are."""
        self._channels.append(channel)
        self._blobs: Any = blobs_pb2_grpc.BlobServiceStub(channel)
        self._jobs: Any = jobs_pb2_grpc.JobServiceStub(channel)

    def _keep_valid(self) -> None:
        """A channel keeps the certificate it was opened with: change over when that is renewed.

        Raises:
            HomespunError: CONFLICT if the connection was closed.
        """
        if self._is_closed:
            jobs = "Its jobs have ended with its network" if self.is_private else (
                "The job goes on; open another client to follow it")
            raise HomespunError(
                Code.CONFLICT, f"The client of the broker at {self.address} was closed. {jobs}.")
        channel = self._renewal.next_channel() if self._renewal is not None else None
        if channel is not None:
            self._use(channel)

    def _once(self, method: str, request: Any, timeout_s: float) -> Any:
        self._keep_valid()
        try:
            return getattr(self._jobs, method)(request, timeout=timeout_s)
        except grpc.RpcError as error:
            raise error_of(error, f"The broker at {self.address}") from error


class Renewal:
    """Renews the certificate of an identity on disk, as long as somebody uses it. Thread-safe."""

    def __init__(self, directory: Path, credentials: Credentials, address: str) -> None:
        """Begin with credentials that were just loaded from `directory`."""
        self._directory = directory
        self._address = address
        self._renew_at, self._expires_at = credentials.renew_at, credentials.expires_at
        self._try_again_s = 0.0
        self._lock = threading.Lock()

    def next_channel(self) -> grpc.Channel | None:
        """A channel with a newer certificate, when it is time for one; usually None.

        A renewal that fails is tried again later: the present certificate has a third of its life.
        Where that is over, as after days of sleep, everybody waits for the renewal.

        Raises:
            HomespunError: why a certificate that has expired could not be renewed.
        """
        if utc_now() < self._renew_at:
            return None
        has_expired = utc_now() >= self._expires_at
        if not self._lock.acquire(blocking=has_expired):
            return None  # another thread is at it; the present certificate will do meanwhile
        try:
            return self._renewed_channel()
        except HomespunError:
            if has_expired:
                raise
            return None
        finally:
            self._lock.release()

    def _renewed_channel(self) -> grpc.Channel | None:
        now_s = time.monotonic()
        if utc_now() < self._renew_at or now_s < self._try_again_s:
            return None
        self._try_again_s = now_s + RENEW_RETRY_S
        held = load(self._directory)  # another program may have been quicker
        if held.needs_renewal(utc_now()):
            held = renew(self._directory, address=self._address)
        channel = open_channel(held, self._address)
        self._renew_at, self._expires_at = held.renew_at, held.expires_at
        self._try_again_s = 0.0
        return channel


def open_connection(
    address: str | None, credentials: Path | str | Credentials | None, timeout_s: float, *,
    is_private: bool = False,
) -> Connection:
    """Open a connection with the identity in a directory, renewed first if it has expired.

    Args:
        address: `host:port`; None for the address that the identity was joined with.
        credentials: the identity or its directory; None for the user's own (`homespun join`).
        timeout_s: how long one call may take, > 0.
        is_private: as of `Connection`.

    Raises:
        HomespunError: BAD_CONFIGURATION without an identity, INVALID_ARGUMENT for a malformed
            address; as `renew` where the certificate has expired.
    """
    if not timeout_s > 0:
        raise HomespunError(
            Code.INVALID_ARGUMENT, f"timeout_s must be > 0; it is {timeout_s!r}.")
    directory = None
    if not isinstance(credentials, Credentials):
        directory = credentials_directory(credentials)
        if not exists(directory):
            raise HomespunError(
                Code.BAD_CONFIGURATION,
                f"{directory} holds no identity. Join a network first, with a key from its "
                "operator: homespun join HOST:PORT --key KEY. Without one, homespun.local() in "
                "Python starts a network of this machine alone.", directory=directory)
        credentials = load_valid(directory, address=address)
    target = address or credentials.broker_address
    return Connection(
        open_channel(credentials, target),
        address=target, owner_id=credentials.id, timeout_s=timeout_s,
        renewal=None if directory is None else Renewal(directory, credentials, target),
        is_private=is_private)
