"""Fresh capacity: when a job is planned anew, when that pays, and how it is cut anew."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from broker.core import commands as do
from broker.core import events as ev
from broker.core import limits, views
from broker.core.digest import state_digest
from broker.core.explanation import explain
from broker.core.machine import Broker
from broker.rpc.job_codec import status_of
from broker.telemetry import Telemetry

SETTLE_MS, PAUSE_MS = 10_000, 300_000
STEP_MS = 1_000


@pytest.fixture
def connect(world, make):
    """A peer of this release comes."""
    def come(*peers, **changes):
        for peer in peers:
            world.connect(peer, **{"joins_parts": True, **changes})

    return come


@pytest.fixture
def growing(world, connect):
    """A job in a chain over peer_a and peer_b that has done 20 steps of a second each."""
    def run(steps=1_000, **more):
        connect("peer_a", "peer_b", **more)
        job = world.training("peer_a", "peer_b", steps=steps)
        world.sleep(4_000, *world.there())
        train(world, job, limits.PACE_STEPS)
        return job

    return run


def train(world, job, steps):
    """Steps, each of which takes a second."""
    for _ in range(steps):
        world.sleep(STEP_MS, *world.there())
        world.advance(job, world.broker.state.jobs[job].leases[0].steps_done + 1)


def asked(world, job, only, ms=SETTLE_MS, wanted=1):
    """What the planner is asked while time passes."""
    questions = only(world.sleep(ms, *world.there()), do.ReplanJob)
    assert len(questions) == wanted
    return questions[0] if questions else None


def cut(make, *cuts):
    """A plan from (peer, parameters) of each segment."""
    plan = make.placement([peer for peer, _ in cuts], linked=True)
    segments = tuple(
        replace(placed, segment=replace(placed.segment, parameters=names))
        for placed, (_, names) in zip(plan.segments, cuts, strict=True))
    return replace(plan, segments=segments)


THREE = (("peer_b", ("w0",)), ("peer_c", ()), ("peer_a", ("w1",)))


def answer(world, question, plan, stay_s=1.0, step_s=0.5, move_s=2.0, problem=""):
    return world.apply(
        ev.JobReplanned, job_id=question.job_id, cluster_version=question.cluster_version,
        answer=None if plan is None else replace(plan, step_s=step_s), stay_s=stay_s,
        move_s=move_s, problem=problem)


def grown(world, job):
    return world.broker.state.jobs[job].growth


@pytest.fixture
def planned(world, growing, connect, only, make):
    """Two peers have come, and a plan over three waits for the next complete position."""
    def run(plan=None, **more):
        job = growing(**more)
        connect("peer_c", "peer_d")
        question = asked(world, job, only)
        answer(world, question, plan or cut(make, *THREE))
        assert grown(world, job).plan is not None
        return job

    return run


def release(world, job, *segments):
    """Peers let old segments go."""
    commands: list[Any] = []
    for segment in segments:
        commands += world.report(ev.SegmentReleased, job, segment)
    return tuple(commands)


# --- when the planner is asked ------------------------------------------------------------------


def test_newcomers_are_planned_for_once_they_have_settled(world, growing, connect, only):
    job = growing()
    connect("peer_c")
    world.sleep(SETTLE_MS - 1, *world.there())
    connect("peer_d")  # they come in groups
    asked(world, job, only, SETTLE_MS - 1, wanted=0)
    question = asked(world, job, only, 2)
    assert question.job_id == job
    assert [(p.segment.index, p.peer_id) for p in question.segments] == [
        (0, "peer_a"), (1, "peer_b")]
    # peer_c stays in the pool: the slowest of those that could take any segment.
    assert [peer.peer_id for peer in question.cluster.peers] == ["peer_a", "peer_b", "peer_d"]


def test_one_free_peer_for_each_started_job_stays_in_the_pool(world, growing, connect, only):
    job = growing()
    connect("peer_c")
    asked(world, job, only, wanted=0)
    assert grown(world, job).verdict == (
        "stays as it is: no free peer is left beside its backups")


def test_the_reserve_is_a_peer_that_could_take_any_segment(world, growing, connect, only, make):
    growing()
    connect("peer_c", hardware=make.hardware(memory_bytes=1 << 10))
    connect("peer_d")
    connect("peer_e")
    question = asked(world, "", only)
    assert [peer.peer_id for peer in question.cluster.peers] == [
        "peer_a", "peer_b", "peer_c", "peer_e"]


def test_peers_that_the_first_plan_left_out_are_no_news(world, connect, only):
    connect("peer_a", "peer_b", "peer_c", "peer_d")
    job = world.training("peer_a", "peer_b")
    world.sleep(4_000, *world.there())
    train(world, job, limits.PACE_STEPS + 1)
    asked(world, job, only, 2 * PAUSE_MS, wanted=0)
    connect("peer_e")
    asked(world, job, only)


@pytest.mark.parametrize("hinder", [
    lambda world, connect, make, job: world.apply(
        ev.AvailabilityChanged, peer_id="peer_b", availability="finishing", deadline_ms=0),
    lambda world, connect, make, job: world.submit(make.spec(peers=9)),
])
def test_nothing_is_asked_while_something_is_in_the_way(
    world, growing, connect, only, make, hinder
):
    job = growing()
    hinder(world, connect, make, job)
    connect("peer_c", "peer_d")
    asked(world, job, only, 2 * SETTLE_MS, wanted=0)
    assert grown(world, job).verdict.startswith("is looked at again later: ")


@pytest.mark.parametrize("changes", [
    {"joins_parts": False}, {"availability": "finishing"}])
def test_peers_that_cannot_take_part_are_left_out(world, growing, connect, only, changes):
    job = growing()
    connect("peer_c", "peer_d", **changes)
    asked(world, job, only, wanted=0)


def test_peers_with_another_executor_are_left_out(world, growing, connect, only, make):
    """What an update rule remembers is named by the executor's own keys."""
    job = growing()
    connect("peer_c", "peer_d", hardware=make.hardware(executor="jax"))
    asked(world, job, only, wanted=0)


