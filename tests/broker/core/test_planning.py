"""When a placement is asked for, and what an answer does."""

from __future__ import annotations

from dataclasses import replace

import pytest

from broker.core import commands as do
from broker.core import events as ev
from broker.core import views
from dag.cluster import Link
from dag.support import FIRST_RELEASE, ExecutorSupport


def reason(world, job="job_000001"):
    return views.job(world.broker, job).reason


def test_without_peers_a_job_waits_and_says_so(world, only):
    assert not only(world.submit(), do.SolvePlacement)
    assert reason(world) == "no live peers"
    (ask,) = only(world.connect("peer_a"), do.SolvePlacement)
    assert ask.job_id == "job_000001"
    assert world.state_of("job_000001") == "planning"


def test_the_snapshot_has_free_peers_by_id_and_links_between_them(world, only):
    for peer in ("peer_c", "peer_a", "peer_b"):
        world.connect(peer)
    links = [Link(source=a, target=b, latency_s=0.1, bandwidth_bytes_per_s=1e6)
             for a, b in (("peer_c", "peer_a"), ("peer_a", "peer_b"), ("peer_a", "peer_c"))]
    for link in links:
        world.apply(ev.LinkMeasured, link=link)
    world.disconnect("peer_b")
    (ask,) = only(world.submit(), do.SolvePlacement)
    assert [peer.peer_id for peer in ask.cluster.peers] == ["peer_a", "peer_c"]
    assert ask.cluster.links == (links[2], links[0])
    assert ask.cluster.peers[0].memory_bytes == 8 << 30


def test_the_snapshot_says_what_each_executor_runs(world, only, make):
    lesser = ExecutorSupport(trainable=False, opset_min=23, opset_max=23, operators=())
    world.connect("peer_a")
    world.connect("peer_b", hardware=make.hardware(executor="onnxruntime", support=lesser))
    (ask,) = only(world.submit(), do.SolvePlacement)
    assert [(peer.executor, peer.support) for peer in ask.cluster.peers] == [
        (make.hardware().executor, FIRST_RELEASE), ("onnxruntime", lesser)]


def test_an_answer_grants_leases_with_growing_tokens(world, only):
    world.connect("peer_a")
    world.connect("peer_b")
    world.submit()
    commands = world.solve("job_000001", ["peer_b", "peer_a"])
    grants = only(commands, do.AssignSegment)
    assert [(g.peer_id, g.segment.index, g.token) for g in grants] == [
        ("peer_b", 0, 1), ("peer_a", 1, 2)]
    assert {g.segments for g in grants} == {2}
    assert {g.stall_timeout_ms for g in grants} == {120_000}
    assert world.state_of("job_000001") == "preparing"
    world.apply(ev.CancelRequested, request_id="r", job_id="job_000001", by="client_a")
    for segment in (0, 1):
        world.report(ev.SegmentReleased, "job_000001", segment)
    world.submit()
    grants = only(world.solve("job_000002", ["peer_a"]), do.AssignSegment)
    assert [g.token for g in grants] == [3], "tokens are never used again"


def test_jobs_are_planned_one_at_a_time_in_order(world, only):
    for peer in ("peer_a", "peer_b", "peer_c"):
        world.connect(peer)
    assert len(only(world.submit(), do.SolvePlacement)) == 1
    assert not only(world.submit(), do.SolvePlacement)
    (ask,) = only(world.solve("job_000001", ["peer_b"]), do.SolvePlacement)
    assert ask.job_id == "job_000002"
    assert [peer.peer_id for peer in ask.cluster.peers] == ["peer_a", "peer_c"]


def test_with_all_peers_busy_a_job_waits_for_one(world, only):
    first = world.running("peer_a", "peer_b")
    assert not only(world.submit(), do.SolvePlacement)
    assert reason(world, "job_000002") == "needs 1 free peer; 0 free, 2 busy, 0 reconnecting"
    for segment in (0, 1):
        world.steps(first, segment, 0, 3)
    world.finish(first, 0)
    assert not only(world.finish(first, 1), do.SolvePlacement), "they still keep their logs"
    (ask,) = only(world.report(ev.SegmentReleased, first, 0), do.SolvePlacement)
    assert ask.job_id == "job_000002"


