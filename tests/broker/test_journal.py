"""The journal: nothing acknowledged is lost, nothing unreadable is guessed at."""

from __future__ import annotations

import json
import math
import os
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from broker import journal as journal_module
from broker.core import events as ev
from broker.core.policy import Policy
from broker.journal import KINDS, Journal, decode, encode
from homespun.errors import HomespunError
from ir.graph import TensorType

GOLDEN = Path(__file__).with_name("golden_events.json")


def timer(at_ns: int) -> ev.TimerFired:
    return ev.TimerFired(at_ns=at_ns, silent_peers=("peer_a",))


def code_of(failure: pytest.ExceptionInfo[HomespunError]) -> str:
    return str(failure.value.code)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.sqlite"


@pytest.fixture
def journal(path: Path):
    opened = Journal.open(path)
    yield opened
    opened.close()


def same(left: Any, right: Any) -> bool:
    """Equality that takes NaN for equal to itself."""
    return repr(left) == repr(right)


I64 = st.integers(-(2**63), 2**63 - 1)
TEXT = st.text(st.characters(codec="utf-8"), max_size=8)
for scalar, strategy in ((int, I64), (str, TEXT), (float, st.floats())):
    st.register_type_strategy(scalar, strategy)
st.register_type_strategy(TensorType, st.builds(
    TensorType, dtype=TEXT, shape=st.lists(I64, max_size=3).map(tuple)))


