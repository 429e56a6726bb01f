"""A directory of blobs named by their BLAKE3: the one store of broker, peer and client.

A blob is `root/ab/abcdef...`; while it arrives it is the same name with `.part`, whose length says
where to go on, also after a restart. A file without `.part` is always whole: it was hashed from
disk and synced before it got its name. The store does not know who may read or write what.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import BinaryIO

from blake3 import blake3

from homespun.durable import disk_full_named, sync, sync_directory
from homespun.errors import Code, HomespunError
from homespun.ids import Digest, is_digest

COPY_BYTES = 1 << 20
MAX_BLOB_BYTES = 1 << 44
"""16 TiB: no honest blob is larger, and file offsets stay far from 2**63."""
_PART = ".part"
_INCOMING = "incoming"
_STRIPES = 256
_BINARY = getattr(os, "O_BINARY", 0)


@dataclass(frozen=True, slots=True)
class BlobState:
    """How much of a blob is stored.

    Attributes:
        complete: whether the whole blob is here, verified.
        stored_bytes: bytes here, also of an incomplete blob; a writer goes on from this offset.
    """

    complete: bool
    stored_bytes: int


def digest_of(source: bytes | Path) -> Digest:
    """BLAKE3-256 of bytes or of a file, in hexadecimal. Cost: linear in the bytes."""
    if isinstance(source, bytes):
        return Digest(blake3(source).hexdigest())
    hasher = blake3()
    with source.open("rb") as file:
        while block := file.read(COPY_BYTES):
            hasher.update(block)
    return Digest(hasher.hexdigest())


class BlobStore:
    """Blobs in a directory. Safe for threads of one process.

    Two processes that write one digest at once do not corrupt it either: both write the same bytes
    at the same offsets, and what does not hash to its name is never given that name.
    """

    def __init__(self, root: Path, quota_bytes: int | None = None) -> None:
        """Open a store, creating its directory.

        Args:
            root: the directory; only the store writes in it.
            quota_bytes: most bytes that blobs and parts may take, >= 0; None for no limit.

        Raises:
            HomespunError: BAD_CONFIGURATION if the directory cannot be used.
        """
        self.root = root
        self.quota_bytes = quota_bytes
        self._locks = tuple(Lock() for _ in range(_STRIPES))
        self._usage_lock = Lock()
        try:
            self._clear_incoming()
            self._used_bytes = sum(_size(path) or 0 for path in root.glob("??/*"))
        except OSError as error:
            raise HomespunError(
                Code.BAD_CONFIGURATION,
                f"The blob directory {root} cannot be used: {error.strerror or error}. "
                "It must be a directory that this user can write.",
                path=root,
            ) from error

    @property
    def used_bytes(self) -> int:
        """Bytes that blobs and parts take."""
        return self._used_bytes

    def path(self, digest: str) -> Path:
        """Where a complete blob of this digest lies or would lie.

        Raises:
            HomespunError: INVALID_ARGUMENT if `digest` has not the form of a digest: text from
                outside reaches the file system only through here.
        """
        if not is_digest(digest):
            raise HomespunError(
                Code.INVALID_ARGUMENT,
                f"{digest[:80]!r} is not a blob digest: 64 lower-case hexadecimal digits expected.",
            )
        return self.root / digest[:2] / digest

    def stat(self, digest: str) -> BlobState:
        """Tell how much of a blob is stored."""
        path = self.path(digest)
        if (size := _size(path)) is not None:
            return BlobState(True, size)
        return BlobState(False, _size(_part_of(path)) or 0)

    def append(self, digest: str, size_bytes: int, offset: int, data: bytes) -> BlobState:
        """Add the next bytes of a blob; the last ones complete and verify it.

        Args:
            digest: the blob's digest.
            size_bytes: announced size of the whole blob, in [0, MAX_BLOB_BYTES].
            offset: where `data` begins; must be the stored bytes.
            data: the next bytes; may be empty, which completes an empty blob.

        Returns:
            The state after it. For a blob that is complete already: its state, nothing written.

        Raises:
            HomespunError: CONFLICT if `offset` is not where the store stands (`stored_bytes` says
                where); LIMIT_EXCEEDED for more bytes than announced or over the quota; DISK_FULL,
                with the part as it was; DIGEST_MISMATCH if the whole does not hash to its name
                (the part is removed: begin again at 0).
        """
        path = self.path(digest)
        part = _part_of(path)
        _check_extent(digest, size_bytes, offset, len(data))
        with self._lock_of(digest):
            if (size := _size(path)) is not None:
                return BlobState(True, size)
            stored = _size(part) or 0
            if stored > size_bytes:
                self._discard(part)
                raise _conflict(digest, offset, 0)
            if offset != stored:
                raise _conflict(digest, offset, stored)
            with self._charge(digest, size_bytes - stored, len(data)), self._disk():
                _write_at(part, offset, data)
            if offset + len(data) < size_bytes:
                return BlobState(False, offset + len(data))
            return self._complete(digest, part, path)

    def put(self, source: bytes | Path) -> Digest:
        """Store bytes or a copy of a file, and tell the digest. A blob that is here stays.

        Raises:
            HomespunError: DISK_FULL or LIMIT_EXCEEDED, nothing stored; NOT_FOUND for no such file.
        """
        if isinstance(source, Path):
            return self._put_file(source)
        digest = digest_of(source)
        with self._lock_of(digest):
            if _size(self.path(digest)) is None:
                self._install(digest, source)
        return digest

    def open_read(self, digest: str, offset: int = 0) -> BinaryIO:
        """Open a complete blob for reading at `offset`.

        Raises:
            HomespunError: NOT_FOUND if it is not complete; INVALID_ARGUMENT for an offset outside.
        """
        path = self.path(digest)
        size = _size(path)
        if size is None:
            raise HomespunError(
                Code.NOT_FOUND, f"Blob {digest} is not stored here.", digest=digest)
        if not 0 <= offset <= size:
            raise HomespunError(
                Code.INVALID_ARGUMENT,
                f"Offset {offset} lies outside blob {digest} of {size} bytes.",
                digest=digest, offset=offset, size_bytes=size)
        file = path.open("rb")
        file.seek(offset)
        return file

    def remove(self, digest: str) -> int:
        """Delete a blob and its part, if any; returns the bytes freed."""
        path = self.path(digest)
        with self._lock_of(digest):
            return self._discard(path) + self._discard(_part_of(path))

    def _complete(self, digest: str, part: Path, path: Path) -> BlobState:
        found = digest_of(part)
        if found != digest:
            self._discard(part)
            raise HomespunError(
                Code.DIGEST_MISMATCH,
                f"The bytes received for blob {digest} hash to {found}; they were discarded.",
                digest=digest, found=found)
        with self._disk():
            sync(part)
            os.replace(part, path)
            sync_directory(path.parent)
        return BlobState(True, path.stat().st_size)

    def _put_file(self, source: Path) -> Digest:
        try:
            with source.open("rb") as file:
                copy, digest = self._copy_incoming(file)
        except FileNotFoundError as error:
            raise HomespunError(Code.NOT_FOUND, f"There is no file {source}.") from error
        with self._lock_of(digest):
            if _size(self.path(digest)) is None:
                self._adopt(copy, self.path(digest))
            else:
                self._discard(copy)
        return digest

    def _copy_incoming(self, file: BinaryIO) -> tuple[Path, Digest]:
        """Copy into the store's own disk and hash what is copied, so that both are the same."""
        hasher = blake3()
        copied = 0
        with self._disk():
            handle, name = tempfile.mkstemp(dir=self.root / _INCOMING)
        try:
            while block := file.read(COPY_BYTES):
                with self._charge("a file", len(block), len(block)), self._disk():
                    _write_all(handle, block)
                copied += len(block)
                hasher.update(block)
            with self._disk():
                os.fsync(handle)
            os.close(handle)
        except BaseException:
            self._drop_incoming(handle, name, copied)
            raise
        return Path(name), Digest(hasher.hexdigest())

    def _install(self, digest: str, data: bytes) -> None:
        """Write whole bytes under their name. The digest's lock is held."""
        with self._charge(digest, len(data), len(data)), self._disk():
            handle, name = tempfile.mkstemp(dir=self.root / _INCOMING)
            try:
                _write_all(handle, data)
                os.fsync(handle)
                os.close(handle)
            except BaseException:
                self._drop_incoming(handle, name, 0)
                raise
            self._adopt(Path(name), self.path(digest))

    def _drop_incoming(self, handle: int, name: str, counted_bytes: int) -> None:
        with suppress(OSError):
            os.close(handle)
        Path(name).unlink(missing_ok=True)
        with self._usage_lock:
            self._used_bytes -= counted_bytes

    def _adopt(self, copy: Path, path: Path) -> None:
        path.parent.mkdir(exist_ok=True)
        os.replace(copy, path)
        sync_directory(path.parent)
        self._discard(_part_of(path))

    def _discard(self, path: Path) -> int:
        size = _size(path)
        if size is None:
            return 0
        path.unlink(missing_ok=True)
        with self._usage_lock:
            self._used_bytes -= size
        return size

    def _clear_incoming(self) -> None:
        """Copies that a crash interrupted have no name yet: they are worth nothing."""
        incoming = self.root / _INCOMING
        incoming.mkdir(parents=True, exist_ok=True)
        for stale in incoming.iterdir():
            stale.unlink(missing_ok=True)

    @contextmanager
    def _charge(self, subject: str, needed_bytes: int, written_bytes: int) -> Iterator[None]:
        """Count bytes before they are written, and take them back if the write fails.

        The whole rest of the blob must fit, so that a blob that cannot fit is refused at its start.
        """
        with self._usage_lock:
            room = None if self.quota_bytes is None else self.quota_bytes - self._used_bytes
            if room is not None and needed_bytes > room:
                raise HomespunError(
                    Code.LIMIT_EXCEEDED,
                    f"Blob {subject} needs {needed_bytes} more bytes; the store's quota of "
                    f"{self.quota_bytes} bytes leaves {room}.",
                    wanted_bytes=needed_bytes, had_bytes=room, limit="quota_bytes")
            self._used_bytes += written_bytes
        try:
            yield
        except BaseException:
            with self._usage_lock:
                self._used_bytes -= written_bytes
            raise

    def _disk(self) -> AbstractContextManager[None]:
        return disk_full_named("blob", self.root)

    def _lock_of(self, digest: str) -> Lock:
        return self._locks[int(digest[:2], 16)]