def test_an_exact_number_of_peers_is_waited_for_while_others_are_busy(world, only, make):
    world.running("peer_a")
    world.connect("peer_b")
    assert not only(world.submit(make.spec(peers=2)), do.SolvePlacement)
    assert reason(world, "job_000002") == "needs 2 free peers; 1 free, 1 busy, 0 reconnecting"
    assert only(world.connect("peer_c"), do.SolvePlacement)


def test_an_occupied_peer_is_free_only_when_it_says_so(world, only):
    job = world.running("peer_a")
    world.submit()
    cancelled = world.apply(ev.CancelRequested, request_id="r", job_id=job, by="client_a")
    assert not only(cancelled, do.SolvePlacement)
    assert only(world.report(ev.SegmentReleased, job, 0), do.SolvePlacement)


def test_infeasible_on_everything_there_is_fails(world):
    world.connect("peer_a")
    world.submit()
    world.refuse("job_000001")
    view = views.job(world.broker, "job_000001")
    assert (view.state, view.error_code) == ("failed", "CANNOT_PLACE")
    assert "too little memory" in view.error_message
    assert "4096 bytes of device memory are missing" in view.error_message


def test_infeasible_waits_while_a_peer_is_busy(world, only):
    first = world.running("peer_a")
    world.connect("peer_b")
    world.submit()
    assert not only(world.refuse("job_000002"), do.SolvePlacement), "nothing has changed"
    assert world.state_of("job_000002") == "submitted"
    assert "1 busy or away" in reason(world, "job_000002")
    commands = world.apply(ev.CancelRequested, request_id="r", job_id=first, by="client_a")
    commands += world.report(ev.SegmentReleased, first, 0)
    ask = only(commands, do.SolvePlacement)[-1]
    world.refuse("job_000002")
    assert len(ask.cluster.peers) in (1, 2)


def test_infeasible_waits_while_a_peer_is_reconnecting_and_fails_when_it_is_lost(world):
    world.connect("peer_a")
    world.connect("peer_b")
    world.disconnect("peer_b")
    world.submit()
    world.refuse("job_000001")
    assert world.state_of("job_000001") == "submitted"
    world.sleep(5_000, "peer_a")
    assert world.state_of("job_000001") == "planning", "the cluster changed: asked again"
    world.refuse("job_000001")
    assert world.state_of("job_000001") == "failed"


def test_an_infeasible_answer_about_an_older_cluster_asks_again(world, only):
    world.connect("peer_a")
    world.submit()
    world.connect("peer_b")
    (ask,) = only(world.refuse("job_000001"), do.SolvePlacement)
    assert len(ask.cluster.peers) == 2


def test_a_chosen_peer_that_is_gone_asks_again(world, only):
    world.connect("peer_a")
    world.connect("peer_b")
    world.submit()
    world.disconnect("peer_b")
    commands = world.solve("job_000001", ["peer_a", "peer_b"])
    assert not only(commands, do.AssignSegment)
    (ask,) = only(commands, do.SolvePlacement)
    assert [peer.peer_id for peer in ask.cluster.peers] == ["peer_a"]
    assert only(world.solve("job_000001", ["peer_a"]), do.AssignSegment)


def test_a_newcomer_does_not_make_an_answer_stale(world, only):
    world.connect("peer_a")
    world.submit()
    world.connect("peer_b")
    assert only(world.solve("job_000001", ["peer_a"]), do.AssignSegment)


def test_an_answer_to_an_earlier_question_is_ignored(world, only):
    world.connect("peer_a")
    world.submit()
    commands = world.solve("job_000001", ["peer_a"], cluster_version=0)
    assert only(commands, do.Note)[0].event == "placement_ignored"
    assert world.state_of("job_000001") == "planning"
    world.solve("job_000001", ["peer_a"])
    assert not only(world.solve("job_000001", ["peer_a"]), do.AssignSegment), "twice"


