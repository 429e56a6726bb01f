"""Putting a file together from chunks: those that lie here already, and those that arrive.

Blocking: run it in threads. Two assemblies of one file do not harm each other: a chunk is written
only after its digest was checked, at the places where the offer says that it belongs.
"""

from __future__ import annotations

from pathlib import Path

from homespun.errors import Code, HomespunError
from peer.snapshots.record import CHUNK_BYTES, SnapshotRecord, chunk_digest, scan
from peer.snapshots.store import SnapshotStore


class Assembly:
    """One file on its way.

    Attributes:
        record: what the file must contain.
        missing: chunks that must arrive, one for each content that is not here.
    """

    def __init__(self, store: SnapshotStore, record: SnapshotRecord) -> None:
        """Make room, and collect what is here: of a broken transfer, and of other positions.

        Cost: reads what may be here, and copies what is.

        Raises:
            HomespunError: LIMIT_EXCEEDED or DISK_FULL.
        """
        self.record = record
        self.missing: set[int] = set()
        self._store = store
        self._is_here = self._was_kept()
        if self._is_here:
            return
        self._part = store.part(record)
        self._places: dict[bytes, list[int]] = {}
        for index, digest in enumerate(record.chunks()):
            self._places.setdefault(digest, []).append(index)
        similar = store.similar(record.key)
        self.missing = {
            places[0] for digest, places in self._places.items()
            if not self._collected(digest, places, similar.get(digest))}

    def add(self, index: int, data: bytes) -> None:
        """A chunk arrived.

        Raises:
            HomespunError: INVALID_ARGUMENT for a chunk that is not missing; DIGEST_MISMATCH;
                DISK_FULL; CONFLICT when the file was forgotten meanwhile.
        """
        title = self.record.key.title
        if index not in self.missing:
            raise HomespunError(
                Code.INVALID_ARGUMENT, f"Chunk {index} of {title} was sent but not wanted.")
        digest = self.record.chunk_at(index)
        if chunk_digest(data) != digest:
            raise HomespunError(
                Code.DIGEST_MISMATCH, f"Chunk {index} of {title} arrived damaged; it was refused.",
                chunk=index)
        self._write(self._places[digest], data)
        self.missing.remove(index)

    def finish(self) -> None:
        """All chunks are here: check the whole, and keep it durably.

        Raises:
            HomespunError: DIGEST_MISMATCH, and what came is dropped; DISK_FULL.
        """
        if self._is_here:
            return
        try:
            self._check()
            self._store.install(self.record, self._part)
        except FileNotFoundError:
            raise self._forgotten() from None

    def _was_kept(self) -> bool:
        """Whether the same file is complete here: only the answer to its sender was lost."""
        key, stored = self.record.key, self._store.record(self.record.key)
        return (stored is not None and stored.content_digest == self.record.content_digest
                and self._store.verified(key, self.record.digest) is not None)

    def _check(self) -> None:
        content = scan(self._part)
        if content.digest != self.record.content_digest:
            self._store.drop_part(self._part)
            raise HomespunError(
                Code.DIGEST_MISMATCH,
                f"The chunks of {self.record.key.title} are not what was announced; they were "
                "dropped.", found=content.digest)

    def _collected(
        self, digest: bytes, places: list[int], similar: tuple[Path, int] | None,
    ) -> bool:
        """Whether a chunk lies here; then it is at all its places."""
        sources = [(self._part, index) for index in places]
        for path, index in ([similar] if similar else []) + sources:
            data = _read(path, index, self.record.chunk_length(places[0]))
            if chunk_digest(data) == digest:
                if path != self._part or len(places) > 1:
                    self._write(places, data)
                return True
        return False

    def _write(self, places: list[int], data: bytes) -> None:
        try:
            self._store.retried(lambda: _write_at(self._part, places, data))
        except FileNotFoundError:
            raise self._forgotten() from None
        except HomespunError:  # the disk is full: what came of it is all that can be given back
            self._store.drop_part(self._part)
            raise

    def _forgotten(self) -> HomespunError:
        return HomespunError(
            Code.CONFLICT, f"{self.record.key.title} was forgotten while it arrived.")


def _read(path: Path, index: int, length: int) -> bytes:
    """A chunk; less than `length` bytes, or none, where the file has no more or is gone."""
    try:
        with path.open("rb") as file:
            file.seek(index * CHUNK_BYTES)
            return file.read(length)
    except FileNotFoundError:
        return b""


def _write_at(path: Path, places: list[int], data: bytes) -> None:
    with path.open("r+b") as file:
        for index in places:
            file.seek(index * CHUNK_BYTES)
            file.write(data)
