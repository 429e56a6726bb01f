"""What a daemon leaves on disk for others to read, and what a crashed one has left behind."""

from __future__ import annotations

import contextlib
import json
import os
from typing import TYPE_CHECKING, Any

import structlog

from peer.settings import PeerDirectory

if TYPE_CHECKING:
    import psutil

log = structlog.get_logger(__name__)

STATUS_BYTES_MAX = 1 << 20
START_SLACK_S = 60.0
"""A process that began so long after the note was written is not the one that wrote it."""


def write_status(directory: PeerDirectory, status: bytes) -> None:
    """Replace the note for `peer status` in one step; a full disk costs no more than the note."""
    partial = directory.status.with_suffix(".part")
    try:
        partial.write_bytes(status)
        os.replace(partial, directory.status)
    except OSError as error:
        log.warning("status_not_written", reason=str(error))


def remove_status(directory: PeerDirectory) -> None:
    """The daemon ends: nobody must take it for running."""
    with contextlib.suppress(OSError):
        directory.status.unlink(missing_ok=True)


def clear_results(directory: PeerDirectory) -> None:
    """Results and boundary logs that a crashed daemon has left: their leases are gone."""
    for pattern in ("*.safetensors", "*.log.*"):
        for path in directory.results.glob(pattern):
            with contextlib.suppress(OSError):
                path.unlink()


def read_status(directory: PeerDirectory) -> dict[str, Any]:
    """The note; empty if no daemon has left one, or if it was cut off while being written."""
    try:
        with directory.status.open("rb") as file:
            said = json.loads(file.read(STATUS_BYTES_MAX))
    except (OSError, ValueError):
        return {}
    return said if isinstance(said, dict) else {}


def daemon_of(status: dict[str, Any]) -> psutil.Process | None:
    """The process that wrote a note; None if it is gone, though the note may still be there."""
    import psutil

    try:
        process = psutil.Process(int(status["pid"]))
        written_s = int(status["updated_unix_ms"]) / 1000
        is_it = process.create_time() <= written_s + START_SLACK_S
        return process if is_it and process.status() != psutil.STATUS_ZOMBIE else None
    except (KeyError, ValueError, TypeError, psutil.Error):
        return None