def test_a_job_for_so_many_peers_stays_as_it_is(world, connect, only, make):
    connect("peer_a", "peer_b")
    job = world.running("peer_a", "peer_b", linked=True,
                        spec=make.spec(peers=2, training={"steps": 1_000}))
    train(world, job, limits.PACE_STEPS)
    connect("peer_c", "peer_d")
    asked(world, job, only, 2 * PAUSE_MS, wanted=0)


def test_the_next_look_comes_after_a_pause(world, growing, connect, only):
    job = growing()
    connect("peer_c", "peer_d")
    answer(world, asked(world, job, only), None, problem="none fits")
    assert grown(world, job).verdict == "stays as it is: none fits"
    connect("peer_e")
    asked(world, job, only, PAUSE_MS - 1, wanted=0)
    asked(world, job, only, 1)


# --- whether it pays ----------------------------------------------------------------------------


def test_a_plan_that_pays_waits_for_the_next_complete_position(world, planned, only):
    job = planned()
    # 980 steps of a second would take half of that; loading took 0 s, moving the state 2 s.
    assert grown(world, job).verdict == (
        "is to be cut anew at the next complete position, from 2 into 3 segments: a step takes "
        "1 s and should take 0.5 s, the change 2 s; it pays after 4 s and saves 488 s")
    assert world.state_of(job) == "running"


@pytest.mark.parametrize(("steps", "numbers"), [
    (1_000, {"step_s": 0.9}), (1_000, {"step_s": 1.5}), (1_000, {"move_s": 470.0}), (60, {}),
    (1_000, {"step_s": float("nan")}), (1_000, {"stay_s": 0.0}), (1_000, {"move_s": -1.0})])
def test_a_plan_that_does_not_pay_is_dropped(
    world, growing, connect, only, make, steps, numbers
):
    job = growing(steps)
    connect("peer_c", "peer_d")
    answer(world, asked(world, job, only), cut(make, *THREE), **numbers)
    assert grown(world, job).plan is None
    assert grown(world, job).verdict.startswith("stays as it is: ")
    world.complete(job, 25, "peer_c")
    assert world.state_of(job) == "running"
    assert not grown(world, job).recuts


