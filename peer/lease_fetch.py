"""Fetching what a lease needs, and nothing else: graph, parameters and columns of its segment."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from pathlib import Path

import grpc
import structlog

from dag.cluster import PeerRates
from dag.job import PREDICT, JobSpec
from homespun.blobs.transfer import download_aio
from homespun.errors import Code, HomespunError
from homespun.v1 import blobs_pb2_grpc
from ir.segment import BoundaryKind, Segment
from peer.blob_cache import BlobCache
from peer.executor.messages import Column, Load, TensorFile
from peer.metering import UNMETERED, Route

log = structlog.get_logger(__name__)

FETCHES_AT_ONCE = 4


def load_request(
    spec: JobSpec, segment: Segment, cache: BlobCache, result_path: Path, rates: PeerRates
) -> Load:
    """What the executor is told: where everything lies, once it is fetched, and the result goes."""
    path = cache.store.path
    names = _parameter_names(segment)
    return Load(
        graph_path=str(path(spec.graph_digest)),
        segment=segment,
        training=spec.training,
        trainable=tuple(sorted(spec.trainable)),
        parameters=tuple(
            TensorFile(name=p.name, path=str(path(p.digest)))
            for p in spec.parameters
            if p.name in names
        ),
        columns=tuple(
            Column(name=c.name, split=c.split, path=str(path(c.digest)))
            for c in spec.columns
            if c.name in segment.data_inputs
        ),
        kind=spec.kind,
        rows=spec.rows(PREDICT),
        result_path=str(result_path),
        rates=rates,
    )


def needed_blobs(spec: JobSpec, segment: Segment) -> Mapping[str, int]:
    """Digests of what a segment needs, with the sizes that the job announces."""
    names = _parameter_names(segment)
    blobs = {spec.graph_digest: spec.graph_bytes}
    blobs |= {p.digest: p.blob_bytes for p in spec.parameters if p.name in names}
    blobs |= {c.digest: c.blob_bytes for c in spec.columns if c.name in segment.data_inputs}
    return blobs


async def fetch(
    blobs: Mapping[str, int], cache: BlobCache, open_channel: Callable[[], grpc.aio.Channel],
    route: Route = UNMETERED,
) -> None:
    """Download what the cache lacks; a full disk first gives up what no lease holds.

    Args:
        blobs: digest to size in bytes; held in the cache by the caller.
        cache: where to.
        open_channel: opens an mTLS channel to the broker.
        route: meters what comes.

    Raises:
        HomespunError: DISK_FULL when the disk is too small all the same; what the transfer raises.
    """
    await asyncio.to_thread(cache.make_room, _missing_bytes(blobs, cache))
    try:
        await _download(blobs, cache, open_channel, route)
    except HomespunError as error:
        if error.code is not Code.DISK_FULL:
            raise
        log.warning("cache_emptied", reason=error.message)
        await asyncio.to_thread(cache.clear)
        await _download(blobs, cache, open_channel, route)


async def _download(
    blobs: Mapping[str, int], cache: BlobCache, open_channel: Callable[[], grpc.aio.Channel],
    route: Route,
) -> None:
    gate = asyncio.Semaphore(FETCHES_AT_ONCE)
    async with open_channel() as channel:
        stub = blobs_pb2_grpc.BlobServiceStub(channel)

        async def fetch_one(digest: str, size_bytes: int) -> None:
            async with gate:
                await download_aio(stub, digest, size_bytes, cache.store, pace=route.received)

        try:
            async with asyncio.TaskGroup() as group:
                for digest, size_bytes in blobs.items():
                    group.create_task(fetch_one(digest, size_bytes))
        except* HomespunError as failures:
            raise failures.exceptions[0] from None


def _missing_bytes(blobs: Mapping[str, int], cache: BlobCache) -> int:
    stored = (cache.store.stat(digest).stored_bytes for digest in blobs)
    return sum(blobs.values()) - sum(stored)


def _parameter_names(segment: Segment) -> frozenset[str]:
    """The segment's own parameters, and foreign ones whose values it starts from."""
    foreign = (t.value for t in segment.incoming if t.kind is BoundaryKind.PARAMETER)
    return frozenset((*segment.parameters, *foreign))
