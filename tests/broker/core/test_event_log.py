"""The event log: numbered, bounded, filtered, the same after a replay."""

from __future__ import annotations

import pytest

from broker.core import limits, operator_views
from broker.core.commands import Note, Reject
from broker.core.event_log import EventLog, LineFilter
from broker.core.machine import Broker


def note(number: int) -> Note:
    return Note(subject=f"job_{number}", event="job_waits", text=f"Text {number}.")


def numbers(lines):
    return [line.number for line in lines]


def test_lines_are_numbered_and_the_oldest_make_room(monkeypatch):
    monkeypatch.setattr(limits, "EVENT_LOG_LINES", 3)
    log = EventLog()
    for number in range(1, 6):
        log.record(number, [note(number), Reject(request_id="r", code="c", message="m")])
    assert log.last_number == 5
    assert numbers(log.newest(LineFilter(), 10)) == [5, 4, 3]
    assert numbers(log.newest(LineFilter(), 2)) == [5, 4]
    assert numbers(log.after(3, LineFilter(), 10)) == [4, 5]
    assert numbers(log.after(0, LineFilter(), 1)) == [3]
    assert numbers(log.newest(LineFilter(), 0)) == []


@pytest.mark.parametrize(("wanted", "found"), [
    ({"subject": "job_1"}, [1, 10, 11]),
    ({"kind": "job"}, list(range(1, 12))),
    ({"kind": "peer"}, []),
    ({"text": "TEXT 7"}, [7]),
    ({"since_ns": 9}, [9, 10, 11]),
], ids=repr)
def test_lines_are_filtered(wanted, found):
    log = EventLog()
    for number in range(1, 12):
        log.record(number, [note(number)])
    assert numbers(log.after(0, LineFilter(**wanted), 100)) == found
    assert numbers(log.newest(LineFilter(**wanted), 100)) == found[::-1]


def test_a_long_text_is_cut():
    log = EventLog()
    log.record(1, [Note(subject="s", event="e", text="x" * 10_000)])
    assert len(log.newest(LineFilter(), 1)[0].text) == limits.MAX_MESSAGE


def test_a_replay_tells_the_same(world):
    world.training_with_backups()
    world.lose("peer_b")
    again = Broker()
    for event in world.journal:
        again.apply(event)
    lines = operator_views.newest_events(world.broker, LineFilter(), 1_000)
    assert {"job_placed", "segment_vacant", "segment_moves"} <= {line.kind for line in lines}
    assert operator_views.newest_events(again, LineFilter(), 1_000) == lines
    assert operator_views.events_after(again, 1, LineFilter(), 1_000) == lines[-2::-1]