@pytest.mark.parametrize("kind", KINDS)
def test_every_event_comes_back_as_it_was(kind: str) -> None:
    @settings(max_examples=15, deadline=None,
              suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
    @given(event=st.from_type(KINDS[kind]))
    def round_trip(event: Any) -> None:
        name, payload = encode(event)
        assert name == kind
        back = decode(name, payload)
        assert type(back) is type(event)
        assert same(back, event)

    round_trip()


def test_events_are_stored_in_order_across_openings(path: Path) -> None:
    first = Journal.open(path)
    assert first.last_seq == 0
    assert first.append([]) == 0
    assert first.append([timer(1), timer(2)]) == 2
    assert first.append([ev.BrokerStarted(at_ns=3, policy=Policy())]) == 3
    first.close()
    again = Journal.open(path)
    assert again.last_seq == 3
    assert [(seq, event.at_ns) for seq, event in again.replay()] == [(1, 1), (2, 2), (3, 3)]
    assert [seq for seq, _ in again.replay(after_seq=2)] == [3]
    assert again.append([timer(4)]) == 4
    again.close()


def test_replay_pages(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal_module, "REPLAY_PAGE", 3)
    journal.append([timer(i) for i in range(10)])
    assert [event.at_ns for _, event in journal.replay()] == list(range(10))


def test_losses_that_are_not_finite_survive(journal: Journal) -> None:
    losses = (math.nan, math.inf, -math.inf, 0.1)
    journal.append([ev.StepsDone(at_ns=1, peer_id="p", number=1, job_id="j", segment=0, token=1,
                                 first_step=0, count=4, losses=losses)])
    ((_, event),) = journal.replay()
    assert isinstance(event, ev.StepsDone)
    assert same(event.losses, losses)


def test_it_is_durable_before_it_is_acknowledged(journal: Journal) -> None:
    connection = journal._connection.connection.dbapi_connection
    assert connection is not None
    assert connection.execute("PRAGMA synchronous").fetchone() == (2,)
    assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_a_batch_is_all_or_nothing(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    journal.append([timer(1)])
    monkeypatch.setattr(journal_module, "MAX_PAYLOAD_BYTES", 100)
    long = ev.TimerFired(at_ns=3, silent_peers=("x" * 100,))
    with pytest.raises(HomespunError, match="at most 100") as failure:
        journal.append([timer(2), long])
    assert code_of(failure) == "LIMIT_EXCEEDED"
    assert [event.at_ns for _, event in journal.replay()] == [1]
    assert journal.append([timer(2)]) == 2


def test_batches_are_bounded(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal_module, "MAX_BATCH", 2)
    with pytest.raises(HomespunError, match="at most 2"):
        journal.append([timer(1)] * 3)
    assert journal.last_seq == 0


def test_a_full_disk_says_so_and_loses_nothing(journal: Journal) -> None:
    journal.append([timer(1)])
    connection = journal._connection.connection.dbapi_connection
    assert connection is not None
    pages = connection.execute("PRAGMA page_count").fetchone()[0]
    connection.execute(f"PRAGMA max_page_count = {pages + 2}")
    big = ev.TimerFired(at_ns=2, silent_peers=("x" * 100_000,))
    with pytest.raises(HomespunError, match="full") as failure:
        journal.append([timer(2), big])
    assert code_of(failure) == "DISK_FULL"
    assert [event.at_ns for _, event in journal.replay()] == [1]
    connection.execute(f"PRAGMA max_page_count = {pages + 1000}")
    assert journal.append([timer(2), big]) == 3


def test_two_brokers_cannot_share_a_journal(
    path: Path, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal.append([timer(1)])
    monkeypatch.setattr(journal_module, "BUSY_TIMEOUT_MS", 1)
    with pytest.raises(HomespunError, match="in use by another broker") as failure:
        Journal.open(path)
    assert code_of(failure) == "BAD_CONFIGURATION"


def spoil(path: Path, statement: str) -> None:
    connection = sqlite3.connect(path)
    with connection:
        connection.execute(statement)
    connection.close()


@pytest.mark.parametrize(
    ("statement", "word"),
    [
        ("UPDATE events SET kind = 'PeerTeleported' WHERE seq = 2", "update this one"),
        ("UPDATE events SET payload = '{}' WHERE seq = 2", "cannot be read"),
        ("UPDATE events SET payload = '{' WHERE seq = 2", "cannot be read"),
        ("UPDATE events SET payload = replace(payload, '2', '\"2\"') WHERE seq = 2",
         "cannot be read"),
        ("UPDATE events SET at_ns = 7 WHERE seq = 2", "damaged"),
        ("DELETE FROM events WHERE seq = 2", "damaged"),
    ],
)
def test_what_cannot_be_read_stops_the_replay(path: Path, statement: str, word: str) -> None:
    journal = Journal.open(path)
    journal.append([timer(1), timer(2), timer(3)])
    journal.close()
    spoil(path, statement)
    journal = Journal.open(path)
    with pytest.raises(HomespunError, match=word) as failure:
        list(journal.replay())
    assert code_of(failure) == "BAD_CONFIGURATION"
    journal.close()


def test_a_newer_schema_is_refused(path: Path) -> None:
    Journal.open(path).close()
    spoil(path, "UPDATE schema_version SET version = 99")
    with pytest.raises(HomespunError, match="Update the broker") as failure:
        Journal.open(path)
    assert code_of(failure) == "BAD_CONFIGURATION"


def test_a_file_that_is_no_journal_is_refused(path: Path) -> None:
    path.write_bytes(b"This is not a database, whatever its name says. " * 100)
    with pytest.raises(HomespunError, match="damaged") as failure:
        Journal.open(path)
    assert code_of(failure) == "BAD_CONFIGURATION"


def test_a_damaged_file_is_refused(path: Path) -> None:
    journal = Journal.open(path)
    journal.append([ev.TimerFired(at_ns=i, silent_peers=("x" * 3000,)) for i in range(50)])
    journal.close()
    data = bytearray(path.read_bytes())
    data[8192 : 8192 + 20_000] = b"\xff" * 20_000
    path.write_bytes(bytes(data))
    with pytest.raises(HomespunError, match="damaged"):
        Journal.open(path)


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(HomespunError, match="directory") as failure:
        Journal.open(tmp_path / "nowhere" / "journal.sqlite")
    assert code_of(failure) == "BAD_CONFIGURATION"


WRITER = """
import sys
from pathlib import Path
from broker.core.events import TimerFired
from broker.journal import Journal
journal = Journal.open(Path(sys.argv[1]))
at_ns = journal.last_seq
while True:
    batch = [TimerFired(at_ns=at_ns + i + 1, silent_peers=("x" * 500,)) for i in range(5)]
    at_ns += 5
    print(journal.append(batch), flush=True)
"""


def test_a_killed_process_loses_nothing_acknowledged(path: Path) -> None:
    for after in (3, 11, 27):
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True,
            cwd=Path(__file__).parents[2])
        assert writer.stdout is not None
        acknowledged = [int(writer.stdout.readline()) for _ in range(after)]
        writer.kill()
        acknowledged += [int(line) for line in writer.stdout.read().split("\n") if line.strip()]
        writer.wait(timeout=30)
        writer.stdout.close()
        journal = Journal.open(path)
        events = [event.at_ns for _, event in journal.replay()]
        assert len(events) >= acknowledged[-1]
        assert len(events) % 5 == 0, "a batch was torn"
        assert events == list(range(1, len(events) + 1))
        journal.close()


def test_a_torn_tail_costs_only_what_was_not_whole(path: Path, tmp_path: Path) -> None:
    """A power cut in the middle of a write leaves a log that ends anywhere."""
    journal = Journal.open(path)
    ends = [os.path.getsize(f"{path}-wal")]
    for i in range(6):
        journal.append([timer(2 * i + 1), timer(2 * i + 2)])
        ends.append(os.path.getsize(f"{path}-wal"))
    log = Path(f"{path}-wal").read_bytes()
    torn = tmp_path / "torn.sqlite"
    for cut in range(ends[0], len(log) + 1, 997):
        shutil.copyfile(path, torn)
        Path(f"{torn}-wal").write_bytes(log[:cut])
        survivor = Journal.open(torn)
        whole = sum(end <= cut for end in ends) - 1
        assert [event.at_ns for _, event in survivor.replay()] == list(range(1, 2 * whole + 1))
        survivor.close()
    journal.close()


def test_golden_payloads_still_decode() -> None:
    """Journals of older brokers: change a payload here only by adding a field with a default."""
    golden = json.loads(GOLDEN.read_text(encoding="utf-8"))
    assert {entry["kind"] for entry in golden} == set(KINDS)
    for entry in golden:
        event = decode(entry["kind"], json.dumps(entry["payload"]))
        assert keeps(entry["payload"], json.loads(encode(event)[1])), entry["kind"]


def keeps(old: Any, now: Any) -> bool:
    """Whether `now` says everything that `old` says; fields may have been added."""
    if isinstance(old, dict):
        return isinstance(now, dict) and all(k in now and keeps(v, now[k]) for k, v in old.items())
    if isinstance(old, list):
        return isinstance(now, list) and len(old) == len(now) and all(map(keeps, old, now))
    return bool(old == now)


def test_a_change_of_a_golden_payload_is_seen() -> None:
    assert keeps({"a": [1]}, {"a": [1], "b": 2})
    assert not keeps({"a": [1]}, {"a": [2]})
    assert not keeps({"a": [1]}, {})


def test_the_codec_knows_every_event() -> None:
    assert set(KINDS.values()) == set(ev.AnyEvent.__args__)
    assert msgspec.to_builtins(timer(1)) == {"at_ns": 1, "silent_peers": ("peer_a",)}
