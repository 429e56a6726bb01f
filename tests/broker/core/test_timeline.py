"""Timelines: who had which segment, and when."""

from __future__ import annotations

from broker.core import events as ev
from broker.core import limits, operator_views
from broker.core.machine import Broker
from broker.core.timeline import Timelines

SECOND = 1_000_000_000


def spans(world, job):
    return [(span.segment, span.peer_id, span.position, bool(span.running_at_ns), span.end)
            for span in operator_views.timeline(world.broker, job)]


def test_a_takeover_is_two_spans_of_one_segment(world):
    job = world.training_with_backups()
    began_ns = world.now_ns
    world.sleep(5_000, "peer_a", "peer_b", "peer_c", "peer_d")
    world.lose("peer_b")
    taker, _ = world.tokens[job, 1]
    world.report(ev.SegmentReady, job, 1)
    assert spans(world, job) == [
        (0, "peer_a", 0, True, ""), (1, "peer_b", 0, True, "revoked"), (1, taker, 4, True, "")]
    _, lost, taken = operator_views.timeline(world.broker, job)
    assert lost.running_at_ns <= began_ns + 5 * SECOND <= lost.ended_at_ns
    assert lost.ended_at_ns <= taken.assigned_at_ns <= taken.running_at_ns
    assert taken.ended_at_ns == 0
    assert lost.token < taken.token


def test_a_segment_that_is_done_has_ended_as_finished(world):
    job = world.running("peer_a", "peer_b")
    for segment in (0, 1):
        world.steps(job, segment, 0, 3)
        world.finish(job, segment)
    assert spans(world, job) == [
        (0, "peer_a", 0, True, "finished"), (1, "peer_b", 0, True, "finished")]


def test_a_job_that_is_planned_again_has_let_go(world):
    job = world.prepared("peer_a", "peer_b")
    world.lose("peer_b")
    assert (1, "peer_b", 0, False, "revoked") in spans(world, job)


def test_a_replay_tells_the_same(world):
    job = world.training_with_backups()
    world.lose("peer_b")
    again = Broker()
    for event in world.journal:
        again.apply(event)
    assert operator_views.timeline(again, job) == operator_views.timeline(world.broker, job) != ()


def test_the_jobs_and_spans_that_changed_longest_ago_make_room(world, monkeypatch):
    monkeypatch.setattr(limits, "TIMELINES", 1)
    monkeypatch.setattr(limits, "TIMELINE_SPANS", 1)
    world.broker.timelines = Timelines()
    first = world.training("peer_a", "peer_b")
    assert len(spans(world, first)) == 1
    world.training("peer_c", "peer_d")
    assert spans(world, first) == []
