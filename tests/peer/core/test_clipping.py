"""The gradient factor, and the lead's collection of norms."""

from __future__ import annotations

from math import inf, isnan, nan, sqrt

import pytest

from peer.core import commands as do
from peer.core import events as ev
from peer.core.clipping import CLIP_EPSILON, NormGathering, gradient_scale


def test_the_factor_is_that_of_torch():
    assert gradient_scale({"a": 9.0, "b": 16.0}, 1.0) == 1.0 / (5.0 + CLIP_EPSILON)
    assert gradient_scale({"a": 9.0, "b": 16.0}, 10.0) == 1.0
    assert gradient_scale({}, 1.0) == 1.0


def test_the_factor_does_not_depend_on_who_held_what():
    values = {f"w{i}": 0.1 * 3**i for i in range(30)}
    backwards = dict(reversed(values.items()))
    assert gradient_scale(values, 1.0) == gradient_scale(backwards, 1.0)


def test_norms_that_overflow_give_no_factor():
    assert isnan(gradient_scale({"a": 1.7e308, "b": 1.7e308}, 1.0))


def test_gathering_ends_when_all_are_in():
    gathering = NormGathering(3)
    assert gathering.add(0, 2, (("c", 3.0),)) is None
    assert gathering.add(0, 0, (("a", 1.0),)) is None
    assert gathering.missing(0) == 1
    assert list(gathering.add(0, 1, (("b", 2.0),)).items()) == [("a", 1.0), ("b", 2.0), ("c", 3.0)]
    assert not gathering.by_step
    assert gathering.missing(0) is None


def test_gathering_knows_what_it_has():
    gathering = NormGathering(3)
    gathering.add(5, 2, ())
    assert gathering.has(5, 2)
    assert not gathering.has(5, 1)
    assert not gathering.has(6, 2)


def through_the_step(lead) -> None:
    """Segment 0 of `chain`, one microbatch: until its norms are measured."""
    lead.run()
    lead.done()
    lead.tensor("gradient", 0)
    lead.done()
    assert lead.busy == "M"


def through_the_step_of_two(lead) -> None:
    """Until both norms are in, and the update is run."""
    through_the_step(lead)
    lead.done(norms=(("w0", 1.0),))
    lead.on(ev.NormsReceived, source=1, step=0, squared_norms=(("w1", 4.0),))
    assert lead.busy == "U"


def test_the_lead_adds_three_segments(rig):
    lead = rig("chain", 0, microbatches=1, clip_norm=1.0)
    through_the_step(lead)
    lead.on(ev.NormsReceived, source=2, step=0, squared_norms=(("w2", 4.0),))
    assert not lead.done(norms=(("w0", 1.0),))
    assert lead.lease.waiting.segment == 1
    assert "norms" in lead.lease.waiting.what
    commands = lead.on(ev.NormsReceived, source=1, step=0, squared_norms=(("w1", 4.0),))
    scale = 1.0 / (sqrt(9.0) + CLIP_EPSILON)
    sent = [(c.target, c.step, c.scale) for c in commands if isinstance(c, do.SendScale)]
    assert sent == [(1, 0, scale), (2, 0, scale)]
    assert commands[-1].task == ev.Task(kind=ev.TaskKind.UPDATE, mode="train", step=0, scale=scale)


def test_norms_may_be_a_step_ahead_of_the_lead(rig):
    """A segment that nobody makes wait measures while the lead still updates."""
    lead = rig("chain", 0, microbatches=1, clip_norm=1.0)
    lead.run()
    assert not lead.on(ev.NormsReceived, source=1, step=1, squared_norms=())
    assert lead.taken == [1]


def test_norms_further_ahead_wait(rig):
    """A lead that was restored is behind the others."""
    lead = rig("two", 0, microbatches=1, clip_norm=1.0)
    lead.run()
    lead.on(ev.NormsReceived, source=1, step=2, squared_norms=())
    assert (lead.taken, lead.dropped, len(lead.lease.held)) == ([], [], 1)
    lead.done()
    lead.tensor("gradient", 0)
    lead.done()
    lead.done(norms=(("w0", 1.0),))
    lead.on(ev.NormsReceived, source=1, step=0, squared_norms=())
    assert lead.busy == "U"
    lead.done()
    assert lead.taken == [2, 3, 1], "step 1 has begun, and step 2 is the next"


@pytest.mark.parametrize(("step", "source"), [(0, 2), (0, 0), (0, -1), (-1, 1), (9, 1)])
def test_norms_that_nobody_sends_are_refused(rig, bodies, step: int, source: int):
    lead = rig("two", 0, microbatches=1, clip_norm=1.0)
    lead.run()
    (failed,) = bodies(lead.on(ev.NormsReceived, source=source, step=step, squared_norms=()))
    assert failed.code == "INVALID_ARGUMENT"


