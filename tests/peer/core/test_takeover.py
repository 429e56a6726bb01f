"""A lease that goes on at a position, and neighbours that come and go."""

from __future__ import annotations

import pytest

from peer.core import commands as do
from peer.core import events as ev
from peer.core.phases import Mode
from peer.core.state import LeasePhase

LOST = {"neighbour": 0, "peer_id": "peer_0", "code": "PEER_LOST", "message": "m"}
SOURCE = ev.SnapshotSource(digest="5" * 64, size_bytes=1, data_shards=1, holders=())


def test_a_lease_loads_the_state_of_its_position(rig, bodies):
    peer = rig("one", microbatches=1)
    peer.apply(ev.BrokerConnected, last_report=0)
    (load,) = peer.assign(position=2, snapshot=SOURCE)
    assert (load.position, load.snapshot) == (2, SOURCE)
    assert bodies(peer.on(ev.SegmentLoaded)) == [do.ReadyBody()]
    peer.start()
    assert (peer.lease.run.phase.step, peer.lease.steps_done) == (2, 2)
    reports = [body for _ in range(4) for body in bodies(peer.done())]
    assert reports == [do.StepsBody(first_step=2, count=1, losses=(0.5,))]
    assert peer.lease.phase is LeasePhase.STORING


def test_it_evaluates_again_if_that_comes_first(rig):
    peer = rig("one", evaluate_every=1)
    peer.run(position=1)
    assert (peer.lease.run.phase.mode, peer.lease.run.phase.step) == (Mode.EVALUATE, 1)


def test_at_the_last_position_the_result_is_stored_at_once(rig, kinds):
    peer = rig("one", steps=3)
    commands = peer.run(position=3)
    assert kinds(commands) == ["SetMembers", "StoreResult"]
    assert (peer.lease.phase, peer.busy) == (LeasePhase.STORING, "")


@pytest.mark.parametrize(("position", "snapshot"), [(4, SOURCE), (-1, SOURCE), (1, None),
                                                    (0, SOURCE)])
def test_a_position_that_cannot_be_is_refused(rig, bodies, position, snapshot):
    peer = rig("one", steps=3)
    peer.apply(ev.BrokerConnected, last_report=0)
    (failed,) = bodies(peer.assign(position=position, snapshot=snapshot))
    assert failed.code == "INVALID_ARGUMENT"
    assert f"at position {position} of 3" in failed.message
    assert peer.lease is None


@pytest.mark.parametrize("phase", ["running", "storing", "finished"])
def test_other_members_are_told_to_the_shell(rig, kinds, phase):
    peer = rig("two", 1, microbatches=1, steps=1)
    peer.run()
    if phase != "running":
        peer.tensor("activation", 0)
        for _ in range(4):
            peer.done()
    if phase == "finished":
        peer.on(ev.ResultStored, digest="d" * 64, size_bytes=1)
    assert peer.lease.phase == phase
    assert not peer.start(), "the same"
    assert kinds(peer.start(s0=("", 0))) == ["SetMembers"]
    assert kinds(peer.start(s0=("peer_9", 12))) == ["SetMembers"]
    assert not peer.start(s0=("peer_9", 12))
    assert peer.lease.peer_of(0) == "peer_9"


def test_a_lost_neighbour_is_reported_once_and_waited_for(rig, bodies):
    last = rig("two", 1)
    last.run()
    assert bodies(last.on(ev.NeighbourLost, **LOST)) == [do.NeighbourLostBody(**LOST)]
    assert not last.on(ev.NeighbourLost, **LOST)
    assert last.lease.phase is LeasePhase.RUNNING
    assert last.lease.waiting.segment == 0


def test_another_reason_is_news(rig, bodies):
    """The log does not reach back far enough: the broker must know, whatever it knew before."""
    last = rig("two", 1)
    last.run()
    last.on(ev.NeighbourLost, **LOST)
    assert bodies(last.on(ev.NeighbourLost, **{**LOST, "code": "CONFLICT"}))


def test_a_neighbour_that_came_back_may_be_lost_again(rig, bodies):
    last = rig("two", 1)
    last.run()
    last.on(ev.NeighbourLost, **LOST)
    last.tensor("activation", 0, 0)
    assert bodies(last.on(ev.NeighbourLost, **LOST))


