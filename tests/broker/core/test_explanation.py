"""Why segments are where they are: read off the plan, the ranking and the takeovers."""

from __future__ import annotations

from dataclasses import replace

import pytest

from broker.core import events as ev
from broker.core.explanation import SHOWN_OF_ALL, explain
from broker.core.left_out import left_out
from broker.core.no_work import counted_refusals, no_work
from dag.placement import Candidate, Refusal


def explained(world, job, segment=None):
    return explain(world.broker, job, segment)


def rules(segment):
    return {one.peer_id: one.rule for one in segment.alternatives}


def test_a_job_that_waits_says_for_what(world):
    world.submit()
    (job,) = world.broker.state.jobs
    found = explained(world, job)
    assert (found.state, found.algorithm, found.segments) == ("submitted", "", ())
    assert [(bound.rule, bound.text) for bound in found.bounds] == [
        ("waits", "It waits: no live peers.")]


def test_the_plan_is_explained_with_what_else_was_offered(world, make):
    for peer in ("peer_a", "peer_b", "peer_c"):
        world.connect(peer)
    world.submit(make.spec(peers=2))
    (job,) = world.broker.state.jobs
    left_out = Refusal(subject="peer_c", rule="slower", wanted=1.5, had=2.0, text="With it 2 s.")
    world.solve(job, [], answer=replace(
        make.placement(["peer_a", "peer_b"]), idle=(left_out,), candidates=(
            Candidate(algorithm="test", step_s=1.5, reason=""),
            Candidate(algorithm="m-etf", step_s=1.9, reason="slower"),
            Candidate(algorithm="m-sct", step_s=None, reason="does not fit"))))
    found = explained(world, job)
    assert [(one.algorithm, one.has_plan, one.step_s) for one in found.offers] == [
        ("test", True, 1.5), ("m-etf", True, 1.9), ("m-sct", False, 0.0)]
    assert [one.subject_name for one in found.idle] == ["PEER_C"]
    assert [bound.rule for bound in found.bounds] == ["count"]
    first, _ = found.segments
    assert (first.rule, first.planned_peer_id, first.predicted_s) == (
        "plan", "peer_a", pytest.approx(0.3))
    assert first.why == "test put it here: with this plan a step should take 1.5 s, the shortest " \
        "of 2 plans."


def test_each_other_peer_has_its_reason(world, make):
    job = world.training("peer_a", "peer_b")
    world.connect("peer_c")
    world.connect("peer_d")
    world.connect("peer_e", hardware=make.hardware(memory_bytes=1))
    world.connect("peer_f", availability="paused")
    world.connect("peer_g")
    world.connect("peer_h")
    everybody = dict.fromkeys(("peer_a", "peer_b"), 0.3)
    times = everybody | {"peer_c": 0.1, "peer_d": 0.5, "peer_h": 0.3}
    world.rank(job, times, times)
    world.connect("peer_i")
    segment = explained(world, job, 0).segments[0]
    assert rules(segment) == {
        "peer_c": "not_moved", "peer_h": "equal", "peer_d": "slower", "peer_i": "unranked",
        "peer_b": "busy", "peer_e": "memory", "peer_f": "unavailable", "peer_g": "executor"}
    assert [one.peer_id for one in segment.alternatives] == [
        "peer_c", "peer_h", "peer_d", "peer_i", "peer_b", "peer_e", "peer_f", "peer_g"]
    assert segment.alternatives[0].text.startswith(
        "A microbatch should take 0.1 s there and 0.3 s here.")
    assert segment.alternatives[4].text == f"It runs {job}/1."
    assert {one.level for one in segment.alternatives} == {""}


def test_a_takeover_says_after_whom_and_why(world):
    job = world.training("peer_a", "peer_b")
    world.connect("peer_c")
    world.reach_all(job)
    world.lose("peer_b")
    segment = explained(world, job).segments[1]
    assert (segment.peer_id, segment.planned_peer_id, segment.rule) == (
        "peer_c", "peer_b", "takeover")
    assert segment.why.startswith(
        "It took the segment over as its backup (warm), after PEER_B (peer_b): peer PEER_B")
    assert [span.reason for span in world.broker.timelines.of(job)] == ["", "", segment.why]
    assert "peer_b" not in rules(segment), "who is lost is no alternative"


def test_who_has_taken_a_segment_over_is_not_left_out_and_who_gave_it_up_is(world, make):
    job = world.training("peer_a", "peer_b")
    record = world.broker.state.jobs[job]
    record.placement = replace(record.placement, idle=(
        Refusal(subject="peer_c", rule="slower", wanted=1.5, had=2.0, text="With it 2 s."),))
    world.connect("peer_c")
    world.reach_all(job)
    assert [(one.subject, one.rule) for one in left_out(record)] == [("peer_c", "slower")]
    world.lose("peer_b")
    assert [(one.subject, one.rule) for one in left_out(record)] == [("peer_b", "moved")]
    assert [one.subject_name for one in explained(world, job).idle] == ["PEER_B"]
    world.connect("peer_b")
    assert {one.rule for one in no_work(
        world.broker.state, "peer_b", counted_refusals(world.broker.state))} == {"moved"}


def test_the_slowest_segment_bounds_the_job_as_predicted_and_then_as_measured(world):
    job = world.training("peer_a", "peer_b")
    world.rank(job, {"peer_a": 0.3, "peer_b": 0.3}, {"peer_a": 0.3, "peer_b": 0.4})
    (bound,) = explained(world, job).bounds
    assert (bound.rule, bound.segment) == ("slowest", 1)
    assert "should take 0.4 s there and at most 0.3 s elsewhere" in bound.text
    for segment, time_s in ((0, 0.9), (1, 0.4)):
        world.report(ev.SegmentPace, job, segment, microbatches=4, microbatch_s=time_s)
    found = explained(world, job)
    (bound,) = found.bounds
    assert (bound.segment, found.segments[0].measured_s) == (0, 0.9)
    assert "takes 0.9 s" in bound.text


def test_a_full_peer_is_named(world, make):
    world.connect("peer_a", hardware=make.hardware(memory_bytes=(1 << 20) + 100))
    job = world.prepared("peer_a")
    (bound,) = explained(world, job).bounds
    assert (bound.rule, bound.segment) == ("memory", 0)
    assert "takes 100% of the memory that PEER_A" in bound.text


def test_of_many_peers_the_best_are_listed_and_the_rest_counted(world):
    job = world.training("peer_a")
    for number in range(SHOWN_OF_ALL + 5):
        world.connect(f"peer_x{number:02}")
    segment = explained(world, job).segments[0]
    assert (len(segment.alternatives), segment.more_alternatives) == (SHOWN_OF_ALL, 5)
    segment = explained(world, job, 0).segments[0]
    assert (len(segment.alternatives), segment.more_alternatives) == (SHOWN_OF_ALL + 5, 0)


def test_an_ended_job_has_no_alternatives_any_more(world):
    job = world.training("peer_a")
    world.connect("peer_b")
    world.apply(ev.CancelRequested, request_id="r", job_id=job, by="client_a")
    segment = explained(world, job).segments[0]
    assert (segment.peer_id, segment.alternatives) == ("peer_a", ())


def test_what_is_not_there_is_not_explained(world):
    job = world.training("peer_a")
    assert explained(world, "job_x") is None
    assert explained(world, job, 1) is None
    assert explained(world, job, -1) is None