def test_answers_about_unknown_jobs_are_ignored(world, only):
    for event, more in (
        (ev.PlacementSolved, {"cluster_version": 1, "answer": None, "infeasible": None}),
        (ev.PlanningFailed, {"code": "INVALID_GRAPH", "message": "m"}),
    ):
        commands = world.apply(event, job_id="job_000777", **more)
        assert [c.event for c in only(commands, do.Note)] == ["placement_ignored"]


def test_the_planner_may_refuse_the_graph(world):
    world.connect("peer_a")
    world.submit()
    world.apply(ev.PlanningFailed, job_id="job_000001", code="UNSUPPORTED_OP", message="no Foo")
    view = views.job(world.broker, "job_000001")
    assert (view.state, view.error_code, view.error_message) == (
        "failed", "UNSUPPORTED_OP", "no Foo")
    world.submit()
    world.apply(ev.PlanningFailed, job_id="job_000002", code="no such code", message="")
    assert views.job(world.broker, "job_000002").error_code == "INTERNAL"


def _with_segment(placement, at, **changes):
    segments = list(placement.segments)
    segments[at] = replace(segments[at], segment=replace(segments[at].segment, **changes))
    return replace(placement, segments=tuple(segments))


def _with_placed(placement, at, **changes):
    segments = list(placement.segments)
    segments[at] = replace(segments[at], **changes)
    return replace(placement, segments=tuple(segments))


@pytest.mark.parametrize(
    ("spoil", "word"),
    [
        (lambda p: replace(p, segments=()), "0 segments"),
        (lambda p: replace(p, segments=p.segments[::-1]), "numbered"),
        (lambda p: _with_placed(p, 1, peer_id="peer_a"), "two segments"),
        (lambda p: _with_segment(p, 1, has_loss=False), "loss"),
        (lambda p: _with_segment(p, 0, has_loss=True), "loss"),
        (lambda p: _with_segment(p, 1, parameters=("w0",)), "two homes"),
        (lambda p: _with_segment(p, 1, parameters=("stranger",)), "not the job's"),
        (lambda p: _with_placed(p, 0, in_flight=0), "in flight"),
        (lambda p: _with_placed(p, 0, memory_bytes=1 << 50), "memory"),
    ],
)
def test_a_wrong_answer_fails_the_job_and_grants_nothing(world, only, make, spoil, word):
    world.connect("peer_a")
    world.connect("peer_b")
    world.submit()
    answer = spoil(make.placement(["peer_a", "peer_b"]))
    assert not only(world.solve("job_000001", [], answer=answer), do.AssignSegment)
    view = views.job(world.broker, "job_000001")
    assert view.error_code == "INTERNAL"
    assert word in view.error_message


def test_the_exact_number_of_peers_is_checked(world, make):
    world.connect("peer_a")
    world.connect("peer_b")
    world.submit(make.spec(peers=2))
    world.solve("job_000001", ["peer_a"])
    assert "exactly 2 peers" in views.job(world.broker, "job_000001").error_message


def test_neither_plan_nor_reason_fails(world):
    world.connect("peer_a")
    world.submit()
    world.solve("job_000001", [], answer=None)
    assert views.job(world.broker, "job_000001").error_code == "INTERNAL"


def test_after_a_restart_planning_waits_for_the_peers_and_asks_again(world, only):
    world.connect("peer_a")
    world.connect("peer_b")
    world.submit()
    assert not only(world.start(), do.SolvePlacement)
    assert "restart" in reason(world)
    assert not only(world.connect("peer_a"), do.SolvePlacement), "peer_b may come back too"
    (ask,) = only(world.connect("peer_b"), do.SolvePlacement)
    assert [peer.peer_id for peer in ask.cluster.peers] == ["peer_a", "peer_b"]


def test_after_a_restart_planning_does_not_wait_long(world, only):
    world.connect("peer_a")
    world.connect("peer_b")
    world.submit()
    world.start()
    world.connect("peer_a")
    (ask,) = only(world.sleep(5_000, "peer_a"), do.SolvePlacement)
    assert [peer.peer_id for peer in ask.cluster.peers] == ["peer_a"]
