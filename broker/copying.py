"""Copies of the journal of a broker that runs: one at a time, in its own directory, then sent."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

from broker.clock import unix_ms
from broker.disk_reserve import disk_shortage
from broker.driver import Driver
from broker.journal_copy import seal
from broker.settings import BrokerDirectory
from homespun.errors import Code, HomespunError

_NAME = "journal.copying"


class Copying:
    """Makes copies."""

    def __init__(self, driver: Driver, directory: BrokerDirectory, network_id: str) -> None:
        """Copy the journal that `driver` writes."""
        self._driver = driver
        self._directory = directory
        self._network_id = network_id
        self._is_busy = False

    @contextlib.asynccontextmanager
    async def copied(self) -> AsyncIterator[Path]:
        """A sealed copy of what is durable now; it is gone at the end.

        Raises:
            HomespunError: OVERLOADED while another copy is being made or sent; DISK_FULL.

        Cost: linear in the journal. Events wait while it is read, not while it is sealed and sent.
        """
        if self._is_busy:
            raise HomespunError(
                Code.OVERLOADED, "Another copy of the journal is being made: try again later.")
        self._is_busy = True
        path = self._directory.root / _NAME
        making = asyncio.ensure_future(self._make(path))
        try:
            await asyncio.shield(making)  # threads cannot be called off
            yield path
        finally:
            making.add_done_callback(lambda done: self._end(done, path))

    async def _make(self, path: Path) -> None:
        self._make_room(path)
        await self._driver.copy_journal(path)
        await asyncio.to_thread(seal, path, self._network_id, unix_ms(self._driver.now_ns()))

    def _make_room(self, path: Path) -> None:
        path.unlink(missing_ok=True)  # of a broker that was killed meanwhile
        size_bytes = self._directory.journal.stat().st_size
        if (shortage := disk_shortage(self._directory.root, "a copy", size_bytes)) is not None:
            raise shortage

    def _end(self, making: asyncio.Future[None], path: Path) -> None:
        self._is_busy = False
        path.unlink(missing_ok=True)
        if not making.cancelled():
            making.exception()  # has been raised where somebody still waited for it
