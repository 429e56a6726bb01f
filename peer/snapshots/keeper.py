"""Everything about snapshots that a daemon asks for: keep, give, fetch, forget.

File work runs in threads, so no heartbeat waits for a disk.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from pathlib import Path

from homespun.errors import Code, HomespunError
from peer.core.events import Holder, SnapshotSource
from peer.metering import Meter
from peer.snapshots.client import OpenChannel, SnapshotClient
from peer.snapshots.erasure import write_shard
from peer.snapshots.gathering import Gathering
from peer.snapshots.line import PROGRESS_TIMEOUT_S
from peer.snapshots.record import SnapshotKey, SnapshotRecord
from peer.snapshots.server import Permit, SnapshotServer
from peer.snapshots.store import LIMIT_BYTES, SnapshotStore

GIVEN_AT_ONCE = 3
"""Holders that are served at the same time: they share one line."""


@dataclass(frozen=True, slots=True)
class Kept:
    """A snapshot of this peer's own on its disk."""

    job_id: str
    segment: int
    position: int
    digest: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Given:
    """How giving a snapshot to a holder ended: `error` is None when the holder has it durably."""

    holder: Holder
    error: HomespunError | None


@dataclass(frozen=True, slots=True)
class HeldSnapshot:
    """A snapshot, or one shard of it, on this peer's disk; `digest`, `size_bytes`: of the whole."""

    job_id: str
    segment: int
    position: int
    digest: str
    size_bytes: int
    shard: int
    data_shards: int


