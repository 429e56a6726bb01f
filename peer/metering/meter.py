"""Counts what moves, by job, and lets it go no faster than the owner allows beyond the LAN."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from peer.metering.bucket import TokenBucket
from peer.metering.nearness import Nearness
from peer.metering.turns import Turns, Urgency

LOOK_S = 1.0
"""Longest wait before the rate is looked at again: a limit that is lifted holds at once."""
SMALL_BYTES = 4_096
"""Acknowledgements and heartbeats do not wait, so that a slow line is not taken for a dead one."""


@dataclass(frozen=True, slots=True)
class Rates:
    """Bytes per second beyond the local network; 0 for no limit."""

    sending: int = 0
    receiving: int = 0


@dataclass(slots=True)
class Moved:
    """Bytes that went and came; `far_bytes` of both are those beyond the local network."""

    sent_bytes: int = 0
    received_bytes: int = 0
    far_bytes: int = 0


class Meter:
    """All of a daemon's traffic. Used by one event loop."""

    def __init__(
        self, rates: Callable[[], Rates] = Rates, nearness: Nearness | None = None
    ) -> None:
        """Start counting.

        Args:
            rates: the owner's, asked again and again.
            nearness: tells which addresses are near.
        """
        self._rates = rates
        self._nearness = nearness or Nearness()
        self._sending, self._receiving = _Direction(), _Direction()
        self._moved: dict[str, Moved] = {}
        self.total = Moved()
        """Since the start."""

    async def route(
        self, address: str, job_id: str = "", urgency: Urgency = Urgency.BULK
    ) -> Route:
        """The way to or from an address.

        Args:
            address: `host:port`, or what gRPC says of a caller.
            job_id: whom its bytes are counted for; "" for none.
            urgency: of what goes over it.
        """
        return Route(self, job_id, urgency, is_near=await self._nearness.is_near(address))

    def taken(self) -> dict[str, Moved]:
        """What has moved since the last call, by job."""
        moved, self._moved = self._moved, {}
        return moved

    def put_back(
        self, job_id: str, sent_bytes: int, received_bytes: int, far_bytes: int
    ) -> None:
        """What `taken` gave and nobody could write down."""
        moved = self._of(job_id)
        moved.sent_bytes += sent_bytes
        moved.received_bytes += received_bytes
        moved.far_bytes += far_bytes

    async def sent(
        self, job_id: str, size_bytes: int, urgency: Urgency, *, is_near: bool
    ) -> None:
        """Count what goes, once it may go."""
        if not is_near:
            await self._sending.passes(size_bytes, urgency, lambda: self._rates().sending)
        for moved in (self.total, self._of(job_id)):
            moved.sent_bytes += size_bytes
            moved.far_bytes += 0 if is_near else size_bytes

    async def received(
        self, job_id: str, size_bytes: int, urgency: Urgency, *, is_near: bool
    ) -> None:
        """Count what has come, and wait before more is read."""
        for moved in (self.total, self._of(job_id)):
            moved.received_bytes += size_bytes
            moved.far_bytes += 0 if is_near else size_bytes
        if not is_near:
            await self._receiving.passes(size_bytes, urgency, lambda: self._rates().receiving)

    def _of(self, job_id: str) -> Moved:
        return self._moved.setdefault(job_id, Moved())


class _Direction:
    """One bucket, and the turns of those who wait before it."""

    def __init__(self) -> None:
        self._bucket = TokenBucket()
        self._turns = Turns()
        self._changed = asyncio.Event()
        """Set, and made anew, when it may be another's turn."""

    async def passes(
        self, size_bytes: int, urgency: Urgency, rate: Callable[[], int]
    ) -> None:
        now = asyncio.get_running_loop().time
        if size_bytes > SMALL_BYTES and rate() > 0:
            await self._wait(size_bytes, urgency, rate)
        else:
            self._bucket.wait_s(rate(), now())
        self._bucket.take(size_bytes, now())

    async def _wait(self, size_bytes: int, urgency: Urgency, rate: Callable[[], int]) -> None:
        now = asyncio.get_running_loop().time
        leave, waiting = self._turns.leave, self._turns.join(size_bytes, urgency)
        try:
            while True:
                if self._turns.next() is not waiting:
                    await self._changed.wait()
                elif (wait_s := self._bucket.wait_s(rate(), now())) > 0:
                    await asyncio.sleep(min(wait_s, LOOK_S))
                else:
                    leave = self._turns.went
                    return
        finally:
            leave(waiting)
            self._changed.set()
            self._changed = asyncio.Event()


class Route:
    """A meter's view of one connection."""

    def __init__(
        self, meter: Meter | None, job_id: str, urgency: Urgency, *, is_near: bool
    ) -> None:
        """Use `Meter.route`; without a meter nothing is counted or held."""
        self._meter = meter
        self._job_id = job_id
        self._urgency = urgency
        self.is_near = is_near

    async def sent(self, size_bytes: int) -> None:
        """Call it before sending so many bytes."""
        if self._meter is not None:
            await self._meter.sent(
                self._job_id, size_bytes, self._urgency, is_near=self.is_near)

    async def received(self, size_bytes: int) -> None:
        """Call it after so many bytes have come."""
        if self._meter is not None:
            await self._meter.received(
                self._job_id, size_bytes, self._urgency, is_near=self.is_near)


UNMETERED = Route(None, "", Urgency.BULK, is_near=True)


async def route_of(
    meter: Meter | None, address: str, job_id: str = "", urgency: Urgency = Urgency.BULK
) -> Route:
    """`Meter.route` where there is a meter, else a route that is neither counted nor held."""
    return UNMETERED if meter is None else await meter.route(address, job_id, urgency)