def test_an_answer_to_a_question_of_before_is_ignored(world, planned, only, make, events):
    job = planned()
    commands = world.apply(
        ev.JobReplanned, job_id=job, cluster_version=1, answer=cut(make, *THREE), stay_s=1.0,
        move_s=0.0)
    assert events(commands) == ["replan_ignored"]


def test_a_wrong_answer_leaves_the_job_alone(world, growing, connect, only, make):
    job = growing()
    connect("peer_c", "peer_d")
    twice = cut(make, ("peer_a", ("w0",)), ("peer_a", ("w1",)))
    answer(world, asked(world, job, only), twice)
    assert grown(world, job).verdict == (
        "stays as it is: the planner's answer is wrong: a peer has two segments")
    assert world.state_of(job) == "running"


def test_who_is_not_free_any_more_is_not_counted_on(world, planned):
    job = planned()
    world.disconnect("peer_c")
    world.complete(job, 25, "peer_d")
    assert world.state_of(job) == "running"
    assert grown(world, job).plan is None
    assert "peer_c, which was planned for it, is not free any more" in grown(world, job).verdict


def test_a_member_that_is_away_keeps_its_place(world, planned):
    """The cut waits for the next complete position after it has come back."""
    job = planned()
    world.disconnect("peer_a")
    world.steps(job, 1, 20, 5)
    world.connect("peer_a", world.held(job, 0), joins_parts=True)
    world.steps(job, 0, 20, 5)
    world.disconnect("peer_b")
    for segment in (0, 1):
        world.store(job, segment, 25, "peer_d")
    assert world.state_of(job) == "running"
    world.connect("peer_b", world.held(job, 1), joins_parts=True)
    assert world.state_of(job) == "running"
    world.complete(job, 30, "peer_d")
    assert world.state_of(job) == "recovering"


# --- how it is done -----------------------------------------------------------------------------


def test_all_segments_are_taken_back_and_given_out_by_the_plan(world, planned, only, make):
    job = planned()
    world.advance(job, 25)
    old = dict(world.tokens)
    world.store(job, 0, 25, "peer_d")
    commands = world.store(job, 1, 25, "peer_d")
    assert sorted((c.peer_id, c.segment) for c in only(commands, do.RevokeSegment)
                  if c.token in {token for _, token in old.values()}) == [
        ("peer_a", 0), ("peer_b", 1)]
    assert not only(commands, do.AssignSegment)
    assert world.reason(job) == (
        "is cut anew; waits until PEER_B (peer_b), PEER_A (peer_a) let their old segments go")
    assert not only(release(world, job, 0), do.AssignSegment), "peer_b still holds its old one"
    commands = release(world, job, 1)
    given = only(commands, do.AssignSegment)
    assert [(c.segment.index, c.peer_id, c.position, c.first_serial, c.segments)
            for c in given] == [
        (0, "peer_b", 25, 2, 3), (1, "peer_c", 25, 2, 3), (2, "peer_a", 25, 2, 3)]
    assert all(c.token > max(token for _, token in old.values()) for c in given)
    # Each takes its parameters' state by name; one without any takes something all the same.
    assert [[(part.serial, part.source.digest) for part in c.parts] for c in given] == [
        [(0, make.digest(1_025))], [(0, make.digest(1_025))], [(1, make.digest(2_025))]]
    assert all(c.snapshot is None for c in given)
    (recut,) = grown(world, job).recuts
    assert (recut.position, recut.segments_before, recut.segments_after) == (25, 2, 3)
    assert recut.worth.payback_s == pytest.approx(4.0, rel=0.1)


def begin(world, job):
    """All have let go and loaded their new segments."""
    release(world, job, 0, 1)
    for segment in range(3):
        world.report(ev.SegmentReady, job, segment)
    assert world.state_of(job) == "running"


