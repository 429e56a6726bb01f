"""The life of a lease on a peer."""

from __future__ import annotations

from math import inf, nan

import pytest

from dag.cluster import Correction
from ir.operators import OpClass
from peer.core import commands as do
from peer.core import events as ev
from peer.core.phases import Mode
from peer.core.state import LeasePhase

PHASES = ["loading", "ready", "running", "storing", "finished"]


def bring_to(peer, phase: str) -> None:
    """Take a rig of `one`, one step of one microbatch, to a phase."""
    peer.apply(ev.BrokerConnected, last_report=0)
    peer.assign()
    if phase != "loading":
        peer.on(ev.SegmentLoaded)
    if phase not in ("loading", "ready"):
        peer.start()
    if phase in ("storing", "finished"):
        for _ in range(4):
            peer.done()
    if phase == "finished":
        peer.on(ev.ResultStored, digest="d" * 64, size_bytes=5)
    assert peer.lease.phase == phase


@pytest.fixture
def small(rig):
    return rig("one", steps=1, microbatches=1)


def test_life_of_a_lease(small, kinds, bodies):
    small.apply(ev.BrokerConnected, last_report=0)
    (load,) = small.assign()
    assert (load.program, load.spec, load.token) == (small.segments[0], small.spec, 7)
    assert bodies(small.on(ev.SegmentLoaded)) == [do.ReadyBody()]
    assert kinds(small.start()) == ["SetMembers", "RunTask"]
    assert [small.busy, *(small.done() and small.busy for _ in range(3))] == ["F0", "B0", "M", "U"]
    assert kinds(small.done()) == ["SendReport", "StoreResult"]
    learnt = (Correction(direction="forward", op_class=OpClass.MATMUL, factor=1.5),)
    commands = small.on(ev.ResultStored, digest="d" * 64, size_bytes=5, corrections=learnt)
    assert bodies(commands) == [
        do.FinishedBody(result_digest="d" * 64, result_bytes=5, corrections=learnt)]
    assert kinds(commands) == ["SendReport", "FreeExecutor"]
    assert not small.apply(ev.ReportsAcknowledged, through_number=3), "others may need its log"
    assert kinds(small.on(ev.RevokeReceived, reason="the job is over")) == ["UnloadSegment"]
    assert bodies(small.on(ev.SegmentUnloaded)) == [do.ReleasedBody()]
    assert small.lease is None


def test_repeats_change_nothing(small):
    small.apply(ev.BrokerConnected, last_report=0)
    small.assign()
    assert not small.assign()
    small.on(ev.SegmentLoaded)
    assert not small.on(ev.SegmentLoaded)
    assert not small.assign()
    small.start()
    assert not small.start()
    task = small.peer.state.busy.task
    small.done()
    assert not small.on(ev.TaskFinished, task=task, loss=0.5)
    assert small.busy == "B0"
    for _ in range(3):
        small.done()
    result = {"digest": "d" * 64, "size_bytes": 5}
    assert small.on(ev.ResultStored, **result)
    assert not small.on(ev.ResultStored, **result)
    small.apply(ev.ReportsAcknowledged, through_number=3)
    assert not small.apply(ev.ReportsAcknowledged, through_number=3)


def test_a_start_before_it_is_loaded_is_ignored(small):
    small.assign()
    assert not small.start()
    assert small.lease.phase is LeasePhase.LOADING


@pytest.mark.parametrize("phase", PHASES)
def test_revoke_unloads_in_every_phase(small, kinds, bodies, phase: str):
    bring_to(small, phase)
    assert kinds(small.on(ev.RevokeReceived, reason="r")) == ["UnloadSegment"]
    assert small.peer.state.busy is None
    assert not small.on(ev.RevokeReceived, reason="r"), "a repeat"
    assert bodies(small.on(ev.SegmentUnloaded)) == [do.ReleasedBody()]
    assert small.lease is None