def _check_extent(digest: str, size_bytes: int, offset: int, count: int) -> None:
    if not 0 <= size_bytes <= MAX_BLOB_BYTES or offset < 0:
        raise HomespunError(
            Code.INVALID_ARGUMENT,
            f"Blob {digest}: size {size_bytes} and offset {offset} must be >= 0, and the size at "
            f"most {MAX_BLOB_BYTES}.")
    if offset + count > size_bytes:
        raise HomespunError(
            Code.LIMIT_EXCEEDED,
            f"Blob {digest} was announced with {size_bytes} bytes, but {offset + count} came.",
            wanted_bytes=offset + count, had_bytes=size_bytes, limit="size_bytes")


def _conflict(digest: str, offset: int, stored: int) -> HomespunError:
    return HomespunError(
        Code.CONFLICT,
        f"Blob {digest} stands at {stored} bytes, not at offset {offset}; go on from there.",
        digest=digest, stored_bytes=stored)


def _write_at(part: Path, offset: int, data: bytes) -> None:
    """Write at an offset; a write that fails midway leaves the part as it was."""
    part.parent.mkdir(exist_ok=True)
    handle = os.open(part, os.O_RDWR | os.O_CREAT | _BINARY, 0o600)
    try:
        os.lseek(handle, offset, os.SEEK_SET)
        _write_all(handle, data)
    except OSError:
        with suppress(OSError):
            os.ftruncate(handle, offset)
        raise
    finally:
        os.close(handle)


def _write_all(handle: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(handle, view):]


def _part_of(path: Path) -> Path:
    return path.with_name(path.name + _PART)


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return None
