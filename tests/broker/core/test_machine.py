"""The contract with the shell: time, replay, defects, stories, digests."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from typing import Any, get_args

import pytest

from broker.core import events as ev
from broker.core import invariants, limits, views
from broker.core.digest import difference, state_digest
from broker.core.invariants import InvariantViolation
from broker.core.machine import Broker
from broker.core.state import JobRecord, LeasePhase, LeaseRecord, PeerRecord, PeerState, State


def replayed(journal):
    broker = Broker()
    for event in journal:
        broker.apply(event)
    return broker


def test_only_heartbeats_are_not_journalled():
    assert [cls for cls in get_args(ev.AnyEvent) if not ev.is_journalled(object.__new__(cls))] == [
        ev.HeartbeatsSeen]


def test_an_idle_broker_sleeps(world):
    assert world.broker.next_wakeup_ns() is None
    world.connect("peer_a")
    assert world.broker.next_wakeup_ns() == world.now_ns + 8 * 10**9


def test_a_broker_works_before_it_is_told_its_policy():
    broker = Broker()
    assert broker.apply(ev.TimerFired(at_ns=5, silent_peers=("peer_x",))) == ()


def test_replay_without_heartbeats_is_exact(world):
    """Silence, revival and loss are decided from heartbeats, which the journal does not have."""
    job = world.running("peer_a", "peer_b")
    world.connect("peer_c")
    world.sleep(40_000, "peer_a", "peer_b")
    assert views.peer(world.broker, "peer_c").state == "lost"
    world.sleep(9_000, "peer_a")
    world.sleep(2_000, "peer_a", "peer_b")
    assert views.peer(world.broker, "peer_b").state == "live"
    assert world.state_of(job) == "running"
    twin = replayed(world.journal)
    assert state_digest(twin) == state_digest(world.broker)
    assert not any(isinstance(event, ev.HeartbeatsSeen) for event in world.journal)


def test_the_digest_sees_every_change(world):
    seen = {state_digest(world.broker)}
    job = world.running("peer_a")
    for change in (lambda: world.steps(job, 0, 0), lambda: world.disconnect("peer_a"),
                   lambda: world.connect("peer_a", world.held(job, 0))):
        change()
        seen.add(state_digest(world.broker))
    assert len(seen) == 4


def test_the_digest_leaves_heartbeats_out(world):
    world.connect("peer_a")
    before = state_digest(world.broker)
    world.now_ns += 10**9
    world.beat("peer_a")
    assert state_digest(world.broker) == before


def _records(value: Any) -> Iterator[Any]:
    """Every dataclass of a state that changes, the state itself included."""
    if is_dataclass(value):
        if not value.__dataclass_params__.frozen:
            yield value
        parts: Any = (getattr(value, item.name) for item in fields(value))
    else:
        parts = value.values() if isinstance(value, dict) else (
            value if isinstance(value, list | tuple) else ())
    for part in parts:
        yield from _records(part)


def test_a_difference_is_seen_wherever_the_digest_sees_one(world):
    job = world.running("peer_a", "peer_b")
    world.connect("peer_c")
    world.steps(job, 0, 0)
    lived, twin = world.broker, replayed(world.journal)
    assert difference(lived, twin) == ""
    seen = set()
    for record in list(_records(twin.state)):
        for item in fields(record):
            value = getattr(record, item.name)
            setattr(record, item.name, "another")
            is_other = state_digest(twin) != state_digest(lived)
            assert is_other != bool(item.metadata.get("soft"))
            assert (f".{item.name}: " in difference(lived, twin)) == is_other
            setattr(record, item.name, value)
            seen.add(type(record))
    assert {State, PeerRecord, JobRecord, LeaseRecord} <= seen
    assert difference(lived, twin) == ""


def test_a_difference_tells_both_values(world):
    world.connect("peer_a")
    twin = replayed(world.journal)
    twin.state.peers["peer_a"].losses = 3
    assert difference(world.broker, twin) == "state.peers['peer_a'].losses: 0 is not 3"
    twin = replayed(world.journal[:-1])
    assert "is not" in difference(world.broker, twin)


def test_a_story_tells_what_happened(world):
    job = world.running("peer_a")
    lines = views.story(world.broker, job)
    assert "JobSubmitted" in lines[0]
    assert "StartJob" in lines[-1]
    assert "SegmentReady" in views.story(world.broker, "peer_a")[-1]


def test_stories_are_bounded(world, monkeypatch):
    monkeypatch.setattr(limits, "STORIES", 3)
    for i in range(5):
        for _ in range(limits.STORY_LINES + 1):
            world.connect(f"peer_{i}")
    told = [i for i in range(5) if views.story(world.broker, f"peer_{i}")]
    assert told[-1] == 4
    assert len(told) <= 3
    assert len(views.story(world.broker, "peer_4")) == limits.STORY_LINES


def test_a_defect_raises_with_its_story(world):
    job = world.running("peer_a")
    world.broker.state.jobs[job].leases.clear()
    with pytest.raises(InvariantViolation, match=r"(?s)leases \[\].*StepsDone") as caught:
        world.broker.apply(ev.StepsDone(
            at_ns=world.now_ns, peer_id="peer_a", number=9, job_id=job, segment=0, token=77,
            first_step=0, count=1, losses=()))
    assert any("JobSubmitted" in line for line in caught.value.story)


def test_an_unexpected_exception_is_a_defect_too(world):
    job = world.running("peer_a")
    del world.broker.state.jobs[job]
    with pytest.raises(InvariantViolation, match="KeyError in the core"):
        world.broker.apply(ev.StepsDone(
            at_ns=world.now_ns, peer_id="peer_a", number=9, job_id=job, segment=0, token=1,
            first_step=0, count=1, losses=()))


def _second_lease(state):
    peer = state.peers["peer_b"]
    peer.leases.update(state.peers["peer_a"].leases)


def _no_session(state):
    state.peers["peer_a"].session_id = ""


def _ended_twice(state):
    state.jobs["job_000001"].endings = 2


def _steps_ahead(state):
    state.jobs["job_000001"].steps_done = 1


def _old_token(state):
    state.last_token = 0


def _lost_holder(state):
    state.peers["peer_a"].state = PeerState.LOST


def _released(state):
    state.jobs["job_000001"].leases[0].phase = LeasePhase.RELEASED


def _planning(state):
    state.planning_job = "job_000001"


def _forgotten(state):
    state.unfinished.clear()


def _unsubmitted(state):
    state.submissions.clear()


def _valid_after_end(state):
    state.jobs["job_000002"].leases.append(state.jobs["job_000001"].leases[0])


@pytest.mark.parametrize(
    "spoil",
    [_second_lease, _no_session, _ended_twice, _steps_ahead, _old_token, _lost_holder, _released,
     _planning, _forgotten, _unsubmitted, _valid_after_end],
    ids=lambda spoil: spoil.__name__,
)
def test_the_invariants_catch_what_they_are_for(world, spoil):
    world.running("peer_a", "peer_b")
    world.submit()
    world.apply(ev.CancelRequested, request_id="r", job_id="job_000002", by="client_a")
    invariants.check(world.broker.state)
    spoil(world.broker.state)
    with pytest.raises(InvariantViolation):
        invariants.check(world.broker.state)
