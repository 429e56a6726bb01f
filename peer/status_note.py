"""What a daemon leaves on disk for others to read, and what a crashed one has left behind."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import structlog

from homespun.errors import Code, HomespunError
from peer.settings import PeerDirectory

if TYPE_CHECKING:
    import psutil

    from peer.core.state import LeaseRecord, PeerState, StandbyRecord
    from peer.owner.core.allowance import Allowance
    from peer.owner.core.readings import Readings
    from peer.snapshots.keeper import HeldSnapshot

log = structlog.get_logger(__name__)

STATUS_BYTES_MAX = 1 << 20
SHOWN_READINGS = (
    "idle_s", "is_on_battery", "is_metered", "temperature_c", "power_w", "others_share",
    "free_disk_bytes", "free_memory_bytes")
TOLD_TO_GO = "it was told to leave or to stop, and has handed over what it held"
WITHOUT_A_WORD = "it was killed, or the machine stopped, so that it could not say why"
LOOK_INTO_LOG = "Look into its log and the system's, if that was not you. `peer run` starts it."
OWNERS_REMEDY = {Code.NOT_ALLOWED: "Ask the operator of the network."}
"""Where the catalog's says nothing to the owner of a machine."""
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


def what_is_held(
    state: PeerState, snapshots: Iterable[HeldSnapshot], now_ns: int
) -> dict[str, object]:
    """The part of the note that says what this peer has, and what that waits for."""
    kept_bytes = [-(-each.size_bytes // each.data_shards) for each in snapshots]
    return {
        "leases": [_lease(lease, now_ns) for lease in state.leases.values()],
        "standbys": [_standby(standby) for standby in state.standbys.values()],
        "snapshots": {"count": len(kept_bytes), "bytes": sum(kept_bytes)},
    }


def what_is_allowed(allowance: Allowance, readings: Readings | None) -> dict[str, object]:
    """The part of the note that says what the owner lets this peer do, and why not more."""
    shown = {} if readings is None else {
        name: {"value": read.value, "source": read.source, "problem": read.problem}
        for name in SHOWN_READINGS for read in (getattr(readings, name),)}
    return {
        "readings": shown,
        "availability": allowance.availability,
        "duty": allowance.duty,
        "reasons": [asdict(reason) for reason in allowance.reasons],
        "closes_unix_ms": allowance.closes_unix_ms,
        "without_effect": list(allowance.without_effect),
    }


def _lease(lease: LeaseRecord, now_ns: int) -> dict[str, object]:
    waiting = lease.waiting
    return {
        "job_id": lease.job_id,
        "segment": lease.segment,
        "phase": lease.phase,
        "steps_done": lease.steps_done,
        "waiting_for": waiting.what if waiting else "",
        "waiting_from": lease.peer_of(waiting.segment) if waiting else "",
        "waiting_s": (now_ns - lease.waiting_since_ns) / 1e9 if waiting else 0.0,
        "problem": lease.snapshot_problem,
    }


def _standby(standby: StandbyRecord) -> dict[str, object]:
    return {
        "job_id": standby.asked.job_id,
        "segment": standby.asked.segment,
        "level": standby.level or "",
        "asked_level": standby.asked.level,
        "problem": standby.problem,
    }


def remove_status(directory: PeerDirectory) -> None:
    """The daemon ends: nobody must take it for running."""
    with contextlib.suppress(OSError):
        directory.status.unlink(missing_ok=True)


def note_end(directory: PeerDirectory, error: HomespunError | None, now_unix_ms: int) -> None:
    """Leave why a daemon has ended, unless another one runs here and is what there is to say.

    Args:
        directory: its own.
        error: what ended it; None if it was told to go.
        now_unix_ms: the moment.
    """
    if daemon_of(read_status(directory)) is not None:
        return
    ended = {
        "code": "" if error is None else str(error.code),
        "text": TOLD_TO_GO if error is None else error.message,
        "remedy": "" if error is None else OWNERS_REMEDY.get(error.code, error.remedy),
        "at_unix_ms": now_unix_ms}
    write_status(directory, json.dumps({"ended": ended}).encode())


def ending_of(status: Mapping[str, Any]) -> dict[str, Any] | None:
    """Why the daemon of a note ended, if none runs; None if there has been none.

    A note that still has a process was left by one that could not say why.
    """
    if "pid" not in status:
        return status.get("ended")
    return {"code": "", "text": WITHOUT_A_WORD, "remedy": LOOK_INTO_LOG,
            "at_unix_ms": int(status.get("updated_unix_ms", 0))}


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
