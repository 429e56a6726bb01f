"""Move blobs to and from a `BlobService`, going on where a broken stream stopped.

Every call has a deadline of `CALL_TIMEOUT_S`. A call that ends early, or at its deadline, but moved
bytes is not a failure: the next one goes on from there. So a slow link is served to the end, while
a dead one is given up after `MAX_FAILURES` calls in a row that moved nothing. Messages are fitted
to the line (`homespun.pieces`): a call on a slow one moves many, and loses one at its deadline.

The same protocol comes twice, for blocking stubs (the client) and for `grpc.aio` ones (the peer's
daemon, whose file work runs in threads); what they share is `Attempts`.
"""

from __future__ import annotations

import asyncio
import io
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import grpc

from homespun.blobs.store import BlobStore
from homespun.errors import Code, HomespunError
from homespun.pieces import Pieces
from homespun.rpc_errors import error_of
from homespun.v1 import blobs_pb2

CHUNK_BYTES = 256 << 10
"""Most data of one message: four at a time each arrive within a call at 140 kbit/s."""
CALL_TIMEOUT_S = 60.0
MAX_FAILURES = 8
"""In a row; with the pauses between them a broker has 16 s to be back after a restart."""
FIRST_BACKOFF_S = 0.2
LONGEST_BACKOFF_S = 5.0

Progress = Callable[[int, int], None]
"""Called with (bytes there, bytes in total) after each chunk."""
Pace = Callable[[int], Awaitable[None]]
"""Holds a transfer to a rate: awaited with a number of bytes."""

PASSING = frozenset({
    Code.UNREACHABLE, Code.TIMED_OUT, Code.OVERLOADED, Code.CONFLICT, Code.INTERNAL,
})
"""Worth another try: the link, the other side's load, or another writer of the same blob."""


class Attempts:
    """Counts failures in a row and decides when to give up."""

    def __init__(self, passing: frozenset[Code] = PASSING) -> None:
        """Begin; `passing` are the codes that are worth another try."""
        self._passing = passing
        self._failures = 0
        self._farthest = 0
        self._spoiled = False

    def reached(self, offset: int) -> None:
        """The transfer stands at `offset`; farther than ever means that the link works."""
        if offset > self._farthest:
            self._farthest = offset
            self._failures = 0

    def backoff_s(self, failed: grpc.RpcError | HomespunError) -> float:
        """Seconds to wait before the next call.

        Raises:
            HomespunError: what failed, if it is final or has failed too often.
        """
        error = failed if isinstance(failed, HomespunError) else error_of(failed, "the broker")
        self._failures += 1
        if error.code == Code.DIGEST_MISMATCH and not self._spoiled:
            # The part from before may have been the bad one: once more, from the start.
            self._spoiled = True
            return 0.0
        if error.code not in self._passing or self._failures >= MAX_FAILURES:
            raise error from failed
        return min(LONGEST_BACKOFF_S, FIRST_BACKOFF_S * 2.0 ** (self._failures - 1))


def upload(
    stub: Any, digest: str, source: Path | bytes, progress: Progress | None = None
) -> None:
    """Send a blob, unless the other side has it.

    Args:
        stub: a blocking `BlobServiceStub`.
        digest: BLAKE3 of `source`; the other side verifies it.
        source: the bytes, or the file that holds them.
        progress: told how far it is.

    Raises:
        HomespunError: what the other side refused it with, or UNREACHABLE or TIMED_OUT after
            `MAX_FAILURES` calls in a row that moved nothing.
    """
    size = _source_bytes(source)
    attempts = Attempts()
    request = blobs_pb2.StatBlobRequest(digests=[digest])
    while True:
        try:
            state = _only(stub.Stat(request, timeout=CALL_TIMEOUT_S))
            attempts.reached(state.stored_bytes)
            if state.complete:
                return _report(progress, size, size)
            chunks = _requests(digest, size, source, min(state.stored_bytes, size), progress)
            answer = stub.Upload(chunks, timeout=CALL_TIMEOUT_S)
            if answer.complete:
                return _report(progress, size, size)
            raise _ended_early(digest, answer.stored_bytes, size)
        except (grpc.RpcError, HomespunError) as error:
            time.sleep(attempts.backoff_s(error))


async def upload_aio(
    stub: Any, digest: str, source: Path | bytes, progress: Progress | None = None,
    pace: Pace | None = None,
) -> None:
    """`upload` for a `grpc.aio` stub; `pace` is awaited with the size of each chunk before it."""
    size = await asyncio.to_thread(_source_bytes, source)
    attempts = Attempts()
    request = blobs_pb2.StatBlobRequest(digests=[digest])
    while True:
        try:
            state = _only(await stub.Stat(request, timeout=CALL_TIMEOUT_S))
            attempts.reached(state.stored_bytes)
            if state.complete:
                return _report(progress, size, size)
            chunks = _requests(digest, size, source, min(state.stored_bytes, size), progress)
            answer = await stub.Upload(_in_thread(chunks, pace), timeout=CALL_TIMEOUT_S)
            if answer.complete:
                return _report(progress, size, size)
            raise _ended_early(digest, answer.stored_bytes, size)
        except (grpc.RpcError, HomespunError) as error:
            await asyncio.sleep(attempts.backoff_s(error))


