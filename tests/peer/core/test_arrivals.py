"""What becomes of what neighbours send, before and after somebody was replaced."""

from __future__ import annotations

import pytest

from peer.core import arrivals
from peer.core import commands as do
from peer.core import events as ev
from peer.core.phases import Mode
from peer.core.state import LeasePhase


def through_a_step(user, step: int = 0) -> None:
    """`two`, segment 1, one microbatch: take the activation and do everything."""
    user.tensor("activation", 0, step=step)
    for _ in range(4):
        user.done()


def test_what_is_due_is_given_to_the_executor_before_its_task(rig, kinds):
    last = rig("two", 1)
    last.run()
    last.tensor("activation", 0, 0)
    assert kinds(last.commands) == ["TakeArrival", "RunTask"]


def test_a_replay_of_what_was_used_is_dropped_without_a_word(rig):
    last = rig("two", 1, microbatches=1)
    last.run()
    through_a_step(last)
    through_a_step(last, 1)
    for step in (0, 1):
        assert not last.tensor("activation", 0, step=step)
    assert (last.taken, last.dropped) == ([1, 2], [3, 4])


def test_an_answer_to_a_later_microbatch_waits_for_its_forward(rig):
    """`two`, segment 0 is replayed: its neighbour has had these microbatches, and answered."""
    first = rig("two", 0, in_flight=1)
    first.run()
    first.tensor("gradient", 0, 0)
    first.tensor("gradient", 0, 1)
    assert (first.taken, first.busy) == ([1], "F0")
    first.done()
    assert (first.taken, first.busy) == ([1, 2], "B0"), "the next forward may begin after it"


def test_tensors_of_later_steps_wait_in_their_order(rig):
    last = rig("two", 1, microbatches=1, steps=5)
    last.run()
    for step in (3, 2, 1, 0):
        last.tensor("activation", 0, step=step)
    assert last.taken == [3, 4], "this step, and the next"
    for _ in range(4):
        last.done()
    assert last.taken == [3, 4, 2]
    for _ in range(4):
        last.done()
    assert last.taken == [3, 4, 2, 1]
    assert not last.lease.held


def test_what_waits_is_dropped_when_it_comes_again(rig):
    last = rig("two", 1, microbatches=1)
    last.run()
    last.tensor("activation", 0, step=2)
    last.tensor("activation", 0, step=2)
    assert (last.taken, last.dropped, len(last.lease.held)) == ([], [2], 1)


def test_before_the_start_everything_that_exists_waits(rig, bodies):
    last = rig("two", 1)
    last.assign()
    last.tensor("activation", 0, 0)
    last.on(ev.SegmentLoaded)
    last.tensor("activation", 0, 1)
    assert last.taken == []
    last.start()
    assert (last.taken, last.busy) == ([1, 2], "F0")
    kinds = [type(command).__name__ for command in last.commands]
    assert kinds == ["SetMembers", "TakeArrival", "TakeArrival", "RunTask"]


def test_before_the_start_nonsense_is_refused(rig, bodies):
    last = rig("two", 1)
    last.apply(ev.BrokerConnected, last_report=0)
    last.assign()
    (failed,) = bodies(last.tensor("activation", 9, 0))
    assert (failed.code, failed.blamed_peer) == ("INVALID_ARGUMENT", "")


def test_what_was_before_the_position_is_dropped_before_the_start(rig):
    last = rig("two", 1, microbatches=1)
    last.assign(position=2, snapshot=ev.SnapshotSource(
        digest="5" * 64, size_bytes=1, data_shards=1, holders=()))
    last.tensor("activation", 0, step=1)
    assert last.dropped == [1]


def test_the_end_of_an_evaluation_lets_in_what_waited_for_it(rig):
    """Acknowledgements end it without the executor; no other event need come after the last."""
    first = rig("two", 0, in_flight=1, evaluate_every=1, evaluation_microbatches=1, microbatches=1)
    first.run()
    first.done()
    first.tensor("gradient", 0, 0)
    assert (first.taken, first.busy) == ([], "")
    first.tensor("acknowledge", 0, 0, mode=Mode.EVALUATE)
    assert (first.taken, first.busy) == ([2, 1], "F0")


def test_parameters_far_ahead_wait(rig):
    """Their home has gone on while this segment is replayed."""
    user = rig("tied", 2, microbatches=1, steps=4)
    user.run()
    for step in (1, 2, 3):
        user.tensor("parameter", 2, step=step)
    assert (user.taken, len(user.lease.held)) == ([1], 2)
    user.tensor("activation", 1)
    for _ in range(5):
        user.done()
    assert user.taken == [1, 4, 2]