@pytest.fixture
def recut(world, planned):
    """A job that was cut anew at position 25 when 27 steps were done, and runs again."""
    def run():
        job = planned()
        world.advance(job, 27)
        for segment in (0, 1):
            world.store(job, segment, 25, "peer_d")
        begin(world, job)
        return job

    return run


def test_people_see_why_it_was_cut_anew_and_where_its_state_is(world, recut):
    job = recut()
    view = views.job(world.broker, job)
    assert [part.segment for part in view.segments] == [0, 1, 2]
    assert view.growth.startswith("is cut anew at position 25, from 2 into 3 segments: a step ")
    (done,) = view.recuts
    assert (done.position, done.segments_before, done.segments_after) == (25, 2, 3)
    status = status_of(view, Telemetry())
    assert status.growth == view.growth
    assert status.recuts[0].saved_s == done.worth.saved_s > 400
    covered = views.backup_view(world.broker.state)
    assert [segment.holders for segment in covered] == [("peer_d",)] * 3


def test_a_new_cut_is_the_plan_and_not_a_takeover(world, recut):
    found = explain(world.broker, recut())
    assert [segment.rule for segment in found.segments] == ["plan"] * 3
    assert [segment.peer_id for segment in found.segments] == [peer for peer, _ in THREE]
    (decided,) = (bound for bound in found.bounds if bound.rule == "growth")
    assert "is cut anew at position 25" in decided.text


def test_steps_that_are_done_again_do_not_count_again(world, recut):
    job = recut()
    record = world.broker.state.jobs[job]
    assert record.steps_done == 27
    world.advance(job, 40)
    assert record.steps_done == 40
    assert list(record.losses) == [1 / (step + 1) for step in range(40)]


def test_takeovers_of_a_new_cut_are_not_counted_as_losses(world, recut):
    assert world.broker.state.jobs[recut()].takeovers == 0


def test_backups_stand_by_for_the_new_segments(world, recut):
    job = recut()
    assert world.backups(job, 2)["peer_d"] in ("warm", "hot")
    assert all(duty.first_serial == 2 for (of, _, _), duty in world.duties.items() if of == job)


def test_a_segment_that_is_lost_before_the_next_complete_position_is_put_together_again(
    world, recut, only
):
    job = recut()
    world.advance(job, 30)
    commands = world.lose("peer_c")
    (given,) = only(commands, do.AssignSegment)
    assert (given.segment.index, given.peer_id, given.position) == (1, "peer_d", 25)
    assert [part.serial for part in given.parts] == [0]


def test_the_new_cut_s_own_snapshots_count_from_the_next_position_on(world, recut, only):
    job = recut()
    world.complete(job, 50, "peer_d")
    assert world.broker.state.jobs[job].position == 50
    (given,) = only(world.lose("peer_c"), do.AssignSegment)
    assert given.parts == ()
    assert given.snapshot.holders[0].peer_id == "peer_d"


def test_what_lies_on_the_disk_of_a_peer_that_registers_is_known_by_serial_numbers(
    world, recut, make
):
    job = recut()
    known = world.broker.state.jobs[job].snapshots
    assert [set(at[25].parts[0][1].holders) for at in known] == [{"peer_d"}] * 3
    kept = ev.HeldSnapshot(
        job_id=job, segment=1, position=25, digest=make.digest(2_025), size_bytes=500)
    world.connect("peer_d", joins_parts=True, snapshots=(kept,))
    assert [set(at[25].parts[0][1].holders) for at in known] == [set(), set(), {"peer_d"}]


def test_without_the_snapshots_of_the_cut_before_all_restart_at_what_all_have(world, recut):
    job = recut()
    world.advance(job, 30)
    world.connect("peer_d", joins_parts=True)  # its disk is empty
    world.connect("peer_e", joins_parts=True)
    world.lose("peer_c")
    assert "waits for one of them, or else all segments restart at 0" in world.reason(job)


