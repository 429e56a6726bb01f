"""Copies of the journal: whole ones are restored, anything else is refused and changes nothing."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import pytest

from broker import journal as journal_module
from broker.core import events as ev
from broker.core.policy import Policy
from broker.journal import Journal
from broker.journal_copy import restore, seal, verify
from broker.settings import BrokerDirectory
from homespun.errors import Code, HomespunError

NETWORK = "n1"
RESTORED = ev.JournalRestored(at_ns=10**9, by="operator_1", reason="", copied_at_ns=1)


def history(count=20):
    return [ev.BrokerStarted(at_ns=1, policy=Policy()), *(
        ev.KeyCreated(at_ns=number, request_id="r", key_id=f"key_{number}", secret_hash="h" * 64,
                      role="peer", reusable=False, expires_at_ns=10**15)
        for number in range(2, count + 1))]


@pytest.fixture
def copy(tmp_path):
    """A sealed copy of a journal of 20 events."""
    journal = Journal.open(tmp_path / "source.sqlite")
    journal.append(history())
    path = tmp_path / "copy"
    journal.copy_to(path)
    journal.append([ev.KeyRevoked(at_ns=21, request_id="r", key_id="key_2")])
    journal.close()
    seal(path, NETWORK, 5)
    return path


@pytest.fixture
def place(tmp_path):
    (tmp_path / "broker").mkdir()
    return BrokerDirectory(tmp_path / "broker")


@pytest.fixture(autouse=True)
def _impatient(monkeypatch):
    monkeypatch.setattr(journal_module, "BUSY_TIMEOUT_MS", 1)


def events(path):
    journal = Journal.open(path)
    try:
        return [event for _, event in journal.replay()]
    finally:
        journal.close()


def refusal(*arguments, **options):
    with pytest.raises(HomespunError) as caught:
        restore(*arguments, **options)
    return caught.value


def contents(place):
    return {path.name: path.read_bytes() for path in place.root.iterdir()}


def change(path, statement):
    with closing(sqlite3.connect(path)) as database, database:
        database.execute(statement)


def test_a_copy_is_what_was_durable_and_restoring_adds_one_event(copy, place):
    found = verify(copy)
    assert (found.events, found.network_id, found.copied_unix_ms) == (20, NETWORK, 5)
    done = restore(copy, place, NETWORK, RESTORED)
    assert (done.seal, done.kept, done.unfinished_jobs) == (found, None, ())
    assert events(place.journal) == [*history(), RESTORED]
    assert set(contents(place)) == {"journal.sqlite"}, "nothing else is left"
    assert verify(copy) == found, "the copy is as it was"


def test_a_dry_run_changes_nothing(copy, place):
    assert restore(copy, place, NETWORK, RESTORED, dry_run=True).seal == verify(copy)
    assert contents(place) == {}


@pytest.mark.parametrize(("statement", "told"), [
    ("UPDATE events SET payload = replace(payload, 'peer', 'sub') WHERE seq = 7", "not those"),
    ("UPDATE events SET at_ns = at_ns + 1 WHERE seq = 7", "not those"),
    ("DELETE FROM events WHERE seq = 20", "not those"),
    ("INSERT INTO events VALUES (21, 1, 'TimerFired', '{}')", "not those"),
    ("UPDATE journal_copy SET digest = 'x'", "not those"),
    ("UPDATE journal_copy SET format = 2", "format 2"),
    ("DROP TABLE journal_copy", "not made by"),
    ("DROP TABLE events", "not made by"),
])
def test_an_altered_copy_is_refused(copy, place, statement, told):
    change(copy, statement)
    error = refusal(copy, place, NETWORK, RESTORED)
    assert (error.code, told in error.message) == (Code.BAD_CONFIGURATION, True), error.message
    assert contents(place) == {}


@pytest.mark.parametrize("damage", ["half", "nothing", "text", "a flipped page"])
def test_a_damaged_file_is_refused(copy, place, damage):
    data = bytearray(copy.read_bytes())
    if damage == "a flipped page":
        data[len(data) // 2:len(data) // 2 + 2_000] = bytes(2_000)
    copy.write_bytes({
        "half": data[:len(data) // 2], "nothing": b"", "text": b"x" * 10_000}.get(damage, data))
    assert refusal(copy, place, NETWORK, RESTORED).code is Code.BAD_CONFIGURATION
    assert contents(place) == {}


def test_events_that_cannot_be_applied_are_refused(tmp_path, place):
    """Their digest is right, so only applying them tells."""
    path = tmp_path / "copy"
    journal = Journal.open(tmp_path / "source.sqlite")
    journal.append(history())
    journal.copy_to(path)
    journal.close()
    change(path, "UPDATE events SET kind = 'PeerTeleported' WHERE seq = 3")
    seal(path, NETWORK, 5)
    assert "newer broker" in refusal(path, place, NETWORK, RESTORED).message
    assert contents(place) == {}


def test_a_copy_of_another_network_is_refused(copy, place):
    error = refusal(copy, place, "n2", RESTORED)
    assert (error.code, "of network n1" in error.message) == (Code.CONFLICT, True)


def test_a_journal_with_events_is_replaced_only_when_told_and_is_kept(copy, place):
    journal = Journal.open(place.journal)
    journal.append(history(3))
    journal.close()
    before = contents(place)
    error = refusal(copy, place, NETWORK, RESTORED)
    assert (error.code, "has 3 events" in error.message) == (Code.CONFLICT, True)
    assert contents(place) == before
    for number in (1, 2):
        done = restore(copy, place, NETWORK, RESTORED, replace=True)
        assert events(place.journal) == [*history(), RESTORED]
        assert done.kept.name.startswith("journal.before-19700101T000000Z"), number
    assert len(list(place.root.glob("journal.before-*"))) == 2
    kept = min(place.root.glob("journal.before-*"), key=lambda path: len(path.name))
    assert events(kept) == history(3)


def test_a_broker_that_runs_is_left_alone(copy, place):
    journal = Journal.open(place.journal)
    try:
        error = refusal(copy, place, NETWORK, RESTORED, replace=True)
        assert (error.code, "Stop it first" in error.message) == (Code.CONFLICT, True)
    finally:
        journal.close()


def test_a_damaged_journal_is_replaced_only_when_told_with_all_that_lies_beside_it(copy, place):
    """A write-ahead log that stayed would be taken for a part of the restored journal."""
    place.journal.write_bytes(b"x" * 8_192)
    log = place.root / "journal.sqlite-wal"
    log.write_bytes(b"y" * 8_192)
    assert refusal(copy, place, NETWORK, RESTORED).code is Code.BAD_CONFIGURATION
    assert place.journal.read_bytes() == b"x" * 8_192
    log.write_bytes(b"y" * 8_192)
    done = restore(copy, place, NETWORK, RESTORED, replace=True)
    assert not log.exists()
    assert events(place.journal) == [*history(), RESTORED]
    assert done.kept.read_bytes() == b"x" * 8_192
