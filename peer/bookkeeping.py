"""Gathers what a daemon gives, and writes it into the ledger now and then."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, tzinfo

import structlog

from homespun.errors import HomespunError
from peer.ledger import Given, Ledger
from peer.metering import Meter
from peer.owner.core.months import month_key

log = structlog.get_logger(__name__)

WRITE_S = 10.0
"""A crash costs the books so much at most."""


@dataclass(slots=True)
class _Work:
    tasks: int = 0
    flops: float = 0.0
    device_s: float = 0.0


class Bookkeeping:
    """One daemon's books. Used by one event loop; only the ledger is touched in threads."""

    def __init__(
        self, ledger: Ledger, meter: Meter, zone: tzinfo, now: Callable[[], float],
        energy_j: Callable[[], float | None], reset_day: Callable[[], int],
    ) -> None:
        """Prepare; `begin` reads the month so far.

        Args:
            ledger: to write into.
            meter: that counts what is moved.
            zone: of the owner's calendar.
            now: Unix time.
            energy_j: of the device since some moment; None where it cannot be measured. May block.
            reset_day: of the owner's month.
        """
        self._ledger, self._meter = ledger, meter
        self._zone, self._now = zone, now
        self._energy_j, self._reset_day = energy_j, reset_day
        self._work: dict[str, _Work] = {}
        self._energy_before_j: float | None = None
        self._month_bytes = 0

    def task_done(self, job_id: str, flops: float, device_s: float) -> None:
        """A task has ended."""
        work = self._work.setdefault(job_id, _Work())
        work.tasks += 1
        work.flops += flops
        work.device_s += device_s

    def month_bytes(self) -> int:
        """Moved beyond the local network in this quota month, as last written."""
        return self._month_bytes

    async def begin(self) -> None:
        """Read the month so far, and put a broken ledger aside."""
        await asyncio.to_thread(self._ledger.put_aside_if_broken)
        self._energy_before_j = await asyncio.to_thread(self._energy_j)
        await self._read_month()

    async def run(self) -> None:
        """Write now and then, until cancelled."""
        while True:
            await asyncio.sleep(WRITE_S)
            await self.write()

    async def write(self) -> None:
        """Write what has been given since; if that fails, keep it for the next time."""
        given = await self._gathered()
        try:
            await asyncio.to_thread(self._ledger.add, given)
        except HomespunError as error:
            log.warning("ledger_not_written", reason=error.message)
            self._keep(given)
        await self._read_month()

    # --- parts ---------------------------------------------------------------------------------

    async def _gathered(self) -> list[Given]:
        """Work and traffic since the last time, on today's page, with the energy shared out."""
        energy_j = await asyncio.to_thread(self._energy_j)
        before_j, self._energy_before_j = self._energy_before_j, energy_j
        work, self._work = self._work, {}
        moved = self._meter.taken()
        device_s = sum(each.device_s for each in work.values())
        used_j = 0.0
        if device_s and energy_j is not None and before_j is not None:
            used_j = max(0.0, energy_j - before_j)
        day = datetime.fromtimestamp(self._now(), self._zone).date().isoformat()
        given = []
        for job_id in sorted({*work, *moved}):
            one = Given(day=day, job_id=job_id)
            if (done := work.get(job_id)) is not None:
                share = done.device_s / device_s if device_s else 0.0
                one = replace(one, tasks=done.tasks, flops=done.flops, device_s=done.device_s,
                              energy_j=used_j * share)
            if (bytes_of := moved.get(job_id)) is not None:
                one = replace(one, sent_bytes=bytes_of.sent_bytes, far_bytes=bytes_of.far_bytes,
                              received_bytes=bytes_of.received_bytes)
            given.append(one)
        return given

    def _keep(self, given: list[Given]) -> None:
        """What a full disk did not take counts all the same, in memory."""
        if self._energy_before_j is not None:
            self._energy_before_j -= sum(one.energy_j for one in given)
        for one in given:
            work = self._work.setdefault(one.job_id, _Work())
            work.tasks += one.tasks
            work.flops += one.flops
            work.device_s += one.device_s
            self._meter.put_back(
                one.job_id, one.sent_bytes, one.received_bytes, one.far_bytes)

    async def _read_month(self) -> None:
        month = month_key(self._now(), self._reset_day(), self._zone)
        try:
            given = await asyncio.to_thread(self._ledger.since, month)
        except HomespunError as error:
            log.warning("ledger_not_read", reason=error.message)
            return
        self._month_bytes = sum(one.far_bytes for one in given)
