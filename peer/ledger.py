"""What this peer has given, by day and job: a small database in the peer's directory.

The daemon adds to it; `peer earnings` reads it beside. It is for the owner, and decides nothing but
the monthly quota, so one that cannot be read is put aside and a new one begun.
"""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from collections.abc import Iterable, Iterator
from dataclasses import astuple, dataclass, fields
from pathlib import Path

import structlog

from homespun.errors import Code, HomespunError

log = structlog.get_logger(__name__)

BUSY_TIMEOUT_S = 5.0
_SCHEMA = """
CREATE TABLE IF NOT EXISTS given (
    day TEXT NOT NULL,
    job_id TEXT NOT NULL,
    tasks INTEGER NOT NULL,
    flops REAL NOT NULL,
    device_s REAL NOT NULL,
    energy_j REAL NOT NULL,
    sent_bytes INTEGER NOT NULL,
    received_bytes INTEGER NOT NULL,
    far_bytes INTEGER NOT NULL,
    PRIMARY KEY (day, job_id)
) WITHOUT ROWID
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """What was given to one job on one day.

    Attributes:
        day: of the owner's calendar, `2026-11-27`.
        job_id: "" for what was moved for no job, such as measuring a path.
        tasks: that have ended.
        flops: of those tasks, as the operators' costs say.
        device_s: that they took on the device.
        energy_j: of the device meanwhile; 0 where it cannot be measured.
        sent_bytes, received_bytes: all that was moved.
        far_bytes: of these, beyond the local network.
    """

    day: str
    job_id: str
    tasks: int = 0
    flops: float = 0.0
    device_s: float = 0.0
    energy_j: float = 0.0
    sent_bytes: int = 0
    received_bytes: int = 0
    far_bytes: int = 0


_NAMES = tuple(field.name for field in fields(Given))
_SUMS = _NAMES[2:]
_ADD = (
    f"INSERT INTO given ({', '.join(_NAMES)}) VALUES ({', '.join('?' for _ in _NAMES)}) "
    "ON CONFLICT (day, job_id) DO UPDATE SET "
    + ", ".join(f"{name} = {name} + excluded.{name}" for name in _SUMS))


class Ledger:
    """The database of one peer. Blocking; safe for threads of one process."""

    def __init__(self, path: Path) -> None:
        """Open it, or begin it."""
        self._path = path
        self._lock = threading.Lock()

    def add(self, given: Iterable[Given]) -> None:
        """Add to what is there.

        Raises:
            HomespunError: DISK_FULL or BAD_CONFIGURATION when it cannot be written.
        """
        rows = [astuple(each) for each in given]
        if not rows:
            return
        with self._lock, self._opened() as database:
            database.executemany(_ADD, rows)

    def since(self, day: str) -> list[Given]:
        """What was given on and after a day, oldest first; none without a database.

        Raises:
            HomespunError: BAD_CONFIGURATION when it cannot be read.
        """
        if not self._path.exists():
            return []
        with self._lock, self._opened() as database:
            rows = database.execute(
                f"SELECT {', '.join(_NAMES)} FROM given WHERE day >= ? ORDER BY day, job_id",
                (day,)).fetchall()
        return [Given(**dict(zip(_NAMES, row, strict=True))) for row in rows]

    def put_aside_if_broken(self) -> None:
        """Begin anew where the file is no database; what it held stays beside it."""
        try:
            self.since("")
        except HomespunError as error:
            log.warning("ledger_put_aside", reason=error.message)
            with contextlib.suppress(OSError):
                self._path.replace(self._path.with_suffix(".broken"))

    @contextlib.contextmanager
    def _opened(self) -> Iterator[sqlite3.Connection]:
        """A connection in one transaction."""
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            database = sqlite3.connect(self._path, timeout=BUSY_TIMEOUT_S)
            try:
                database.execute("PRAGMA journal_mode = WAL")
                database.execute("PRAGMA synchronous = NORMAL")
                database.execute(_SCHEMA)
                with database:
                    yield database
            finally:
                database.close()
        except (sqlite3.Error, OSError) as error:
            is_full = "full" in str(error)
            raise HomespunError(
                Code.DISK_FULL if is_full else Code.BAD_CONFIGURATION,
                f"The ledger {self._path} cannot be used: {error}.", path=self._path) from error
