"""Putting what a segment made into the broker's store."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import grpc
import structlog

from homespun.blobs.store import digest_of
from homespun.blobs.transfer import upload_aio
from homespun.errors import Code, HomespunError
from homespun.v1 import blobs_pb2_grpc
from peer.metering import Route

log = structlog.get_logger(__name__)

RETRY_S = 5.0
WAITS = frozenset({Code.UNREACHABLE, Code.TIMED_OUT, Code.OVERLOADED, Code.DISK_FULL})
"""What a trained result outlasts: the broker is away or busy, or its operator must make room."""


async def upload_result(
    path: Path, job_id: str, broker_channel: Callable[[], grpc.aio.Channel], route: Route
) -> str:
    """Upload a file; hours of training wait for a broker's return, for as long as the caller does.

    Args:
        path: the file.
        job_id: whose result.
        broker_channel: opens a channel to the broker.
        route: meters what is sent.

    Returns:
        Its digest.

    Raises:
        HomespunError: what the broker refuses for good.
    """
    digest = await asyncio.to_thread(digest_of, path)
    while True:
        try:
            async with broker_channel() as channel:
                stub = blobs_pb2_grpc.BlobServiceStub(channel)
                await upload_aio(stub, digest, path, pace=route.sent)
            return digest
        except HomespunError as error:
            if error.code not in WAITS:
                raise
            log.warning("result_upload_waits", job_id=job_id, reason=error.message)
            await asyncio.sleep(RETRY_S)  # the transfer has already backed off
