"""One process at a time in a directory: a lock that the system releases when its holder dies."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from homespun.errors import Code, HomespunError

FILE = "lock"


@contextlib.contextmanager
def locked(directory: Path, holder: str) -> Iterator[None]:
    """Hold a directory for as long as the context lasts.

    Args:
        directory: made if need be.
        holder: the command that holds it, for the message.

    Raises:
        HomespunError: BAD_CONFIGURATION when another process holds it, or it cannot be written.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
        file = (directory / FILE).open("a+b")
    except OSError as error:
        raise HomespunError(
            Code.BAD_CONFIGURATION, f"{directory} cannot be used: {error.strerror or error}"
        ) from error
    with file:
        try:
            _lock(file)
        except OSError:
            raise HomespunError(
                Code.BAD_CONFIGURATION,
                f"another `{holder}` uses {directory}: stop it first, or use another directory",
            ) from None
        yield  # closing the file releases the lock


if os.name == "nt":
    import msvcrt

    def _lock(file: BinaryIO) -> None:
        file.seek(0)
        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]

else:
    import fcntl

    def _lock(file: BinaryIO) -> None:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
