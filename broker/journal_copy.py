"""Copies of the journal: made while the broker runs, verified, and put back.

A copy is one SQLite file: the journal as it was at one moment, and a *seal* with the network's id
and a digest of every event. So a copy that was cut short, altered or taken elsewhere is refused
before anything is replaced. docs/backup.md says what else a network needs to be restored.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from blake3 import blake3

from broker.core import invariants
from broker.core.events import JournalRestored
from broker.core.machine import Broker
from broker.driver import replayed
from broker.journal import Journal, errors_of
from broker.settings import BrokerDirectory
from homespun.durable import disk_full_named, sync, sync_directory
from homespun.errors import Code, HomespunError
from homespun.units import format_time

FORMAT = 1
_SEAL = "journal_copy"
_RESTORING = "journal.restoring"
_SIDE_FILES = ("-wal", "-shm")
"""What SQLite keeps beside a database that is open, or that a killed process had open."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Seal:
    """What a copy says of itself.

    Attributes:
        network_id: whose journal it is.
        copied_unix_ms: when it was made.
        events: how many are in it.
        digest: BLAKE3 over all of them, in order.
    """

    network_id: str
    copied_unix_ms: int
    events: int
    digest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Restored:
    """What a restore has done, or would do.

    Attributes:
        seal: of the copy.
        unfinished_jobs: ids of jobs that go on, oldest first.
        kept: where the journal of before is; None if there was none, or nothing was replaced.
    """

    seal: Seal
    unfinished_jobs: tuple[str, ...]
    kept: Path | None


def seal(path: Path, network_id: str, copied_unix_ms: int) -> Seal:
    """Finish a copy that `Journal.copy_to` has written. Cost: linear in it."""
    with errors_of(path), closing(sqlite3.connect(path)) as database, database:
        count, digest = _digest(database)
        found = Seal(network_id=network_id, copied_unix_ms=copied_unix_ms, events=count,
                     digest=digest)
        database.execute(
            f"CREATE TABLE {_SEAL} (format INTEGER NOT NULL, network_id TEXT NOT NULL, "
            "copied_unix_ms INTEGER NOT NULL, events INTEGER NOT NULL, digest TEXT NOT NULL)")
        database.execute(
            f"INSERT INTO {_SEAL} VALUES (?, ?, ?, ?, ?)",
            (FORMAT, network_id, copied_unix_ms, count, digest))
    sync(path)
    return found


def verify(path: Path) -> Seal:
    """Check a copy: the database's own structure, its seal, and the digest of its events.

    The file is not changed. That its events can be applied is another matter: `restore` tries.

    Raises:
        HomespunError: BAD_CONFIGURATION: damaged, altered, of a newer format, or no copy.

    Cost: linear in the copy.
    """
    if not path.is_file():
        raise HomespunError(Code.BAD_CONFIGURATION, f"There is no file {path}.", path=path)
    # Immutable: nothing is made beside a file that may lie on a read-only disk.
    where = f"{path.absolute().as_uri()}?mode=ro&immutable=1"
    with errors_of(path), closing(sqlite3.connect(where, uri=True)) as database:
        problems = [str(row[0]) for row in database.execute("PRAGMA integrity_check(5)")]
        if problems != ["ok"]:
            raise _unusable(path, "; ".join(problems)[:500])
        found = _read_seal(path, database)
        if (found.events, found.digest) != _digest(database):
            raise _unusable(path, "its events are not those that it was sealed with")
    return found


def restore(
    path: Path, place: BrokerDirectory, network_id: str, event: JournalRestored, *,
    replace: bool = False, dry_run: bool = False,
) -> Restored:
    """Put a copy in the place of a broker's journal, once it has proved to be whole.

    The copy is brought into the broker's directory under another name, verified there and applied,
    event by event, with all invariants; then `event` is added, so that nothing that was given out
    after the copy was made can be given out again (docs/backup.md). Only then it replaces the
    journal, in one step; the journal of before is kept beside it.

    Args:
        path: the copy.
        place: the broker's directory.
        network_id: of the authority in that directory.
        event: who restores, why and when.
        replace: whether a journal with events may be replaced.
        dry_run: verify, and replace nothing; a broker may run meanwhile.

    Raises:
        HomespunError: CONFLICT: a broker runs in the directory, its journal has events, or the copy
            is of another network. BAD_CONFIGURATION as `verify`, or where events cannot be applied.
            DISK_FULL. Nothing is replaced then.

    Cost: linear in both journals.
    """
    found = verify(path)
    if found.network_id != network_id:
        raise HomespunError(
            Code.CONFLICT, f"{path} is of network {found.network_id}; {place.root} is of "
            f"{network_id}. Restore it where that network's `ca` directory is.")
    if not dry_run:
        _require_replaceable(place, replace=replace)
    with _brought_in(path, place) as incoming:
        if verify(incoming) != found:
            raise _unusable(path, "it changed while it was read")
        core = _reopened(incoming, event)
        jobs = tuple(job_id for job_id in core.state.unfinished)
        kept = None if dry_run else _exchange(incoming, place.journal, found)
    return Restored(seal=found, unfinished_jobs=jobs, kept=kept)


