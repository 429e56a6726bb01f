"""`BlobService` over a `BlobStore`: checks who may, moves bytes, keeps the event loop free.

File work runs in threads. Every wait for the other side has a deadline, so a caller that goes
silent in the middle of a stream holds nothing for longer than `IDLE_TIMEOUT_S`.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, BinaryIO, TypeVar

import grpc

from homespun.blobs.store import MAX_BLOB_BYTES, BlobStore
from homespun.errors import Code, HomespunError
from homespun.pieces import Pieces
from homespun.rpc_errors import abort
from homespun.v1 import blobs_pb2, blobs_pb2_grpc

CHUNK_BYTES = 1 << 20
"""Most data of one message that is taken..."""
SENT_BYTES = 256 << 10
"""...and that is sent: on a slow line it must arrive before who waits for it loses patience."""
IDLE_TIMEOUT_S = 60.0
MAX_DIGESTS = 10_000

Context = grpc.aio.ServicerContext[Any, Any]
Identify = Callable[[Context], str]
"""Tells the verified identity of a caller; raises HomespunError NOT_AUTHENTICATED."""
May = Callable[[str, str, str, int], HomespunError | None]
"""(identity, action `stat` | `read` | `write`, digest, bytes to write) -> why not, or None."""

_Answer = TypeVar("_Answer")
_log = logging.getLogger(__name__)


def _answers_errors(
    method: Callable[..., Awaitable[_Answer]],
) -> Callable[..., Awaitable[_Answer]]:
    """Send a HomespunError as its status and metadata, and anything else as INTERNAL."""

    @functools.wraps(method)
    async def answer(self: BlobService, request: Any, context: Context) -> _Answer:
        try:
            return await method(self, request, context)
        except HomespunError as error:
            failure = error
        except TimeoutError:
            failure = HomespunError(
                Code.TIMED_OUT, f"The caller was silent for {IDLE_TIMEOUT_S:.0f} s.")
        except OSError as error:
            _log.exception("blob store failed")
            failure = HomespunError(
                Code.INTERNAL, f"The blob store failed: {error.strerror or type(error).__name__}.")
        await abort(context, failure)

    return answer


class BlobService(blobs_pb2_grpc.BlobServiceServicer):
    """The broker's blobs, for those who may."""

    def __init__(
        self, store: BlobStore, identify: Identify, may: May,
        max_blob_bytes: int = MAX_BLOB_BYTES,
    ) -> None:
        """Serve `store`.

        Args:
            store: the blobs; its quota bounds them all together.
            identify: who calls.
            may: what they may do.
            max_blob_bytes: largest blob accepted.
        """
        self._store = store
        self._identify = identify
        self._may = may
        self._max_blob_bytes = max_blob_bytes

    @_answers_errors
    async def Stat(  # noqa: N802 - gRPC's name
        self, request: blobs_pb2.StatBlobRequest, context: Context
    ) -> blobs_pb2.StatBlobResponse:
        """Tell how much of each blob is stored."""
        identity = self._identify(context)
        if len(request.digests) > MAX_DIGESTS:
            raise HomespunError(
                Code.LIMIT_EXCEEDED,
                f"{len(request.digests)} blobs were asked about; at most {MAX_DIGESTS} at once.")
        for digest in request.digests:
            self._check(identity, "stat", digest)
        return await asyncio.to_thread(self._describe, tuple(request.digests))

    @_answers_errors
    async def Upload(  # noqa: N802 - gRPC's name
        self, requests: AsyncIterator[blobs_pb2.UploadBlobRequest], context: Context
    ) -> blobs_pb2.UploadBlobResponse:
        """Take a blob's bytes from the stored offset on."""
        identity = self._identify(context)
        opening = await _next(requests)
        if opening is None:
            raise HomespunError(Code.INVALID_ARGUMENT, "An upload without any message.")
        digest, size, offset = opening.digest, opening.size_bytes, opening.offset
        self._check(identity, "write", digest, size)
        if size > self._max_blob_bytes:
            raise HomespunError(
                Code.LIMIT_EXCEEDED,
                f"Blob {digest} of {size} bytes is larger than {self._max_blob_bytes}, the limit.",
                wanted_bytes=size, had_bytes=self._max_blob_bytes, limit="max_blob_bytes")
        state = await asyncio.to_thread(self._store.append, digest, size, offset, opening.data)
        while not state.complete and (message := await _next(requests)) is not None:
            state = await asyncio.to_thread(
                self._store.append, digest, size, state.stored_bytes, message.data)
        return blobs_pb2.UploadBlobResponse(
            stored_bytes=state.stored_bytes, complete=state.complete)

    @_answers_errors
    async def Download(  # noqa: N802 - gRPC's name
        self, request: blobs_pb2.DownloadBlobRequest, context: Context
    ) -> None:
        """Send a blob's bytes from an offset on."""
        self._check(self._identify(context), "read", request.digest)
        file = await self._open(request.digest, request.offset)
        try:
            size = self._store.stat(request.digest).stored_bytes
            await self._send(file, size, context)
        finally:
            file.close()

    async def _open(self, digest: str, offset: int) -> BinaryIO:
        """Open a blob in a thread; a caller who goes meanwhile leaves no file open."""
        opening = asyncio.ensure_future(asyncio.to_thread(self._store.open_read, digest, offset))
        try:
            return await asyncio.shield(opening)
        except asyncio.CancelledError:
            opening.add_done_callback(_close)
            raise

    async def _send(self, file: BinaryIO, size: int, context: Context) -> None:
        announced, pieces = size, Pieces(SENT_BYTES)
        while data := await asyncio.to_thread(file.read, pieces.size_bytes):
            began_s = time.monotonic()
            async with asyncio.timeout(IDLE_TIMEOUT_S):
                await context.write(
                    blobs_pb2.DownloadBlobResponse(size_bytes=announced, data=data))
            pieces.took(len(data), time.monotonic() - began_s)
            announced = 0

    def _describe(self, digests: tuple[str, ...]) -> blobs_pb2.StatBlobResponse:
        answer = blobs_pb2.StatBlobResponse()
        for digest in digests:
            state = self._store.stat(digest)
            answer.blobs.add(
                digest=digest, complete=state.complete, stored_bytes=state.stored_bytes)
        return answer

    def _check(self, identity: str, action: str, digest: str, size_bytes: int = 0) -> None:
        self._store.path(digest)
        if (refusal := self._may(identity, action, digest, size_bytes)) is not None:
            raise refusal


def _close(opening: asyncio.Future[BinaryIO]) -> None:
    """Close what was opened for nobody."""
    if not opening.cancelled() and opening.exception() is None:
        opening.result().close()


async def _next(
    requests: AsyncIterator[blobs_pb2.UploadBlobRequest],
) -> blobs_pb2.UploadBlobRequest | None:
    """The next message, or None at the end."""
    async with asyncio.timeout(IDLE_TIMEOUT_S):
        message = await anext(requests, None)
    if message is not None and len(message.data) > CHUNK_BYTES:
        raise HomespunError(
            Code.LIMIT_EXCEEDED, f"A chunk has {len(message.data)} bytes; at most {CHUNK_BYTES}.")
    return message