def download(
    stub: Any, digest: str, size_bytes: int, store: BlobStore, progress: Progress | None = None
) -> Path:
    """Fetch a blob into `store`, unless it is there, and tell its path.

    Args:
        stub: a blocking `BlobServiceStub`.
        digest: which blob; the store verifies it.
        size_bytes: its size, as the job says: not a byte more is accepted.
        store: where to.
        progress: told how far it is.

    Raises:
        HomespunError: as `upload`; also DISK_FULL or LIMIT_EXCEEDED of the store here.
    """
    attempts = Attempts()
    while True:
        state = store.stat(digest)
        if state.complete:
            _check_size(digest, size_bytes, state.stored_bytes)
            _report(progress, size_bytes, size_bytes)
            return store.path(digest)
        try:
            offset = state.stored_bytes
            if offset >= size_bytes:
                store.append(digest, size_bytes, offset, b"")
                continue
            call = stub.Download(
                blobs_pb2.DownloadBlobRequest(digest=digest, offset=offset), timeout=CALL_TIMEOUT_S)
            with _cancelled_after(call):
                for response in call:
                    offset = _store(store, digest, size_bytes, offset, response)
                    attempts.reached(offset)
                    _report(progress, offset, size_bytes)
            if offset < size_bytes:
                raise _ended_early(digest, offset, size_bytes)
        except (grpc.RpcError, HomespunError) as error:
            time.sleep(attempts.backoff_s(error))


async def download_aio(
    stub: Any, digest: str, size_bytes: int, store: BlobStore, progress: Progress | None = None,
    pace: Pace | None = None,
) -> Path:
    """`download` for a `grpc.aio` stub; `pace` is awaited with the size of each chunk after it."""
    attempts = Attempts()
    while True:
        state = await asyncio.to_thread(store.stat, digest)
        if state.complete:
            _check_size(digest, size_bytes, state.stored_bytes)
            _report(progress, size_bytes, size_bytes)
            return store.path(digest)
        try:
            offset = state.stored_bytes
            if offset >= size_bytes:
                await asyncio.to_thread(store.append, digest, size_bytes, offset, b"")
                continue
            call = stub.Download(
                blobs_pb2.DownloadBlobRequest(digest=digest, offset=offset), timeout=CALL_TIMEOUT_S)
            with _cancelled_after(call):
                async for response in call:
                    offset = await asyncio.to_thread(
                        _store, store, digest, size_bytes, offset, response)
                    attempts.reached(offset)
                    if pace is not None:
                        await pace(len(response.data))
                    _report(progress, offset, size_bytes)
            if offset < size_bytes:
                raise _ended_early(digest, offset, size_bytes)
        except (grpc.RpcError, HomespunError) as error:
            await asyncio.sleep(attempts.backoff_s(error))


@contextmanager
def _cancelled_after(call: Any) -> Iterator[None]:
    """End a call when its reader leaves early, so that the other side stops sending."""
    try:
        yield
    finally:
        call.cancel()


def _store(
    store: BlobStore, digest: str, size_bytes: int, offset: int,
    response: blobs_pb2.DownloadBlobResponse,
) -> int:
    if response.size_bytes != 0:
        _check_size(digest, size_bytes, response.size_bytes)
    return store.append(digest, size_bytes, offset, response.data).stored_bytes


def _requests(
    digest: str, size: int, source: Path | bytes, offset: int, progress: Progress | None
) -> Iterator[blobs_pb2.UploadBlobRequest]:
    """At least one message, so that an empty or nearly whole blob is completed too."""
    pieces, is_first = Pieces(CHUNK_BYTES), True
    with _reader(source, offset) as file:
        while (data := file.read(pieces.size_bytes)) or is_first:
            began_s = time.monotonic()
            yield blobs_pb2.UploadBlobRequest(
                digest=digest if is_first else "", size_bytes=size if is_first else 0,
                offset=offset, data=data)
            # Asked for the next one when this one is on its way.
            pieces.took(len(data), time.monotonic() - began_s)
            is_first = False
            offset += len(data)
            _report(progress, offset, size)


def _reader(source: Path | bytes, offset: int) -> BinaryIO:
    file: BinaryIO = io.BytesIO(source) if isinstance(source, bytes) else source.open("rb")
    file.seek(offset)
    return file


async def _in_thread(
    requests: Iterator[blobs_pb2.UploadBlobRequest], pace: Pace | None,
) -> AsyncIterator[blobs_pb2.UploadBlobRequest]:
    step: Callable[[], Awaitable[Any]] = lambda: asyncio.to_thread(next, requests, None)  # noqa: E731
    while (request := await step()) is not None:
        if pace is not None:
            await pace(len(request.data))
        yield request


def _only(response: blobs_pb2.StatBlobResponse) -> blobs_pb2.BlobState:
    if len(response.blobs) != 1:
        raise HomespunError(
            Code.INTERNAL, f"One blob was asked about and {len(response.blobs)} were described.")
    return response.blobs[0]


def _source_bytes(source: Path | bytes) -> int:
    if isinstance(source, bytes):
        return len(source)
    try:
        return source.stat().st_size
    except FileNotFoundError as error:
        raise HomespunError(Code.NOT_FOUND, f"There is no file {source}.") from error


def _check_size(digest: str, expected: int, found: int) -> None:
    if found != expected:
        raise HomespunError(
            Code.DIGEST_MISMATCH,
            f"Blob {digest} was announced with {expected} bytes, but it has {found}.",
            wanted_bytes=expected, had_bytes=found)


def _ended_early(digest: str, stored: int, size: int) -> HomespunError:
    return HomespunError(
        Code.UNREACHABLE, f"The transfer of blob {digest} ended after {stored} of {size} bytes.")


def _report(progress: Progress | None, done: int, total: int) -> None:
    if progress is not None:
        progress(done, total)
