"""Getting a snapshot from who has it: one holder after the other, or several shards at a time.

A holder that fails is asked again after the others; what had arrived from it is not sent again.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import combinations, islice
from pathlib import Path

from homespun.errors import Code, HomespunError
from peer.core.events import Holder, SnapshotSource
from peer.snapshots.client import SnapshotClient
from peer.snapshots.erasure import join_shards
from peer.snapshots.record import SnapshotKey
from peer.snapshots.store import SnapshotStore
from peer.snapshots.transfer import Tally

ATTEMPTS_MAX = 4
"""Times in a row that one holder is asked without a chunk having moved."""
PAUSE_S = 0.5
JOINS_MAX = 64
"""Choices of shards that are tried where one of them must be damaged."""
_FINAL = frozenset({Code.DISK_FULL, Code.LIMIT_EXCEEDED, Code.CERTIFICATE_EXPIRED})
"""Another holder does not help."""
_USELESS = frozenset({
    Code.NOT_FOUND, Code.DIGEST_MISMATCH, Code.NOT_ALLOWED, Code.NOT_AUTHENTICATED,
    Code.INVALID_ARGUMENT, Code.INCOMPATIBLE_VERSION,
})
"""The same holder does not help."""


@dataclass(slots=True)
class _Asked:
    holder: Holder
    failures: int = 0


class Gathering:
    """One snapshot on its way from its holders to this disk."""

    def __init__(
        self, store: SnapshotStore, client: SnapshotClient, key: SnapshotKey,
        source: SnapshotSource,
    ) -> None:
        """Prepare; `whole` does the work. `key` is that of the whole."""
        self._store = store
        self._client = client
        self._key = key
        self._source = source
        self._queue = deque(_Asked(holder) for holder in source.holders)
        self._got: list[int] = []
        self._error = HomespunError(Code.NOT_FOUND, f"Nobody is known who has {key.title}.")

    async def whole(self) -> Path:
        """Have the whole on this disk.

        Raises:
            HomespunError: what the last holder said, when too few are left (shards that arrived
                stay for the next try); DISK_FULL.
        """
        if self._source.data_shards == 1:
            await self._gather(1)
            return self._store.path(self._key)
        self._got = await asyncio.to_thread(self._own_shards)
        await self._gather(self._source.data_shards)
        tried = 0
        try:
            while True:
                # One of the shards may be a lie: then those with one more are tried.
                for chosen in islice(self._choices(tried), JOINS_MAX):
                    if await asyncio.to_thread(self._join, chosen):
                        return self._store.path(self._key)
                tried = len(self._got)
                await self._gather(tried + 1)
        finally:
            await asyncio.shield(asyncio.to_thread(self._drop_passing))

    def _choices(self, tried: int) -> Iterator[tuple[int, ...]]:
        """Sets of as many shards as it takes; once some were tried, those with the newest one."""
        count = self._source.data_shards
        if not tried:
            return combinations(self._got, count)
        return ((*rest, self._got[-1]) for rest in combinations(self._got[:-1], count - 1))

    async def _gather(self, wanted: int) -> None:
        """Have so many different files.

        Raises:
            HomespunError: the last failure when the holders do not suffice.
        """
        lacking = wanted - len(self._got)
        workers = [asyncio.create_task(self._one_more()) for _ in range(lacking)]
        try:
            await asyncio.gather(*workers)
        finally:
            for worker in workers:
                worker.cancel()
            await asyncio.gather(*workers, return_exceptions=True)
        if len(self._got) < wanted:
            raise self._error

    async def _one_more(self) -> None:
        """Get one file that nobody has got yet, from whichever holder gives it."""
        while self._queue:
            asked = self._queue.popleft()
            if asked.holder.shard in self._got:
                continue
            await asyncio.sleep(PAUSE_S * asked.failures)
            if await self._is_given(asked):
                self._got.append(asked.holder.shard)
                return

    async def _is_given(self, asked: _Asked) -> bool:
        key = self._key_of(asked.holder.shard)
        tally = Tally(self._client.tally)
        try:
            await self._client.get(
                key, self._source.digest, self._source.size_bytes, asked.holder, tally)
            return True
        except HomespunError as error:
            self._error = error
        if self._error.code in _FINAL:
            raise self._error
        asked.failures = 0 if tally.received_bytes else asked.failures + 1
        if self._error.code not in _USELESS and asked.failures < ATTEMPTS_MAX:
            self._queue.append(asked)
        return False

    def _key_of(self, shard: int) -> SnapshotKey:
        if self._source.data_shards == 1:
            return self._key
        return replace(self._key, shard=shard, data_shards=self._source.data_shards)

    def _own_shards(self) -> list[int]:
        """Shards that this peer keeps for the segment's former holder, whole and undamaged."""
        keys = [record.key for record in self._store.records()
                if record.key == self._key_of(record.key.shard)]
        return [key.shard for key in keys if self._store.verified(key, self._source.digest)]

    def _join(self, chosen: tuple[int, ...]) -> bool:
        files = {shard: self._store.path(self._key_of(shard)) for shard in chosen}
        try:
            with self._store.staged(self._key) as path:
                self._store.retried(lambda: join_shards(files, self._source.size_bytes, path))
                self._store.adopt(self._key, path, expected=self._source.digest)
        except FileNotFoundError:
            self._error = HomespunError(
                Code.NOT_FOUND, f"A shard of {self._key.title} was forgotten meanwhile.")
            return False
        except HomespunError as error:
            self._error = error
            if error.code is not Code.DIGEST_MISMATCH:
                raise
            return False
        return True

    def _drop_passing(self) -> None:
        for shard in self._got:
            record = self._store.record(self._key_of(shard))
            if record is not None and record.is_passing:
                self._store.remove(record)
