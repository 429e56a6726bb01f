"""Snapshots on this peer's disk: a directory, its records, and who must make room for whom.

Blocking: the keeper calls it in threads. Safe for threads of one process; one process has the
directory (the daemon's lock).
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from threading import RLock

from homespun.durable import disk_full_named, sync, sync_directory
from homespun.errors import Code, HomespunError
from peer.snapshots.catalogue import Catalogue
from peer.snapshots.index import SUFFIX, read_records, remove_record, touch_record, write_record
from peer.snapshots.record import (
    CHUNK_BYTES,
    SnapshotKey,
    SnapshotRecord,
    chunk_digest,
    scan,
)

LIMIT_BYTES = 20 << 30
"""What other peers may put here, all together."""
AGE_MAX_S = 7 * 86_400.0
"""A job that nobody asked about for so long is forgotten at start."""
_PART = ".part"
_WRITTEN = ".written"


class SnapshotStore:
    """What is complete here, and what is on its way."""

    def __init__(
        self, root: Path, limit_bytes: int = LIMIT_BYTES, clock: Callable[[], float] = time.time,
    ) -> None:
        """Read the directory, and drop what is torn, unfinished or old.

        Args:
            root: only the store and executors that got a path of it write there.
            limit_bytes: what other peers may put here, all together, >= 0.
            clock: seconds since the epoch, to compare with times of files.

        Raises:
            HomespunError: BAD_CONFIGURATION if the directory cannot be used.
        """
        self.root = root
        self._lock = RLock()
        try:
            root.mkdir(parents=True, exist_ok=True)
            self._catalogue = Catalogue(limit_bytes, _recent(root, clock() - AGE_MAX_S))
            self._sweep()
        except OSError as error:
            raise _unusable(root, error) from error

    def allow(self, limit_bytes: int) -> None:
        """Other peers may put so much here from now on, >= 0; what is here already stays."""
        self._catalogue.limit_bytes = limit_bytes

    # --- what is here ---------------------------------------------------------------------------

    def path(self, key: SnapshotKey) -> Path:
        """Where the file of a key lies or would lie."""
        return self.root / key.checked().file_name

    def staging(self, key: SnapshotKey) -> Path:
        """Where to write the file of a key before `adopt`: a torn one cannot be taken for it."""
        return self.root / (key.checked().file_name + _WRITTEN)

    def record(self, key: SnapshotKey) -> SnapshotRecord | None:
        """What is stored under a key, or None. Notes that somebody asked."""
        record = self._catalogue.records.get(key)
        if record is not None:
            touch_record(self.root, record)
        return record

    def records(self) -> tuple[SnapshotRecord, ...]:
        """All that is stored. Never waits: copying a dict is one step."""
        return tuple(self._catalogue.records.copy().values())

    def complete_position(self, job_id: str, segment: int) -> int:
        """The newest position that `forget_before` named; 0 before that."""
        return self._catalogue.complete.get((job_id, segment), 0)

    def read_chunk(self, record: SnapshotRecord, index: int) -> bytes:
        """One chunk, as it was stored.

        Raises:
            HomespunError: NOT_FOUND when it was dropped meanwhile; DIGEST_MISMATCH when the disk
                gives other bytes: then it is dropped.
        """
        try:
            with self.disk(), self.path(record.key).open("rb") as file:
                file.seek(index * CHUNK_BYTES)
                data = file.read(record.chunk_length(index))
        except FileNotFoundError:
            raise HomespunError(
                Code.NOT_FOUND, f"{record.key.title} is not here any more.") from None
        if chunk_digest(data) != record.chunk_at(index):
            self.remove(record)
            raise HomespunError(
                Code.DIGEST_MISMATCH, f"{record.key.title} is damaged here; it was dropped.")
        return data

    def verified(self, key: SnapshotKey, digest: str) -> Path | None:
        """The file of a key, if it is here and has that content; a damaged one is dropped.

        Args:
            key: which file.
            digest: of the whole snapshot.

        Cost: reads the file.
        """
        record = self.record(key)
        if record is None or record.digest != digest:
            return None
        with contextlib.suppress(OSError):
            if scan(self.path(key)).digest == record.content_digest:
                return self.path(key)
        self.remove(record)
        return None

    # --- what comes -----------------------------------------------------------------------------

    @contextlib.contextmanager
    def staged(self, key: SnapshotKey) -> Iterator[Path]:
        """A path to write the file of a key to; what is not adopted is deleted."""
        path = self.staging(key)
        try:
            yield path
        finally:
            _unlink(path)

    def adopt(
        self, key: SnapshotKey, staging: Path, *, shard_of: tuple[str, int] | None = None,
        expected: str = "",
    ) -> SnapshotRecord:
        """Keep a file that was written here.

        Args:
            key: what it is.
            staging: the file; moved.
            shard_of: digest and size of the snapshot that it is a shard of; None for the whole.
            expected: the digest that the file must have; "" for any.

        Raises:
            HomespunError: NOT_FOUND for no such file; DISK_FULL; DIGEST_MISMATCH, and the file is
                deleted; LIMIT_EXCEEDED for a file of too many chunks.
        """
        try:
            with self.disk():
                content = scan(staging)
        except FileNotFoundError:
            raise HomespunError(Code.NOT_FOUND, f"There is no file {staging} to keep.") from None
        if expected not in ("", content.digest):
            _unlink(staging)
            raise HomespunError(
                Code.DIGEST_MISMATCH, f"What was put together is not {key.title}.",
                found=content.digest)
        digest, size_bytes = shard_of or (content.digest, content.size_bytes)
        record = SnapshotRecord(
            key, digest, size_bytes, content.digest, content.size_bytes,
            content.chunk_digests).checked()
        self.install(record, staging)
        return record

    def install(self, record: SnapshotRecord, file: Path) -> None:
        """Give a file whose content was checked its name, durably.

        Raises:
            HomespunError: DISK_FULL.
        """
        path = self.path(record.key)
        with self.disk():
            sync(file)
        with self.disk(), self._lock:
            if (old := self._catalogue.records.pop(record.key, None)) is not None:
                remove_record(self.root, old)
            os.replace(file, path)
            sync_directory(self.root)
            self._catalogue.parts.pop(file, None)
            try:
                self.retried(lambda: write_record(self.root, record))
            except HomespunError:
                _unlink(path)
                raise
            self._catalogue.records[record.key] = record

    def part(self, record: SnapshotRecord) -> Path:
        """Make room for what arrives, and give the file to write it to.

        The file is as long as the content; what a broken transfer left of it is still in it.

        Raises:
            HomespunError: LIMIT_EXCEEDED or DISK_FULL when room cannot be made.
        """
        path = self.root / f"{record.key.checked().file_name}-{record.content_digest[:16]}{_PART}"
        with self._lock:
            if record.source:
                for going in self._catalogue.going_for(record, path):
                    self.remove(going)
            self._catalogue.parts[path] = record
        with self.disk():
            self.retried(lambda: _stretch(path, record.content_bytes))
        return path

    def drop_part(self, path: Path) -> None:
        """What came of it is worthless, or the disk has no room for it."""
        with self._lock:
            self._catalogue.parts.pop(path, None)
        _unlink(path)

    def similar(self, key: SnapshotKey) -> dict[bytes, tuple[Path, int]]:
        """Where chunks lie that another position of the same file has, by digest.

        Cost: linear in the chunks of those positions.
        """
        found: dict[bytes, tuple[Path, int]] = {}
        for record in sorted(self.records(), key=lambda record: record.key):
            if replace(record.key, position=key.position) == key:
                path = self.path(record.key)
                found |= {digest: (path, at) for at, digest in enumerate(record.chunks())}
        return found

    @contextlib.contextmanager
    def disk(self) -> Iterator[None]:
        """Turn "no space left" into DISK_FULL, and a disk that fails into BAD_CONFIGURATION.

        A file that is not there stays FileNotFoundError: it was forgotten meanwhile.
        """
        try:
            with disk_full_named("snapshot", self.root):
                yield
        except FileNotFoundError:
            raise
        except OSError as error:
            raise _unusable(self.root, error) from error

    def retried(self, write: Callable[[], None]) -> None:
        """Write; on a full disk once more without what is older than complete."""
        try:
            with self.disk():
                write()
        except HomespunError:
            if not self.drop_spares():
                raise
            write()

    # --- what goes ------------------------------------------------------------------------------

    def remove(self, record: SnapshotRecord) -> None:
        """Drop one snapshot."""
        with self._lock:
            if self._catalogue.records.get(record.key) == record:
                del self._catalogue.records[record.key]
                remove_record(self.root, record)
                _unlink(self.path(record.key))

    def forget_before(
        self, job_id: str, segment: int, position: int, first_serial: int = 0
    ) -> None:
        """Keep a position, the newer ones and one older one. A smaller position changes nothing.

        Segments of earlier cuts of the job, those of smaller numbers than `first_serial`, lose what
        is older too: the state of that position is the present cut's.
        """
        with self._lock:
            position = max(position, self.complete_position(job_id, segment))
            of_before = self._catalogue.segments_of(job_id, first_serial)
            for number in (segment, *of_before):
                self._catalogue.complete[job_id, number] = position
                for record in self._catalogue.superseded(job_id, number, position):
                    self.remove(record)
                self._drop_unfinished(job_id, number, position)

    def thin(
        self, job_id: str, segment: int, most: int, spared: frozenset[int] = frozenset()
    ) -> None:
        """Keep what is complete, the spared positions, and of the newer ones the newest so many."""
        with self._lock:
            for record in self._catalogue.surplus(job_id, segment, most):
                if record.key.position not in spared:
                    self.remove(record)

    def drop(self, job_id: str, segment: int) -> None:
        """Forget everything of a segment."""
        with self._lock:
            self._catalogue.complete.pop((job_id, segment), None)
            for record in self._catalogue.of(job_id, segment):
                self.remove(record)
            self._drop_unfinished(job_id, segment)

    def drop_spares(self) -> bool:
        """Drop all that is older than complete, this peer's own too; tell whether there was any.

        For a full disk: what is left still serves every takeover.
        """
        with self._lock:
            spares = self._catalogue.spares()
            for record in spares:
                self.remove(record)
            return bool(spares)

    def _drop_unfinished(self, job_id: str, segment: int, before: int | None = None) -> None:
        """Drop parts, and what an executor began to write and died."""
        for path, record in list(self._catalogue.parts.items()):
            key = record.key
            if (key.job_id, key.segment) == (job_id, segment) and (
                    before is None or key.position < before):
                self.drop_part(path)
        stem = SnapshotKey(job_id, segment, 0).checked().file_name.removesuffix("0")
        for path in self.root.glob(f"{stem}*{_WRITTEN}"):
            position = path.name.removeprefix(stem).removesuffix(_WRITTEN)
            if before is None or (position.isdecimal() and int(position) < before):
                _unlink(path)

    def _sweep(self) -> None:
        """Delete every file that no record speaks for."""
        named = {key.file_name for key in self._catalogue.records}
        for path in self.root.iterdir():
            if path.is_file() and path.name.removesuffix(SUFFIX) not in named:
                path.unlink()


def _recent(root: Path, since: float) -> dict[SnapshotKey, SnapshotRecord]:
    """The records of jobs that somebody asked about since then, without shards of our own."""
    found = [(record, asked_at) for record, asked_at in read_records(root)
             if not record.is_passing]
    recent = {record.key.job_id for record, asked_at in found if asked_at >= since}
    return {record.key: record for record, _ in found if record.key.job_id in recent}


def _unusable(root: Path, error: OSError) -> HomespunError:
    return HomespunError(
        Code.BAD_CONFIGURATION,
        f"The snapshot directory {root} cannot be used: {error.strerror or error}. It must be a "
        "directory that this user can write, on a disk that works.", path=root)


def _stretch(path: Path, size_bytes: int) -> None:
    with path.open("ab") as file:
        file.truncate(size_bytes)


def _unlink(path: Path) -> None:
    """Windows keeps a file that somebody reads; the next start sweeps it up."""
    with contextlib.suppress(FileNotFoundError, PermissionError):
        path.unlink()
