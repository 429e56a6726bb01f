"""One small file beside each snapshot that says what it must contain: written last, read at start.

A snapshot counts as stored when its record is there, so what a crash left half done has none.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import msgspec

from homespun.durable import sync, sync_directory
from homespun.errors import HomespunError
from peer.snapshots.record import CHUNKS_MAX, DIGEST_BYTES, SnapshotRecord

SUFFIX = ".record"
_UNFINISHED = ".new"
_BYTES_MAX = 2 * CHUNKS_MAX * DIGEST_BYTES + 4_096


def write_record(root: Path, record: SnapshotRecord) -> None:
    """Say durably that the file of `record` is complete.

    Raises:
        OSError: when the disk refuses.
    """
    path = _path(root, record)
    unfinished = path.with_name(path.name + _UNFINISHED)
    unfinished.write_bytes(msgspec.json.encode(record))
    sync(unfinished)
    os.replace(unfinished, path)
    sync_directory(root)


def remove_record(root: Path, record: SnapshotRecord) -> None:
    """From now on the file of `record` is not stored, whatever of it is there."""
    _path(root, record).unlink(missing_ok=True)


def touch_record(root: Path, record: SnapshotRecord) -> None:
    """Note that somebody asked about it."""
    with contextlib.suppress(FileNotFoundError):
        os.utime(_path(root, record))


def read_records(root: Path) -> Iterator[tuple[SnapshotRecord, float]]:
    """Every record whose file has the size that it says, and when it was last asked about."""
    for path in root.glob("*" + SUFFIX):
        with contextlib.suppress(OSError, ValueError, msgspec.MsgspecError, HomespunError):
            status = path.stat()
            if status.st_size > _BYTES_MAX:
                continue
            record = msgspec.json.decode(path.read_bytes(), type=SnapshotRecord).checked()
            file = root / record.key.file_name
            if _path(root, record) == path and file.stat().st_size == record.content_bytes:
                yield record, status.st_mtime


def _path(root: Path, record: SnapshotRecord) -> Path:
    return root / (record.key.file_name + SUFFIX)
