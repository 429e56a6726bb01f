"""Files that survive a crash, and what a full disk means."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from homespun.errors import Code, HomespunError

_FULL = frozenset({errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)})


def sync(path: Path) -> None:
    """Make a file's bytes durable."""
    with path.open("r+b") as file:
        os.fsync(file.fileno())


def sync_directory(path: Path) -> None:
    """Make a rename durable where a directory can be synced; Windows does it by itself."""
    if os.name == "nt":
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def disk_full_named(directory: str, root: Path) -> Iterator[None]:
    """Turn "no space left" into DISK_FULL.

    Args:
        directory: what the directory is for, for the message.
        root: the directory.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in _FULL:
            raise
        raise HomespunError(
            Code.DISK_FULL, f"The disk of the {directory} directory {root} is full.", path=root,
        ) from error
