"""Duties to be ready to take a segment over: fenced, told by level, used up by the lease."""

from __future__ import annotations

import pytest

from peer.core import commands as do
from peer.core import events as ev
from peer.core.standbys import STANDBYS_MAX
from peer.core.state import LeasePhase

HOT, WARM, STORE = ev.StandbyLevel.HOT, ev.StandbyLevel.WARM, ev.StandbyLevel.STORE


@pytest.fixture
def backup(rig):
    peer = rig("two", 1)
    peer.apply(ev.BrokerConnected, last_report=0)
    return peer


def ask(peer, level=HOT, source="peer_1", **changes):
    return peer.on(ev.StandByReceived, **{
        "spec": peer.spec, "program": peer.segments[1], "in_flight": 2, "segments": 2,
        "stall_timeout_ms": 5_000, "level": level, "source": source, **changes})


def record(peer):
    return peer.peer.state.standbys.get(("job_000001", 1))


def test_a_standby_is_prepared_and_told_by_level(backup, bodies):
    (prepare,) = ask(backup)
    assert (prepare.level, prepare.source, prepare.program) == (HOT, "peer_1", backup.segments[1])
    for level in (STORE, WARM, HOT):
        assert bodies(backup.on(ev.StandbyPrepared, level=level)) == [
            do.StandbyBody(level=str(level))]
    assert not backup.on(ev.StandbyPrepared, level=HOT), "no news"


def test_a_repeat_prepares_nothing_and_tells_what_is_ready(backup, bodies):
    ask(backup)
    assert not ask(backup)
    backup.on(ev.StandbyPrepared, level=WARM)
    assert bodies(ask(backup)) == [do.StandbyBody(level="warm")]


@pytest.mark.parametrize("change", [{"token": 8}, {"level": WARM}, {"source": "peer_5"}])
def test_what_is_asked_for_now_is_prepared(backup, kinds, change):
    ask(backup)
    assert kinds(ask(backup, **change)) == ["PrepareStandby"]
    assert getattr(record(backup).asked, next(iter(change))) == next(iter(change.values()))


def test_an_older_token_is_ignored(backup):
    ask(backup)
    assert not ask(backup, token=6, level=WARM)
    for event, fields in ((ev.StandbyPrepared, {"level": HOT}),
                          (ev.StandbyBroke, {"code": "INTERNAL", "message": "m"})):
        assert not backup.on(event, token=6, **fields)
    assert (record(backup).asked.level, record(backup).level) == (HOT, None)


def test_a_standby_that_breaks_falls_back_to_storing(backup, bodies):
    ask(backup)
    backup.on(ev.StandbyPrepared, level=HOT)
    assert bodies(backup.on(ev.StandbyBroke, code="EXECUTOR_DIED", message="gone")) == [
        do.StandbyBody(level="store", problem="gone [EXECUTOR_DIED]")]
    assert record(backup).problem == "gone [EXECUTOR_DIED]"
    assert bodies(backup.on(ev.StandbyPrepared, level=HOT)) == [do.StandbyBody(level="hot")]
    assert record(backup).problem == ""


def test_a_revoke_drops_it_at_once(backup, kinds, bodies):
    ask(backup)
    commands = backup.on(ev.RevokeReceived, reason="r")
    assert kinds(commands) == ["DropStandby", "SendReport"]
    assert bodies(commands) == [do.ReleasedBody()]
    assert record(backup) is None


def test_a_revoke_of_another_token_drops_nothing(backup, bodies):
    ask(backup)
    assert bodies(backup.on(ev.RevokeReceived, token=6, reason="r")) == [do.ReleasedBody()]
    assert record(backup) is not None


def test_the_lease_uses_it_up(backup, kinds):
    ask(backup)
    backup.on(ev.StandbyPrepared, level=HOT)
    assert kinds(backup.assign(token=9)) == ["LoadSegment"]
    assert record(backup) is None
    assert not backup.on(ev.StandbyPrepared, level=HOT), "a late word of it"
    assert backup.peer.state.leases["job_000001", 1].phase is LeasePhase.LOADING


def test_who_holds_a_segment_does_not_stand_by_for_it(backup):
    backup.assign(token=9)
    assert not ask(backup, token=8)
    assert record(backup) is None


def test_who_is_relieved_of_a_segment_may_stand_by_for_it(backup, kinds):
    backup.assign(token=9)
    backup.on(ev.RevokeReceived, token=9, reason="r")
    assert kinds(ask(backup, token=10)) == ["PrepareStandby"]
    backup.on(ev.SegmentUnloaded, token=9)
    assert record(backup) is not None


def test_standbys_are_bounded(backup, bodies):
    for index in range(STANDBYS_MAX):
        assert not bodies(ask(backup, segment=index + 2))
    assert bodies(ask(backup)) == [do.ReleasedBody()]
    assert len(backup.peer.state.standbys) == STANDBYS_MAX


def test_standbys_go_on_beside_a_lease(backup):
    ask(backup)
    backup.index = 0
    backup.run()
    assert backup.busy == "F0"
    assert record(backup) is not None