def test_a_part_that_is_nowhere_any_more_costs_time_but_not_the_job(world, recut):
    job = recut()
    world.lose("peer_c")
    taker, token = world.tokens[job, 1]
    world.report(ev.SegmentFailed, job, 1, code="NOT_FOUND", message="it is not here",
                 blamed_peer="", cause="network", evidence="", remedy="")
    known = world.broker.state.jobs[job].snapshots
    assert not known[1][25].parts[0][1].holders
    assert known[2][25].parts[0][1].holders == {"peer_d": -1}, "of another segment of before"
    world.report(ev.SegmentReleased, job, 1, peer_id=taker, token=token,
                 number=world.numbers[taker] + 1)
    assert "or else all segments restart at 0" in world.reason(job)
    assert world.state_of(job) == "recovering"
    assert not any(
        failure.attempts for failure in world.broker.state.jobs[job].failures.values())


def test_a_peer_that_does_not_let_go_is_not_waited_for_for_ever(world, planned, only):
    job = planned()
    world.complete(job, 25, "peer_d")
    release(world, job, 0)
    commands = world.sleep(limits.RELEASE_TIMEOUT_MS, *world.there())
    assert {(c.segment.index, c.peer_id) for c in only(commands, do.AssignSegment)} == {
        (0, "peer_d"), (1, "peer_c"), (2, "peer_a")}


def test_a_planned_peer_that_is_lost_meanwhile_is_replaced(world, planned, only):
    job = planned()
    world.complete(job, 25, "peer_d")
    release(world, job, 0)
    commands = world.lose("peer_b")
    assert (0, "peer_d") in {(c.segment.index, c.peer_id)
                             for c in only(commands, do.AssignSegment)}


def test_a_waiting_job_does_not_get_the_peers_that_come_free(world, planned, only, make):
    job = planned()
    world.complete(job, 25, "peer_d")
    commands = world.submit(make.spec())
    assert not only(commands, do.SolvePlacement)
    assert not only(release(world, job, 0), do.SolvePlacement)
    assert only(release(world, job, 1), do.SolvePlacement)


def test_old_holders_change_nothing_any_more(world, planned, events, make):
    job = planned()
    old = dict(world.tokens)
    world.complete(job, 25, "peer_d")
    for segment in (0, 1):
        peer, token = old[job, segment]
        commands = world.report(ev.StepsDone, job, segment, peer_id=peer, token=token,
                                first_step=25, count=1, losses=())
        assert events(commands) == ["stale_token"]


def test_a_failed_peer_gets_no_segment_of_the_new_cut(world, growing, connect, only, make):
    job = growing()
    connect("peer_c", "peer_d", "peer_e")
    world.complete(job, 20, "peer_c", "peer_d")
    world.report(ev.SegmentFailed, job, 0, code="OUT_OF_MEMORY", message="full", blamed_peer="",
                 cause="device_memory")
    (failed,) = world.broker.state.jobs[job].failures.values()
    assert set(failed.avoided) == {"peer_a"}
    world.report(ev.SegmentReleased, job, 0, peer_id="peer_a",
                 token=next(iter(world.broker.state.peers["peer_a"].leases)),
                 number=world.numbers["peer_a"] + 1)
    world.report(ev.SegmentReady, job, 0)
    assert world.state_of(job) == "running"
    question = asked(world, job, only)
    assert "peer_a" not in {peer.peer_id for peer in question.cluster.peers}


def test_the_journal_tells_all_of_it(world, recut):
    recut()
    again = Broker()
    for event in world.journal:
        again.apply(event)
    assert state_digest(again) == state_digest(world.broker)


def test_a_restarted_broker_looks_again(world, growing, connect, only):
    job = growing()
    connect("peer_c", "peer_d")
    question = asked(world, job, only)
    world.start()
    for peer in ("peer_a", "peer_b"):
        segment = int(peer == "peer_b")
        world.connect(peer, world.held(job, segment), joins_parts=True)
    world.connect("peer_c", joins_parts=True)
    world.connect("peer_d", joins_parts=True)
    assert grown(world, job).asked_version == -1
    again = asked(world, job, only)
    assert again.cluster_version > question.cluster_version