def test_gradients_of_parameters_wait_for_their_step(rig):
    home = rig("tied", 0, microbatches=1)
    home.run()
    home.tensor("parameter_gradient", 2, step=1)
    home.tensor("parameter_gradient", 2, step=0)
    assert (home.taken, len(home.lease.held)) == ([2], 1)
    home.done()
    home.tensor("gradient", 0)
    home.done()
    home.done()
    home.tensor("parameter_gradient", 2, step=0)
    assert home.dropped == [4], "the norms have been measured"
    home.done()
    assert home.taken == [2, 3, 1]


def test_a_storing_and_a_finished_segment_keep_no_link(rig):
    last = rig("two", 1, microbatches=1, steps=1)
    last.run()
    through_a_step(last)
    assert last.lease.phase is LeasePhase.STORING
    last.tensor("activation", 0)
    last.on(ev.ResultStored, digest="d" * 64, size_bytes=1)
    last.tensor("activation", 0)
    assert last.dropped == [2, 3]


def test_the_end_drops_what_no_forward_will_use(rig):
    """Without clipping nobody asks for it; a link that brings it must go on all the same."""
    lead = rig("two", 0, microbatches=1, steps=1, clip_norm=1.0)
    lead.run()
    lead.done()
    lead.tensor("gradient", 0)
    lead.done()
    lead.done(norms=(("w0", 1.0),))
    lead.on(ev.NormsReceived, source=1, step=0, squared_norms=())
    lead.lease.held.append(ev.TensorReceived(
        at_ns=0, job_id=lead.lease.job_id, segment=0, token=7, arrival=99,
        kind=ev.TensorKind.GRADIENT, edge=0, mode=Mode.TRAIN, step=0, microbatch=0))
    lead.done()
    assert lead.lease.phase is LeasePhase.STORING
    assert (lead.dropped, lead.lease.held) == ([99], [])


def test_what_waits_is_bounded(rig, bodies, monkeypatch):
    monkeypatch.setattr("peer.core.machine.HELD_MAX", 3)
    last = rig("two", 1, microbatches=4, steps=9)
    last.run()
    for microbatch in range(3):
        assert not last.tensor("activation", 0, microbatch, step=5)
    (failed,) = bodies(last.tensor("activation", 0, 3, step=5))
    assert "came while too many others wait" in failed.message
    assert failed.blamed_peer == "peer_0"
    assert not last.lease.held


def test_an_unloaded_lease_answers_what_still_arrives(rig):
    last = rig("two", 1)
    last.run()
    last.on(ev.RevokeReceived, reason="r")
    last.tensor("activation", 0, 0)
    last.on(ev.SegmentUnloaded)
    last.tensor("activation", 0, 0)
    assert last.dropped == [1, 2]


@pytest.mark.parametrize(("topology", "segment", "sent", "sender"), [
    ("chain", 1, ("activation", 0), 0), ("chain", 1, ("gradient", 1), 2),
    ("tied", 2, ("parameter", 2), 0), ("tied", 0, ("parameter_gradient", 2), 2),
    ("chain", 1, ("gradient", 7), -1)])
def test_the_sender_is_the_other_end_of_the_edge(rig, topology, segment, sent, sender):
    peer = rig(topology, segment)
    peer.run()
    event = ev.TensorReceived(
        at_ns=0, job_id="j", segment=segment, token=7, arrival=1, kind=ev.TensorKind(sent[0]),
        edge=sent[1], mode=Mode.TRAIN, step=0, microbatch=0)
    assert arrivals.sender_of(peer.lease, event) == sender


def test_of_an_inference_microbatches_before_the_position_are_dropped(rig):
    from sim.topologies import TOPOLOGIES, inference_spec_of, segments_of

    peer = rig("two", 1)
    peer.spec = inference_spec_of(2, rows=10)
    peer.segments = segments_of(*TOPOLOGIES["two"], "infer")
    peer.run(position=3)
    for microbatch in (2, 3, 4):
        peer.tensor("activation", 0, microbatch, mode=Mode.INFER)
    assert (peer.taken, peer.dropped) == ([2, 3], [1])
    assert peer.peer.state.busy.task.microbatch == 3
    steps = [c.body for c in peer.done() if isinstance(c, do.SendReport)]
    assert steps == [do.StepsBody(first_step=3, count=1, losses=())]
