"""What the broker leaves free on its disk: a journal that cannot grow stops it."""

from __future__ import annotations

import shutil
from pathlib import Path

from homespun.errors import Code, HomespunError

DISK_RESERVE_BYTES = 256 * 2**20
"""Nothing but the journal may take the last of the disk."""


def disk_shortage(place: Path, what: str, size_bytes: int) -> HomespunError | None:
    """Why something must not be stored; None if it may.

    Args:
        place: on the disk in question.
        what: is to be stored, such as `a blob`.
        size_bytes: its size.
    """
    room = shutil.disk_usage(place).free - DISK_RESERVE_BYTES
    if size_bytes <= room:
        return None
    return HomespunError(
        Code.DISK_FULL,
        f"the broker's disk has no room for {what} of {size_bytes} bytes",
        wanted_bytes=size_bytes, had_bytes=max(0, room),
    )
