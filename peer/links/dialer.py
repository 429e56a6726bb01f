"""Keeps a link's stream up from the side that dials, with jittered backoff between attempts."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable

import grpc

from homespun.errors import HomespunError
from peer.links.link import Link
from peer.links.messages import (
    EXCHANGE,
    JOB_METADATA,
    LEASE_METADATA,
    PROTOCOL_METADATA,
    Messages,
    open_stream,
)
from peer.links.settings import PROTOCOL_VERSION
from peer.metering import UNMETERED, Route

RouteOf = Callable[[], Awaitable[Route]]


async def unmetered() -> Route:
    """A route that is neither counted nor held."""
    return UNMETERED


def dial(
    link: Link, open_channel: Callable[[], grpc.aio.Channel], route: RouteOf = unmetered
) -> None:
    """Dial the other side of `link` until the link ends; returns at once.

    Args:
        link: whose remote peer to dial. One side of a link dials, the other accepts.
        open_channel: opens a fresh channel to that peer, verifying who answers. Each attempt has
            its own, so that gRPC's backoff does not add to ours and a renewed certificate is used.
        route: meters what goes and comes.
    """
    name = f"link {link.local_id} -> {link.remote_id}: dial"
    link.keep_dialer(asyncio.get_running_loop().create_task(
        _keep_up(link, open_channel, route), name=name))


async def _keep_up(
    link: Link, open_channel: Callable[[], grpc.aio.Channel], route: RouteOf
) -> None:
    settings = link.settings
    now = asyncio.get_running_loop().time
    longest_s = settings.backoff_min_s
    while not link.ended.is_set():
        began_at = now()
        try:
            await _one_stream(link, open_channel, route)
        except HomespunError as error:
            link.stream_ended(error)
        if now() - began_at > settings.backoff_reset_s:
            longest_s = settings.backoff_min_s
        # Full jitter: two hundred links that broke together do not come back together.
        await _wait(link.ended, random.uniform(0, longest_s))
        longest_s = min(2 * longest_s, settings.backoff_max_s)


async def _one_stream(
    link: Link, open_channel: Callable[[], grpc.aio.Channel], route: RouteOf
) -> None:
    metered = await route()
    channel = open_channel()
    try:
        call = open_stream(channel, EXCHANGE, (
            (JOB_METADATA, link.job_id), (PROTOCOL_METADATA, str(PROTOCOL_VERSION)),
            (LEASE_METADATA, f"{link.tokens[0]}:{link.tokens[1]}")))
        await link.run(Messages(call, link.remote_id, metered))
        call.cancel()
    finally:
        await channel.close(None)


async def _wait(ended: asyncio.Event, longest_s: float) -> None:
    try:
        async with asyncio.timeout(longest_s):
            await ended.wait()
    except TimeoutError:
        pass
