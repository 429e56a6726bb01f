"""Peers that are to hold nothing: paused, leaving, drained; and those that only finish."""

from __future__ import annotations

import pytest

from broker.core import commands as do
from broker.core import events as ev
from broker.core import limits, views

EMPTIED = ["paused", "leaving", "drained"]


def ask(world, peer, how, deadline_ms=0):
    """An owner, or an operator, wants a peer emptied."""
    if how == "drained":
        return world.apply(ev.DrainRequested, request_id="r", peer_id=peer, by="operator_x",
                           deadline_ms=deadline_ms)
    return world.apply(
        ev.AvailabilityChanged, peer_id=peer, availability=how, deadline_ms=deadline_ms)


@pytest.mark.parametrize("how", EMPTIED)
def test_a_segment_moves_at_once_where_a_backup_is_ready(world, only, how):
    job = world.training("peer_a", "peer_b")
    world.connect("peer_c")
    world.reach_all(job)
    old = world.tokens[job, 1]
    commands = ask(world, "peer_b", how)
    (assigned,) = only(commands, do.AssignSegment)
    assert (assigned.peer_id, assigned.segment.index) == ("peer_c", 1)
    assert (old[1]) in [c.token for c in only(commands, do.RevokeSegment)]
    world.report(ev.SegmentReady, job, 1)
    assert world.state_of(job) == "running"
    who = "an operator" if how == "drained" else f"its owner ({how})"
    texts = [note.text for note in only(commands, do.Note) if note.event == "segment_vacant"]
    assert texts == [f"Segment 1 is vacant: {who} wants peer PEER_B (peer_b) empty."]


@pytest.mark.parametrize("how", EMPTIED)
def test_it_stays_until_a_backup_has_become_ready(world, only, how):
    job = world.training("peer_a", "peer_b")
    ask(world, "peer_b", how)
    world.connect("peer_c")
    world.sleep(60_000, "peer_a", "peer_b", "peer_c")
    assert world.state_of(job) == "running", "without a deadline there is no hurry"
    assert not only(world.reach(job, 1, "peer_c", "store"), do.AssignSegment)
    (assigned,) = only(world.reach(job, 1, "peer_c", "warm"), do.AssignSegment)
    assert assigned.segment.index == 1


@pytest.mark.parametrize("how", EMPTIED)
def test_at_its_deadline_it_moves_though_nobody_is_ready(world, only, how):
    job = world.training("peer_a", "peer_b")
    ask(world, "peer_b", how, deadline_ms=30_000)
    world.sleep(29_999, "peer_a", "peer_b")
    assert world.state_of(job) == "running"
    world.sleep(1, "peer_a", "peer_b")
    assert world.state_of(job) == "recovering"
    assert world.reason(job) == "segment 1 waits for a peer: none of 2 live peers is free"
    (assigned,) = only(world.connect("peer_c"), do.AssignSegment)
    assert assigned.peer_id == "peer_c"


def test_the_nearest_deadline_counts(world):
    world.training("peer_a", "peer_b")
    ask(world, "peer_b", "paused", deadline_ms=30_000)
    first_ns = world.broker.state.peers["peer_b"].drain_at_ns
    world.sleep(10_000, "peer_a", "peer_b")
    ask(world, "peer_b", "paused", deadline_ms=60_000)
    assert world.broker.state.peers["peer_b"].drain_at_ns == first_ns, "said again, not put off"
    ask(world, "peer_b", "drained", deadline_ms=5_000)
    assert world.broker.state.peers["peer_b"].drain_at_ns == world.now_ns + 5 * 10**9


def test_deadlines_are_bounded(world):
    world.connect("peer_a")
    for deadline_ms in (10**15, limits.DRAIN_MAX_MS + 1):
        ask(world, "peer_a", "paused", deadline_ms=deadline_ms)
        assert world.broker.state.peers["peer_a"].drain_at_ns == (
            world.now_ns + limits.DRAIN_MAX_MS * 10**6)
    ask(world, "peer_a", "open")
    ask(world, "peer_a", "leaving", deadline_ms=-5)
    assert world.broker.state.peers["peer_a"].drain_at_ns is None


def test_a_peer_that_only_finishes_keeps_its_segment_and_gets_no_other(world, only):
    job = world.training("peer_a", "peer_b")
    world.connect("peer_c")
    world.reach_all(job)
    assert not only(ask(world, "peer_b", "finishing", deadline_ms=1_000), do.AssignSegment)
    world.sleep(60_000, "peer_a", "peer_b", "peer_c")
    assert (world.state_of(job), world.tokens[job, 1][0]) == ("running", "peer_b")
    world.apply(ev.CancelRequested, request_id="r", job_id=job, by="client_a")
    world.report(ev.SegmentReleased, job, 1)
    world.submit()
    asked = world.broker.state.jobs["job_000002"]
    assert asked.state == "planning"
    world.solve("job_000002", ["peer_b"])
    assert asked.state != "preparing", "it is not free for a new job"