def _digest(database: sqlite3.Connection) -> tuple[int, str]:
    """Number of events and BLAKE3 over them; each field is preceded by its length."""
    count, hasher = 0, blake3()
    for row in database.execute("SELECT seq, at_ns, kind, payload FROM events ORDER BY seq"):
        for field in row:
            data = str(field).encode()
            hasher.update(len(data).to_bytes(8, "little") + data)
        count += 1
    return count, hasher.hexdigest()


def _read_seal(path: Path, database: sqlite3.Connection) -> Seal:
    tables = {row[0] for row in database.execute("SELECT name FROM sqlite_schema")}
    if _SEAL not in tables or "events" not in tables:
        raise _unusable(path, "it was not made by `broker db backup`")
    version, *values = database.execute(
        f"SELECT format, network_id, copied_unix_ms, events, digest FROM {_SEAL}").fetchone()
    if version != FORMAT:
        raise HomespunError(
            Code.BAD_CONFIGURATION,
            f"{path} has format {version}; this version knows {FORMAT}. Update it.")
    return Seal(network_id=str(values[0]), copied_unix_ms=int(values[1]), events=int(values[2]),
                digest=str(values[3]))


def _require_replaceable(place: BrokerDirectory, *, replace: bool) -> None:
    """No broker runs, and nobody's journal is replaced unasked.

    Opening a journal takes its lock, and folds in what a killed broker left beside it.
    """
    if not place.journal.exists():
        return
    try:
        journal = Journal.open(place.journal)
    except HomespunError as error:
        if "in_use" in error.details:
            raise HomespunError(
                Code.CONFLICT, f"A broker runs in {place.root}. Stop it first.") from error
        if not replace:
            raise  # it is damaged: that may be why somebody is here, and must be said
        return
    events = journal.last_seq
    journal.close()
    if events and not replace:
        raise HomespunError(
            Code.CONFLICT, f"{place.journal} has {events} events. With --replace the copy takes "
            "its place, and it is kept beside.")


@contextlib.contextmanager
def _brought_in(path: Path, place: BrokerDirectory) -> Iterator[Path]:
    """The copy under another name in the broker's directory, gone at the end."""
    incoming = place.root / _RESTORING
    _remove(incoming)
    try:
        with disk_full_named("broker's", place.root):
            shutil.copyfile(path, incoming)
        sync(incoming)
        yield incoming
    finally:
        _remove(incoming)


def _remove(path: Path) -> None:
    for suffix in ("", *_SIDE_FILES):
        path.with_name(path.name + suffix).unlink(missing_ok=True)


def _reopened(path: Path, event: JournalRestored) -> Broker:
    """Make a journal of a copy again, with `event` at its end; the state that it gives."""
    with errors_of(path), closing(sqlite3.connect(path)) as database, database:
        database.execute(f"DROP TABLE {_SEAL}")
    journal = Journal.open(path)
    try:
        core, _ = replayed(journal)
        core.apply(event)
        invariants.check(core.state)
        journal.append([event])
    except invariants.InvariantViolation as violation:
        raise _unusable(path, f"its events contradict each other: {violation}") from violation
    finally:
        journal.close()
    return core


def _exchange(incoming: Path, journal: Path, found: Seal) -> Path | None:
    """Put a journal in the place of another, which is kept.

    What lies beside the old one goes with it: SQLite would take it for a part of the new one.
    """
    kept = None
    if journal.exists():
        moment = format_time(found.copied_unix_ms).replace(":", "").replace("-", "")
        kept = _unused(journal.with_name(f"journal.before-{moment}.sqlite"))
        for suffix in ("", *_SIDE_FILES):
            old = journal.with_name(journal.name + suffix)
            if old.exists():
                with disk_full_named("broker's", journal.parent):
                    shutil.copyfile(old, kept.with_name(kept.name + suffix))
                sync(kept.with_name(kept.name + suffix))
    for suffix in _SIDE_FILES:
        journal.with_name(journal.name + suffix).unlink(missing_ok=True)
    os.replace(incoming, journal)
    sync_directory(journal.parent)
    return kept


def _unused(path: Path) -> Path:
    number, chosen = 1, path
    while chosen.exists():
        number += 1
        chosen = path.with_stem(f"{path.stem}-{number}")
    return chosen


def _unusable(path: Path, why: str) -> HomespunError:
    return HomespunError(
        Code.BAD_CONFIGURATION, f"{path} cannot be restored: {why}. Take another copy.", path=path)
