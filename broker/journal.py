"""The journal of events: the broker's truth, in one SQLite file.

An event is *acknowledged* once `append` has returned: its transaction is on the disk (WAL with
`synchronous=FULL`), so neither a killed process nor a power cut takes it back. A batch of events
is one transaction: all of it is there or none. Payloads are JSON of the frozen values by field
name; `tests/broker/golden_events.json` pins them, so that old journals keep decoding.

A `Journal` is used by one thread at a time: the shell calls it from an executor of one worker.
Opening takes an exclusive lock on the file, so two brokers never write one journal.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, cast, get_args

import msgspec
import sqlalchemy as sa
from sqlalchemy.exc import DatabaseError, SQLAlchemyError

from broker.core.events import AnyEvent
from homespun.errors import Code, HomespunError

SCHEMA_VERSION = 1
MAX_PAYLOAD_BYTES = 128 << 20
"""Of one event: twice the placement of a graph with a million nodes on 256 peers."""
MAX_BATCH = 10_000
"""Events of one transaction: bounds the memory of the write-ahead log."""
BUSY_TIMEOUT_MS = 2_000
REPLAY_PAGE = 1_000

KINDS: Mapping[str, type[AnyEvent]] = {cls.__name__: cls for cls in get_args(AnyEvent)}
"""Name of an event's class -> the class. A name that was ever journalled stays."""

