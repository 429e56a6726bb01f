"""Measuring paths to other peers, and letting them measure theirs: seldom, and one at a time."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable

import grpc
import structlog

from homespun.errors import Code, HomespunError
from homespun.ids import PeerId
from homespun.v1 import session_pb2
from peer.links import Measurement, measure
from peer.metering import Meter, Urgency

log = structlog.get_logger(__name__)

ATTEMPTS = 3
PAUSE_S = 3.0
"""Between probes that one peer may send here, and before a refused one of ours is tried again."""
_AGAIN = frozenset({Code.OVERLOADED, Code.NOT_ALLOWED, Code.UNREACHABLE})
"""The other side may be busy with others' probes, or not listen yet."""


class Probes:
    """A daemon's probes, both ways."""

    def __init__(
        self, open_channel: Callable[[str, str], grpc.aio.Channel], meter: Meter
    ) -> None:
        """Probe over channels to (address, peer id), and have it metered."""
        self._open_channel = open_channel
        self._meter = meter
        self._turn = asyncio.Lock()
        self._probed_at_s: dict[str, float] = {}

    def may(self, peer_id: PeerId) -> bool:
        """Whether a peer may probe now: the broker asks for one an hour, and nobody else does."""
        now_s = time.monotonic()
        self._probed_at_s = {
            peer: at_s for peer, at_s in self._probed_at_s.items() if now_s - at_s < PAUSE_S
        }
        if peer_id in self._probed_at_s:
            return False
        self._probed_at_s[peer_id] = now_s
        return True

    async def measure(
        self, request: session_pb2.MeasureLink, send: Callable[[session_pb2.PeerMessage], None]
    ) -> None:
        """Measure a path and send what came out; after a failure it stays unmeasured."""
        try:
            path = await self._measured(request)
        except HomespunError as error:
            log.warning("link_not_measured", to_peer=request.to_peer, reason=error.message)
            return
        except Exception:  # a defect here must not end running work
            log.exception("link_not_measured", to_peer=request.to_peer)
            return
        measured = session_pb2.LinkMeasured(
            to_peer=request.to_peer,
            latency_s=path.latency_s,
            bandwidth_bytes_per_s=path.bandwidth_bytes_per_s,
        )
        send(session_pb2.PeerMessage(link_measured=measured))

    async def _measured(self, request: session_pb2.MeasureLink) -> Measurement:
        for attempt in range(1, ATTEMPTS + 1):
            try:
                return await self._once(request)
            except HomespunError as error:
                if error.code not in _AGAIN or attempt == ATTEMPTS:
                    raise
            await asyncio.sleep(PAUSE_S * random.uniform(1.0, 2.0))
        raise AssertionError("the last attempt returns or raises")

    async def _once(self, request: session_pb2.MeasureLink) -> Measurement:
        """One at a time: two would share the line, and each would see half of it."""
        async with (
            self._turn,
            self._open_channel(request.tensor_address, request.to_peer) as channel,
        ):
            route = await self._meter.route(
                request.tensor_address, urgency=Urgency.TENSOR)
            return await measure(channel, request.to_peer, request.probe_bytes, route=route)