class SnapshotKeeper:
    """The snapshots of one daemon.

    Attributes:
        server: the service for other peers; `server.add_to(grpc_server)`.
        client: the calls to other peers.
    """

    def __init__(
        self, root: Path, open_channel: OpenChannel, *, limit_bytes: int = LIMIT_BYTES,
        clock: Callable[[], float] = time.time, timeout_s: float = PROGRESS_TIMEOUT_S,
        meter: Meter | None = None,
    ) -> None:
        """Read what is on disk (blocking, a few small files for each snapshot).

        Args:
            root: a directory for snapshots only.
            open_channel: (address, peer id) -> a fresh channel to that peer.
            limit_bytes: what other peers may put here, all together.
            clock: seconds since the epoch.
            timeout_s: a transfer that does not move for so long ends.
            meter: counts and holds what goes and comes; None for neither.

        Raises:
            HomespunError: BAD_CONFIGURATION if the directory cannot be used.
        """
        self._store = SnapshotStore(root, limit_bytes, clock)
        self.server = SnapshotServer(self._store, timeout_s, meter)
        self.client = SnapshotClient(self._store, open_channel, timeout_s, meter)

    def allow(self, limit_bytes: int) -> None:
        """Other peers may put so much here from now on, >= 0; what is here already stays."""
        self._store.allow(limit_bytes)

    def path_for(self, job_id: str, segment: int, position: int) -> Path:
        """Where an executor writes a snapshot before `keep` takes it."""
        return self._store.staging(SnapshotKey(job_id, segment, position))

    async def keep(self, job_id: str, segment: int, position: int, path: Path) -> Kept:
        """Take a written snapshot over, durably.

        Args:
            job_id: whose state it is,
            segment: of which segment,
            position: at the beginning of which step (of inference: microbatch).
            path: the file, as `path_for` named it; it is moved.

        Raises:
            HomespunError: NOT_FOUND, DISK_FULL, or LIMIT_EXCEEDED above 64 GiB.
        """
        key = SnapshotKey(job_id, segment, position)
        record = await asyncio.to_thread(self._store.adopt, key, path)
        return Kept(job_id, segment, position, record.digest, record.size_bytes)

    async def give(
        self, kept: Kept, holders: tuple[Holder, ...], data_shards: int = 1,
    ) -> AsyncIterator[Given]:
        """Send a kept snapshot to its holders; one that fails does not stop the others.

        Args:
            kept: what `keep` answered.
            holders: who gets it; `Holder.shard` says which shard where there are shards.
            data_shards: how many different shards give the whole; 1: each holder gets the whole.

        Yields:
            How it ended with each holder, as it ends. Go through all, or close the iterator: that
            ends what is under way.
        """
        turn = asyncio.Semaphore(GIVEN_AT_ONCE)
        tasks = {
            asyncio.create_task(self._give_one(turn, kept, holder, data_shards))
            for holder in holders}
        try:
            for ended in asyncio.as_completed(tasks):
                yield await ended
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def fetch(
        self, job_id: str, segment: int, position: int, source: SnapshotSource,
    ) -> Path:
        """Have a whole snapshot on this disk, its digest checked, and tell where.

        Args:
            job_id: whose state,
            segment: of which segment,
            position: and at which position.
            source: its digest and size, and who has it; asked only if it is not here.

        Raises:
            HomespunError: what the last holder that could be asked said; NOT_FOUND for no holders;
                DISK_FULL.
        """
        key = SnapshotKey(job_id, segment, position)
        own = await asyncio.to_thread(self._store.verified, key, source.digest)
        return own or await Gathering(self._store, self.client, key, source).whole()

    def permit(
        self, job_id: str, segment: int, source_peer: str, bytes_max: int, first_serial: int = 0
    ) -> None:
        """Let a peer put snapshots of a segment here, and no other one.

        Args:
            job_id: whose state,
            segment: and of which segment.
            source_peer: the peer that holds the segment.
            bytes_max: of one snapshot or shard, >= 0; up to eight positions may lie here.
            first_serial: segments of earlier cuts of the job: what is newly complete makes theirs
                older than complete, too.
        """
        self.server.permits[job_id, segment] = Permit(source_peer, bytes_max, first_serial)

    def revoke(self, job_id: str, segment: int) -> None:
        """Nobody may put snapshots of a segment here any more. What is here stays."""
        self.server.permits.pop((job_id, segment), None)

    async def forget_before(
        self, job_id: str, segment: int, position: int, first_serial: int = 0
    ) -> None:
        """Drop what is older than `position`, except the newest of that.

        Args:
            job_id: whose state,
            segment: and of which segment.
            position: what is complete.
            first_serial: segments of earlier cuts of the job: the same goes for each of theirs.
        """
        await asyncio.to_thread(
            self._store.forget_before, job_id, segment, position, first_serial)

    async def thin(
        self, job_id: str, segment: int, most: int, spared: frozenset[int] = frozenset()
    ) -> None:
        """Keep what is complete, the spared positions, and of the newer ones the newest so many."""
        await asyncio.to_thread(self._store.thin, job_id, segment, most, spared)

    async def drop(self, job_id: str, segment: int) -> None:
        """Drop everything of a segment."""
        await asyncio.to_thread(self._store.drop, job_id, segment)

    async def make_room(self) -> bool:
        """Drop all that is older than complete, because an executor found the disk full.

        Returns:
            Whether there was any: then writing once more may help.
        """
        return await asyncio.to_thread(self._store.drop_spares)

    def held(self) -> list[HeldSnapshot]:
        """What is complete here, in order of job, segment and position."""
        return [
            HeldSnapshot(
                record.key.job_id, record.key.segment, record.key.position, record.digest,
                record.size_bytes, record.key.shard, record.key.data_shards)
            for record in sorted(self._store.records(), key=lambda record: record.key)
            if not record.is_passing]

    async def _give_one(
        self, turn: asyncio.Semaphore, kept: Kept, holder: Holder, data_shards: int,
    ) -> Given:
        try:
            async with turn, self._file_for(kept, holder.shard, data_shards) as record:
                await self.client.put(record, holder)
            return Given(holder, None)
        except HomespunError as error:
            return Given(holder, error)

    @contextlib.asynccontextmanager
    async def _file_for(
        self, kept: Kept, shard: int, data_shards: int,
    ) -> AsyncIterator[SnapshotRecord]:
        """The file that a holder gets; a shard is made for it, and goes afterwards."""
        whole = await asyncio.to_thread(self._whole, kept)
        if data_shards == 1:
            yield whole
            return
        key = replace(whole.key, shard=shard, data_shards=data_shards)
        made = await asyncio.to_thread(self._shard, whole, key)
        try:
            yield made
        finally:
            if made.is_passing:
                await asyncio.shield(asyncio.to_thread(self._store.remove, made))

    def _whole(self, kept: Kept) -> SnapshotRecord:
        key = SnapshotKey(kept.job_id, kept.segment, kept.position)
        record = self._store.record(key)
        if record is None or record.digest != kept.digest:
            raise _gone(key)
        return record

    def _shard(self, whole: SnapshotRecord, key: SnapshotKey) -> SnapshotRecord:
        """One that is kept here for a former holder of the segment, or else a new one."""
        kept = self._store.record(key)
        if kept is not None and kept.digest == whole.digest:
            return kept
        with self._store.staged(key) as path:
            source = self._store.path(whole.key)
            try:
                self._store.retried(lambda: write_shard(source, key.data_shards, key.shard, path))
            except FileNotFoundError:
                raise _gone(whole.key) from None
            return self._store.adopt(key, path, shard_of=(whole.digest, whole.size_bytes))


def _gone(key: SnapshotKey) -> HomespunError:
    return HomespunError(Code.NOT_FOUND, f"{key.title} is not here any more.")