_TABLES = sa.MetaData()
_EVENTS = sa.Table(
    "events",
    _TABLES,
    sa.Column("seq", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("at_ns", sa.BigInteger, nullable=False),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("payload", sa.Text, nullable=False),
)
_SCHEMA = sa.Table("schema_version", _TABLES, sa.Column("version", sa.Integer, nullable=False))


def encode(event: AnyEvent) -> tuple[str, str]:
    """Kind and payload of an event.

    Numbers that are not finite are written as `NaN` and `Infinity`, beyond strict JSON: a peer may
    report such a loss, and it must replay as it was.

    Raises:
        HomespunError: LIMIT_EXCEEDED for a payload above `MAX_PAYLOAD_BYTES`.
    """
    kind = type(event).__name__
    payload = json.dumps(msgspec.to_builtins(event), separators=(",", ":"))
    if len(payload) > MAX_PAYLOAD_BYTES:
        raise HomespunError(
            Code.LIMIT_EXCEEDED,
            f"An event {kind} takes {len(payload)} bytes; at most {MAX_PAYLOAD_BYTES}.",
            wanted_bytes=len(payload), had_bytes=MAX_PAYLOAD_BYTES, limit="MAX_PAYLOAD_BYTES")
    return kind, payload


def decode(kind: str, payload: str) -> AnyEvent:
    """The event of a journal's row.

    Raises:
        HomespunError: BAD_CONFIGURATION for a kind or payload that this version does not know.
    """
    cls = KINDS.get(kind)
    if cls is None:
        raise HomespunError(
            Code.BAD_CONFIGURATION,
            f"The journal has an event of kind {kind[:80]!r}, which this version does not know. "
            "A newer broker wrote it: update this one.")
    try:
        return msgspec.convert(json.loads(payload), cls)
    except (ValueError, RecursionError) as error:
        raise HomespunError(
            Code.BAD_CONFIGURATION,
            f"The journal's event of kind {kind!r} cannot be read: {error}. A newer broker may "
            "have written it: update this one, or restore the journal from a copy.") from error


class Journal:
    """Events in the order in which they were applied, numbered from 1 without gaps."""

    def __init__(self, engine: sa.Engine, connection: sa.Connection, path: Path) -> None:
        """Use `Journal.open`."""
        self._engine = engine
        self._connection = connection
        self._path = path
        self._last_seq = self._read_last_seq()

    @classmethod
    def open(cls, path: Path) -> Journal:
        """Open or create the journal at `path`, check it, and lock it for this process.

        Raises:
            HomespunError: BAD_CONFIGURATION when it is damaged, of a newer version, in use by
                another broker, or not writable; DISK_FULL.

        Cost: linear in the file, for its integrity check.
        """
        engine = sa.create_engine(
            sa.URL.create("sqlite", database=str(path)), poolclass=sa.StaticPool,
            connect_args={"timeout": BUSY_TIMEOUT_MS / 1000, "check_same_thread": False})
        try:
            with errors_of(path):
                connection = engine.connect()
                _prepare(connection, path)
                return cls(engine, connection, path)
        except BaseException:
            engine.dispose()
            raise

    @property
    def last_seq(self) -> int:
        """Number of the last durable event; 0 in an empty journal."""
        return self._last_seq

    def append(self, events: Sequence[AnyEvent]) -> int:
        """Make events durable, all or none, in order.

        Returns:
            Number of the last durable event.

        Raises:
            HomespunError: LIMIT_EXCEEDED for too large a batch or event; DISK_FULL (nothing of
                the batch is stored, and what was stored stays); BAD_CONFIGURATION when the file
                cannot be written. The journal stays usable.
        """
        if not events:
            return self._last_seq
        if len(events) > MAX_BATCH:
            raise HomespunError(
                Code.LIMIT_EXCEEDED, f"{len(events)} events in one batch; at most {MAX_BATCH}.")
        rows = []
        for seq, event in enumerate(events, start=self._last_seq + 1):
            kind, payload = encode(event)
            rows.append({"seq": seq, "at_ns": event.at_ns, "kind": kind, "payload": payload})
        with errors_of(self._path), self._connection.begin():
            self._connection.execute(sa.insert(_EVENTS), rows)
        self._last_seq += len(rows)
        return self._last_seq

    def replay(self, after_seq: int = 0) -> Iterator[tuple[int, AnyEvent]]:
        """Every event after `after_seq`, with its number, oldest first.

        Raises:
            HomespunError: BAD_CONFIGURATION at a gap, an unknown kind or an unreadable payload.
        """
        expected = after_seq + 1
        while rows := self._page(expected):
            for seq, at_ns, kind, payload in rows:
                event = decode(kind, payload)
                if seq != expected or event.at_ns != at_ns:
                    raise HomespunError(
                        Code.BAD_CONFIGURATION,
                        f"{self._path} is damaged: event {expected} is missing or altered. "
                        "Restore the journal from a copy.")
                yield seq, event
                expected += 1

    def copy_to(self, path: Path) -> None:
        """Write all events to another file: a database of its own, as of this moment.

        Raises:
            HomespunError: DISK_FULL, or BAD_CONFIGURATION when the file cannot be written.

        Cost: linear in the journal; nothing can be appended meanwhile.
        """
        with errors_of(path), closing(sqlite3.connect(path)) as target:
            self._raw().backup(target)
            target.execute("PRAGMA journal_mode=DELETE")  # one file, with nothing beside it

    def close(self) -> None:
        """Give the file and its lock back. No call may follow."""
        self._connection.close()
        self._engine.dispose()

    def _raw(self) -> sqlite3.Connection:
        return cast(sqlite3.Connection, self._connection.connection.dbapi_connection)

    def _page(self, first_seq: int) -> list[tuple[int, int, str, str]]:
        query = (
            sa.select(_EVENTS.c.seq, _EVENTS.c.at_ns, _EVENTS.c.kind, _EVENTS.c.payload)
            .where(_EVENTS.c.seq >= first_seq).order_by(_EVENTS.c.seq).limit(REPLAY_PAGE)
        )
        with errors_of(self._path), self._connection.begin():
            return [tuple(row) for row in self._connection.execute(query)]

    def _read_last_seq(self) -> int:
        with self._connection.begin():
            query = sa.select(sa.func.max(_EVENTS.c.seq))
            return int(self._connection.execute(query).scalar() or 0)


def _prepare(connection: sa.Connection, path: Path) -> None:
    """Pragmas, lock, integrity, schema: in this order, as each needs the one before."""
    raw = cast(sqlite3.Connection, connection.connection.dbapi_connection)
    raw.execute("PRAGMA locking_mode=EXCLUSIVE")
    mode = raw.execute("PRAGMA journal_mode=WAL").fetchone()[0]
    raw.execute("PRAGMA synchronous=FULL")
    if mode != "wal":
        raise HomespunError(
            Code.BAD_CONFIGURATION,
            f"{path} cannot use a write-ahead log ({mode}): move it to a local disk.")
    found = [row[0] for row in raw.execute("PRAGMA quick_check(5)")]
    if found != ["ok"]:
        raise HomespunError(
            Code.BAD_CONFIGURATION,
            f"{path} is damaged: {'; '.join(map(str, found))[:500]}. Restore it from a copy.")
    with connection.begin():
        _TABLES.create_all(connection)
        version = connection.execute(sa.select(_SCHEMA.c.version)).scalar()
        if version is None:
            connection.execute(sa.insert(_SCHEMA).values(version=SCHEMA_VERSION))
        elif version != SCHEMA_VERSION:
            raise HomespunError(
                Code.BAD_CONFIGURATION,
                f"{path} has schema version {version}; this broker knows {SCHEMA_VERSION}. "
                "Update the broker.")


@contextmanager
def errors_of(path: Path) -> Iterator[None]:
    """Say what SQLite's errors mean to an operator."""
    try:
        yield
    except SQLAlchemyError as error:
        raise _explained(path, error.orig if isinstance(error, DatabaseError) else error) from error
    except sqlite3.Error as error:
        raise _explained(path, error) from error


def _explained(path: Path, error: Any) -> HomespunError:
    name = getattr(error, "sqlite_errorname", "")
    if name.startswith("SQLITE_FULL") or "disk is full" in str(error):
        return HomespunError(
            Code.DISK_FULL, f"The disk of {path} is full. Free some space; nothing stored is lost.")
    if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
        return HomespunError(
            Code.BAD_CONFIGURATION, f"{path} is in use by another broker. Stop that one first.",
            in_use=True)
    if name.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB")):
        return HomespunError(
            Code.BAD_CONFIGURATION, f"{path} is damaged: {error}. Restore it from a copy.")
    return HomespunError(
        Code.BAD_CONFIGURATION,
        f"{path} cannot be used: {error}. Check that its directory exists and can be written.")