def test_its_successor_may_be_lost_too(rig, bodies):
    last = rig("two", 1)
    last.run()
    last.on(ev.NeighbourLost, **LOST)
    last.start(s0=("peer_0", 12))
    assert bodies(last.on(ev.NeighbourLost, **LOST))


@pytest.mark.parametrize("change", [
    {"peer_id": "peer_9"}, {"peer_id": ""}, {"neighbour": 5}, {"token": 6}])
def test_the_loss_of_who_is_no_neighbour_is_nothing(rig, change):
    last = rig("two", 1)
    last.run()
    assert not last.on(ev.NeighbourLost, **{**LOST, **change})


def test_a_wait_for_a_vacant_segment_has_no_deadline_and_says_so(rig):
    last = rig("two", 1)
    last.run()
    assert last.peer.next_wakeup_ns() is not None
    last.start(s0=("", 0))
    assert last.peer.next_wakeup_ns() is None
    assert "once its segment has a holder again" in last.lease.waiting.what
    last.now_ns = 60_000_000_000
    last.start(s0=("peer_9", 12))
    assert last.peer.next_wakeup_ns() == 65_000_000_000, "the new holder has all the time"
    assert "holder" not in last.lease.waiting.what


def test_a_new_holder_has_all_the_time_though_the_segment_was_never_vacant(rig, bodies):
    last = rig("two", 1)
    last.run()
    last.now_ns = 5_000_000_000
    assert bodies(last.apply(ev.TimerFired))
    last.now_ns = 7_000_000_000
    last.start(s0=("peer_9", 12))
    assert last.peer.next_wakeup_ns() == 12_000_000_000
    last.now_ns = 12_000_000_000
    (lost,) = bodies(last.apply(ev.TimerFired))
    assert (lost.code, lost.peer_id) == ("STALLED", "peer_9")


def test_only_the_own_executor_ends_a_lease_by_being_late(rig, bodies):
    last = rig("two", 1)
    last.run()
    last.now_ns = 5_000_000_000
    last.apply(ev.TimerFired)
    assert last.lease.phase is LeasePhase.RUNNING
    last.tensor("activation", 0, 0)
    last.now_ns = 10_000_000_000
    (failed,) = bodies(last.apply(ev.TimerFired))
    assert (failed.code, failed.blamed_peer) == ("STALLED", "")


def test_what_broke_keeps_its_diagnosis(rig, bodies):
    peer = rig("one")
    peer.run()
    (failed,) = bodies(peer.on(
        ev.SegmentBroke, code="OUT_OF_MEMORY", message="m", cause="c", evidence="e", remedy="r"))
    assert (failed.cause, failed.evidence, failed.remedy) == ("c", "e", "r")


def test_pace_is_passed_on_while_it_runs(rig, bodies):
    peer = rig("one")
    peer.run()
    assert bodies(peer.on(ev.PaceMeasured, microbatch_s=0.5, microbatches=8)) == [
        do.PaceBody(microbatch_s=0.5, microbatches=8)]
    peer.on(ev.RevokeReceived, reason="r")
    assert not peer.on(ev.PaceMeasured, microbatch_s=0.5, microbatches=8)


def test_availability_is_told_when_it_changes_and_to_every_broker(rig):
    peer = rig("one")
    assert not peer.apply(ev.AvailabilityChanged, availability=ev.Availability.PAUSED)
    (told,) = peer.apply(ev.BrokerConnected, last_report=0)
    assert told == do.TellAvailability(availability=ev.Availability.PAUSED, deadline_ms=0)
    (told,) = peer.apply(
        ev.AvailabilityChanged, availability=ev.Availability.LEAVING, deadline_ms=9_000)
    assert told == do.TellAvailability(availability=ev.Availability.LEAVING, deadline_ms=9_000)
    peer.apply(ev.BrokerDisconnected)
    peer.now_ns = 4_000_000_000
    (told,) = peer.apply(ev.BrokerConnected, last_report=0)
    assert told.deadline_ms == 5_000, "what is left"
    peer.now_ns = 60_000_000_000
    peer.apply(ev.BrokerDisconnected)
    (told,) = peer.apply(ev.BrokerConnected, last_report=0)
    assert told.deadline_ms == 1, "0 would be no hurry"