def test_revoke_of_what_is_not_held_is_confirmed_at_once(small, bodies):
    small.apply(ev.BrokerConnected, last_report=0)
    assert bodies(small.on(ev.RevokeReceived, reason="r")) == [do.ReleasedBody()]


@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("token", [6, 8])
def test_events_under_another_token_are_ignored(small, phase: str, token: int):
    bring_to(small, phase)
    lease = {"token": token}
    busy = small.peer.state.busy
    for kind, fields in (
        (ev.SegmentLoaded, {}),
        (ev.StartReceived, {"members": ()}),
        (ev.SegmentBroke, {"code": "INTERNAL", "message": "m"}),
        (ev.TaskFinished, {"task": ev.Task(kind=ev.TaskKind.FORWARD, mode="train", step=0)}),
        (ev.ResultStored, {"digest": "", "size_bytes": 0}),
        (ev.NormsReceived, {"source": 1, "step": 0, "squared_norms": ()}),
        (ev.ScaleReceived, {"step": 0, "scale": 1.0}),
        (ev.TensorReceived, {"kind": ev.TensorKind.GRADIENT, "edge": 0, "mode": "train",
                             "step": 0, "microbatch": 0}),
    ):
        assert not small.on(kind, **lease, **fields)
    assert len(small.dropped) == 3, "what arrived for nobody keeps no link"
    assert (small.lease.phase, small.peer.state.busy) == (phase, busy)


@pytest.mark.parametrize("phase", PHASES)
def test_an_older_assignment_is_ignored(small, phase: str):
    bring_to(small, phase)
    assert not small.assign(token=6)
    assert small.lease.token == 7


@pytest.mark.parametrize("phase", PHASES)
def test_a_newer_assignment_replaces(small, kinds, bodies, phase: str):
    bring_to(small, phase)
    assert kinds(small.assign(token=8)) == ["UnloadSegment", "LoadSegment"]
    assert (small.lease.token, small.lease.phase) == (8, LeasePhase.LOADING)
    assert bodies(small.on(ev.SegmentUnloaded)) == [do.ReleasedBody()]
    assert small.lease.token == 8


def test_a_late_answer_of_a_replaced_lease_is_not_the_new_ones(small):
    """Both run the same first task; only the token tells them apart."""
    bring_to(small, "running")
    task = small.peer.state.busy.task
    small.assign(token=8)
    small.on(ev.SegmentLoaded, token=8)
    small.on(ev.StartReceived, token=8, members=())
    assert not small.on(ev.TaskFinished, task=task, loss=0.1)
    assert small.peer.state.busy.token == 8
    assert small.lease.run.forwarded == 0


@pytest.mark.parametrize("phase", ["loading", "ready", "running", "storing"])
def test_what_breaks_is_reported_and_unloaded(small, bodies, kinds, phase: str):
    bring_to(small, phase)
    commands = small.on(ev.SegmentBroke, code="EXECUTOR_DIED", message="gone")
    assert bodies(commands) == [
        do.FailedBody(code="EXECUTOR_DIED", message="gone", blamed_peer="")]
    assert kinds(commands)[-1] == "UnloadSegment"
    assert not small.on(ev.SegmentBroke, code="EXECUTOR_DIED", message="again")
    assert not small.on(ev.SegmentUnloaded)
    assert small.lease is None


def test_neighbours_may_go_while_the_result_is_stored(small):
    bring_to(small, "storing")
    assert not small.on(ev.SegmentBroke, code="PEER_LOST", message="m", blamed_peer="peer_1")
    assert small.lease.phase is LeasePhase.STORING


def test_nothing_breaks_a_finished_segment(small):
    bring_to(small, "finished")
    assert not small.on(ev.SegmentBroke, code="EXECUTOR_DIED", message="gone")
    assert not small.on(ev.SegmentBroke, code="PEER_LOST", message="m", blamed_peer="peer_1")
    assert small.lease.phase is LeasePhase.FINISHED


