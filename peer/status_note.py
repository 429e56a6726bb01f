"""What a daemon leaves on disk for others to read, and what a crashed one has left behind."""

from __future__ import annotations

import contextlib
import os

import structlog

from peer.settings import PeerDirectory

log = structlog.get_logger(__name__)


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
    """Results that a crashed daemon did not bring to the broker: their leases are gone."""
    for path in directory.results.glob("*.safetensors"):
        with contextlib.suppress(OSError):
            path.unlink()