def test_norms_that_were_here_before_are_dropped(rig):
    lead = rig("two", 0, microbatches=1, clip_norm=1.0)
    through_the_step_of_two(lead)
    for _ in range(2):
        assert not lead.on(ev.NormsReceived, source=1, step=0, squared_norms=())
    lead.done()
    assert not lead.on(ev.NormsReceived, source=1, step=0, squared_norms=())
    assert lead.dropped == [3, 4, 5], "while the update is run, and after it"


def test_a_lead_that_goes_on_from_a_position_gathers_its_norms_again(rig):
    lead = rig("two", 0, microbatches=1, clip_norm=1.0)
    lead.run(position=1)
    lead.on(ev.NormsReceived, source=1, step=0, squared_norms=())
    assert lead.dropped == [1]
    lead.done()
    lead.tensor("gradient", 0, step=1)
    lead.done()
    lead.done(norms=(("w0", 1.0),))
    commands = lead.on(ev.NormsReceived, source=1, step=1, squared_norms=(("w1", 1.0),))
    assert [c.step for c in commands if isinstance(c, do.SendScale)] == [1]


def test_others_send_their_norms_and_wait_for_the_factor(rig):
    last = rig("chain", 2, microbatches=1, clip_norm=1.0)
    last.run()
    last.tensor("activation", 1)
    last.done()
    last.done()
    (sent,) = last.done(norms=(("w2", 4.0),))
    assert sent == do.SendNorms(job_id=sent.job_id, segment=2, token=7, step=0,
                                squared_norms=(("w2", 4.0),))
    assert last.lease.waiting.what == "the gradient scale of step 0"
    (run,) = last.on(ev.ScaleReceived, step=0, scale=0.25)
    assert run.task.scale == 0.25


@pytest.mark.parametrize("scale", [2.0, -0.1, inf, nan])
def test_a_factor_out_of_range_is_refused(rig, bodies, scale: float):
    last = rig("chain", 2, microbatches=1, clip_norm=1.0)
    last.run()
    last.tensor("activation", 1)
    for _ in range(3):
        last.done()
    (failed,) = bodies(last.on(ev.ScaleReceived, step=0, scale=scale))
    assert (failed.code, failed.blamed_peer) == ("INVALID_ARGUMENT", "peer_0")


@pytest.mark.parametrize("step", [-1, 3, 99])
def test_a_factor_of_no_step_is_refused(rig, bodies, step: int):
    last = rig("chain", 2, microbatches=1, clip_norm=1.0)
    last.run()
    (failed,) = bodies(last.on(ev.ScaleReceived, step=step, scale=0.5))
    assert f"a gradient scale of 0.5 for step {step} is nothing" in failed.message
    assert failed.blamed_peer == "peer_0"


def test_a_factor_waits_until_the_norms_are_measured(rig):
    """A replayed segment gets the factors of steps that it has yet to do again."""
    last = rig("two", 1, microbatches=1, clip_norm=1.0)
    last.run()
    last.on(ev.ScaleReceived, step=0, scale=0.5)
    last.on(ev.ScaleReceived, step=1, scale=0.25)
    assert (last.taken, len(last.lease.held)) == ([], 2)
    last.tensor("activation", 0)
    for _ in range(3):
        last.done()
    assert last.peer.state.busy.task.scale == 0.5
    last.on(ev.ScaleReceived, step=0, scale=0.5)
    last.done()
    assert (last.taken, last.dropped) == ([3, 1], [4])
    last.on(ev.ScaleReceived, step=0, scale=0.5)
    assert last.dropped == [4, 5], "of the step before"


@pytest.mark.parametrize("clip", [0.0, 1.0])
def test_norms_nobody_asked_for_are_refused(rig, bodies, clip: float):
    lead = rig("chain", 0 if clip == 0 else 1, clip_norm=clip)
    lead.run()
    (failed,) = bodies(lead.on(ev.NormsReceived, source=2, step=0, squared_norms=()))
    assert failed.blamed_peer == "peer_2"


def test_norms_that_overflow_fail_the_job_not_the_peer(rig, bodies):
    lead = rig("two", 0, microbatches=1, clip_norm=1.0)
    through_the_step(lead)
    lead.on(ev.NormsReceived, source=1, step=0, squared_norms=(("w1", 1.7e308),))
    commands = lead.done(norms=(("w0", 1.7e308),))
    (failed,) = bodies(commands)
    assert failed.code == "LOSS_NOT_FINITE"
    assert not any(isinstance(c, do.SendScale) for c in commands), "others would fail with it"


@pytest.mark.parametrize("norm", [nan, inf, -1.0])
def test_norms_that_no_correct_segment_sends_are_its_senders_fault(rig, bodies, norm: float):
    lead = rig("two", 0, microbatches=1, clip_norm=1.0)
    through_the_step(lead)
    (failed,) = bodies(lead.on(
        ev.NormsReceived, source=1, step=0, squared_norms=(("w1", norm),)))
    assert failed.blamed_peer == "peer_1"
    assert str(norm) in failed.message


def test_without_clipping_nobody_waits(rig):
    last = rig("chain", 2, microbatches=1)
    last.run()
    last.tensor("activation", 1)
    last.done()
    last.done()
    last.done()
    assert last.busy == "U"