@pytest.mark.parametrize("loss", [nan, inf, -inf])
def test_a_loss_that_is_not_finite_fails_the_segment(small, bodies, loss: float):
    bring_to(small, "running")
    (failed,) = bodies(small.done(loss=loss))
    assert failed.code == "LOSS_NOT_FINITE"
    assert "train step 0, microbatch 0" in failed.message


def test_norms_that_are_not_finite_fail_the_segment(small, bodies):
    bring_to(small, "running")
    small.done()
    small.done()
    (failed,) = bodies(small.done(norms=(("w0", nan),)))
    assert failed.code == "LOSS_NOT_FINITE"


def test_a_stall_names_the_tensor_and_the_peer(rig, bodies):
    peer = rig("chain", 1)
    peer.now_ns = 1_000
    peer.run()
    assert peer.peer.next_wakeup_ns() == 1_000 + 5_000_000_000
    peer.now_ns += 4_999_999_999
    assert not peer.apply(ev.TimerFired)
    peer.now_ns += 1
    (lost,) = bodies(peer.apply(ev.TimerFired))
    assert (lost.code, lost.neighbour, lost.peer_id) == ("STALLED", 0, "peer_0")
    assert "waited 5 s for activation of 'v0_1' (edge 0, train step 0, microbatch 0)" in (
        lost.message)
    assert peer.peer.next_wakeup_ns() is None, "said once"
    peer.now_ns *= 2
    assert not peer.apply(ev.TimerFired)
    assert peer.lease.phase is LeasePhase.RUNNING
    peer.tensor("activation", 0, 0)
    assert peer.busy == "F0"


def test_every_tensor_starts_the_wait_anew(rig):
    peer = rig("chain", 1)
    peer.run()
    peer.now_ns += 3_000_000_000
    peer.tensor("activation", 0, 0)
    peer.done()
    assert peer.peer.next_wakeup_ns() == 8_000_000_000


def test_an_executor_that_hangs_is_a_stall(rig, bodies):
    peer = rig("one")
    peer.run()
    assert peer.peer.next_wakeup_ns() == 5_000_000_000
    peer.now_ns = 5_000_000_000
    (failed,) = bodies(peer.apply(ev.TimerFired))
    assert (failed.code, failed.blamed_peer) == ("STALLED", "")
    assert "forward of train step 0, microbatch 0" in failed.message


def test_two_segments_share_the_executor(rig):
    """Updates go before backwards before forwards; one task at a time."""
    peer = rig("two", 0, microbatches=1)
    peer.run()
    other = {"segment": 1, "token": 9}
    peer.assign(segment=peer.segments[1], token=9)
    peer.on(ev.SegmentLoaded, **other)
    members = peer.lease.members
    assert not [c for c in peer.on(ev.StartReceived, **other, members=members)
                if isinstance(c, do.RunTask)], "the executor is busy"
    peer.on(ev.TensorReceived, **other, kind=ev.TensorKind.ACTIVATION, edge=0, mode=Mode.TRAIN,
            step=0, microbatch=0)
    peer.done()
    busy = peer.peer.state.busy
    assert (busy.segment, busy.task.kind) == (1, ev.TaskKind.FORWARD)


def test_time_does_not_go_back(small):
    small.now_ns = 5
    small.assign()
    small.now_ns = 4
    with pytest.raises(ValueError, match="time went back"):
        small.on(ev.SegmentLoaded)


def test_a_broker_that_is_away_stops_nothing(small, bodies):
    bring_to(small, "running")
    small.apply(ev.BrokerDisconnected)
    for _ in range(4):
        assert not bodies(small.done())
    assert not bodies(small.on(ev.ResultStored, digest="d" * 64, size_bytes=5))
    assert [type(b).__name__ for b in bodies(small.apply(ev.BrokerConnected, last_report=1))] == [
        "StepsBody", "FinishedBody"]