def test_a_peer_that_is_open_again_stays(world):
    job = world.training("peer_a", "peer_b")
    ask(world, "peer_b", "paused", deadline_ms=5_000)
    ask(world, "peer_b", "open")
    world.sleep(20_000, "peer_a", "peer_b")
    assert world.state_of(job) == "running"
    assert world.broker.next_wakeup_ns() > world.now_ns


def test_an_operator_drains_and_takes_it_back(world, only):
    job = world.training("peer_a", "peer_b")
    (reply,) = only(ask(world, "peer_b", "drained", 5_000), do.Reply)
    assert reply.value == "peer_b"
    assert views.peer(world.broker, "peer_b").is_drained
    world.apply(ev.DrainRequested, request_id="r", peer_id="peer_b", by="operator_x",
                deadline_ms=0, undo=True)
    world.sleep(20_000, "peer_a", "peer_b")
    assert world.state_of(job) == "running"
    assert not views.peer(world.broker, "peer_b").is_drained
    (reject,) = only(ask(world, "peer_x", "drained"), do.Reject)
    assert (reject.code, "peer_x" in reject.message) == ("NOT_FOUND", True)


@pytest.mark.parametrize("who", ["owner", "operator"])
def test_a_wish_that_is_taken_back_leaves_no_hurry_to_the_other(world, who):
    job = world.training("peer_a", "peer_b")
    hurried, patient = ("paused", "drained") if who == "owner" else ("drained", "paused")
    ask(world, "peer_b", patient)
    ask(world, "peer_b", hurried, deadline_ms=5_000)
    if who == "owner":
        ask(world, "peer_b", "open")
    else:
        world.apply(ev.DrainRequested, request_id="r", peer_id="peer_b", by="operator_x",
                    deadline_ms=0, undo=True)
    world.sleep(20_000, "peer_a", "peer_b")
    assert world.state_of(job) == "running", "no backup is ready, and nobody is in a hurry"
    assert world.broker.state.peers["peer_b"].is_emptied


def test_a_drain_outlives_the_peers_connection_and_the_owners_word(world):
    """Only the operator takes it back."""
    world.connect("peer_a")
    ask(world, "peer_a", "drained")
    world.disconnect("peer_a")
    world.connect("peer_a")
    ask(world, "peer_a", "open")
    assert not world.broker.state.peers["peer_a"].is_open


def test_what_the_owner_wants_is_said_at_registration_too(world, only):
    job = world.training("peer_a", "peer_b")
    world.connect("peer_c")
    world.reach_all(job)
    world.disconnect("peer_b")
    commands = world.connect("peer_b", world.held(job, 1), availability="leaving", drain_ms=5_000)
    (assigned,) = only(commands, do.AssignSegment)
    assert assigned.peer_id == "peer_c"


def test_two_peers_of_a_job_leave_together(world, only):
    job = world.training("peer_a", "peer_b")
    for peer in ("peer_c", "peer_d"):
        world.connect(peer)
    world.reach_all(job)
    commands = ask(world, "peer_a", "paused") + ask(world, "peer_b", "leaving")
    world.report(ev.SegmentReady, job, 0)
    world.report(ev.SegmentReady, job, 1)
    assert {world.tokens[job, segment][0] for segment in (0, 1)} == {"peer_c", "peer_d"}
    assert world.state_of(job) == "running"
    assert len(only(commands, do.AssignSegment)) == 2


def test_a_paused_peer_that_released_its_segment_does_not_get_it_back(world, only):
    job = world.training("peer_a", "peer_b")
    ask(world, "peer_b", "paused", deadline_ms=1_000)
    world.sleep(1_000, "peer_a", "peer_b")
    assert not only(world.report(ev.SegmentReleased, job, 1), do.AssignSegment)
    (assigned,) = only(ask(world, "peer_b", "open"), do.AssignSegment)
    assert assigned.peer_id == "peer_b", "its owner has let it work again"


def test_an_emptied_peer_keeps_no_snapshots(world, only):
    job = world.training("peer_a", "peer_b")
    commands = ask(world, "peer_b", "paused")
    assert [(c.peer_id, c.segment) for c in only(commands, do.RevokeSegment)] == [("peer_b", 0)]
    assert world.backups(job, 0) == {}


@pytest.mark.parametrize("wrong", [
    {"peer_id": "peer_x"}, {"availability": "away"}, {"availability": "x" * 10**5}])
def test_a_word_that_means_nothing_is_noted(world, events, wrong):
    world.connect("peer_a")
    values = {"peer_id": "peer_a", "availability": "paused", "deadline_ms": 0, **wrong}
    commands = world.apply(ev.AvailabilityChanged, **values)
    assert events(commands) == ["availability_ignored"]
    assert all(len(note.text) < 200 for note in commands)
    assert world.broker.state.peers["peer_a"].availability == "open"
