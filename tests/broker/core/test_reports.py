"""Reports: numbered, fenced, applied once, in order."""

from __future__ import annotations

from math import inf, nan

import pytest

from broker.core import commands as do
from broker.core import events as ev
from broker.core import views
from broker.core.digest import state_digest
from dag.cluster import Correction
from ir.operators import OpClass


def test_a_job_from_ready_to_its_result(world, only, make):
    job = world.prepared("peer_a", "peer_b")
    assert not only(world.report(ev.SegmentReady, job, 1), do.StartJob)
    starts = only(world.report(ev.SegmentReady, job, 0), do.StartJob)
    assert [start.peer_id for start in starts] == ["peer_a", "peer_b"]
    assert [(m.segment, m.peer_id, m.token, m.tensor_address) for m in starts[0].members] == [
        (0, "peer_a", 1, "peer_a:7000"), (1, "peer_b", 2, "peer_b:7000")]
    world.steps(job, 1, 0, 2)
    assert views.job(world.broker, job).steps_done == 0, "segment 0 has done none"
    world.steps(job, 0, 0, 3)
    world.now_ns += 7
    world.steps(job, 1, 2, 1)
    view = views.job(world.broker, job)
    assert (view.steps_done, view.samples_done) == (3, 24)
    assert (view.first_loss, view.last_loss, view.last_loss_step) == (1.0, 1 / 3, 2)
    assert [(m.step, m.loss) for m in views.metrics(world.broker, job)] == [
        (0, 1.0), (1, 0.5), (2, 1 / 3)]
    assert views.metrics(world.broker, job, from_step=2)[0].at_ns == world.now_ns
    world.finish(job, 1)
    assert (world.state_of(job), views.result(world.broker, job)) == ("running", ())
    commands = world.finish(job, 0)
    assert world.state_of(job) == "succeeded"
    revoked = [(c.peer_id, c.token) for c in only(commands, do.RevokeSegment)]
    assert revoked[:2] == [world.tokens[job, 0], world.tokens[job, 1]], "logs were kept until now"
    for segment in (0, 1):
        world.report(ev.SegmentReleased, job, segment)
    assert [part.digest for part in views.result(world.broker, job)] == [
        make.digest(900), make.digest(901)]
    assert not any(peer.leases for peer in views.peers(world.broker))


def test_reports_are_acknowledged_and_repeats_change_nothing(world, only):
    job = world.running("peer_a")
    commands = world.steps(job, 0, 0, number=5)
    assert only(commands, do.AcknowledgeReports)[0].through_number == 5
    before = state_digest(world.broker)
    for number in (5, 4, 1, 0, -3):
        commands = world.steps(job, 0, 0, number=number)
        assert commands == (do.AcknowledgeReports(peer_id="peer_a", through_number=5),)
    assert state_digest(world.broker) == before


def test_a_stale_token_changes_nothing(world, only):
    job = world.running("peer_a", "peer_b")
    before = views.job(world.broker, job)
    for kind, more in (
        (ev.SegmentReady, {}),
        (ev.StepsDone, {"first_step": 0, "count": 1, "losses": ()}),
        (ev.EvaluationDone, {"step": 0, "loss": 1.0}),
        (ev.SegmentFailed, {"code": "INTERNAL", "message": "m", "blamed_peer": ""}),
        (ev.SegmentFinished, {"result_digest": "0" * 64, "result_bytes": 1}),
        (ev.SegmentReleased, {}),
    ):
        for wrong in ({"token": 77}, {"token": 2}, {"job_id": "job_000009"}, {"segment": 1}):
            commands = world.report(kind, job, 0, **{**more, **wrong})
            assert only(commands, do.AcknowledgeReports)
            notes = [note.event for note in only(commands, do.Note)]
            assert notes == ([] if kind is ev.SegmentReleased else ["stale_token"])
    assert views.job(world.broker, job) == before


def test_a_report_after_the_revoke_is_stale(world, only):
    job = world.running("peer_a", "peer_b")
    world.apply(ev.CancelRequested, request_id="r", job_id=job, by="client_a")
    before = views.job(world.broker, job)
    assert only(world.steps(job, 0, 0), do.Note)[0].event == "stale_token"
    assert views.job(world.broker, job) == before


def test_a_report_of_a_stranger_is_ignored(world, only):
    commands = world.apply(ev.SegmentReady, peer_id="peer_x", number=1, job_id="job_000001",
                           segment=0, token=1)
    assert [type(c) for c in commands] == [do.Note]


def test_steps_counted_already_are_ignored(world, only):
    job = world.running("peer_a")
    world.steps(job, 0, 0, 2)
    assert only(world.steps(job, 0, 0, 2), do.Note)[0].event == "report_ignored"
    assert len(views.metrics(world.broker, job)) == 2
    world.steps(job, 0, 2)
    assert views.job(world.broker, job).steps_done == 3


@pytest.mark.parametrize(
    "steps",
    [
        {"first": 1},
        {"first": 2, "count": 5},
        {"first": 0, "count": 4},
        {"first": 0, "count": 0},
        {"first": -1},
        {"first": 0, "losses": ()},
        {"first": 0, "losses": (1.0, 2.0)},
    ],
)
def test_a_gap_or_a_contradiction_fails_the_job(world, steps):
    job = world.running("peer_a")
    world.steps(job, 0, **steps)
    view = views.job(world.broker, job)
    assert (view.state, view.error_code) == ("failed", "INTERNAL")
    assert "PEER_A (peer_a)" in view.error_message


def test_losses_from_a_segment_without_the_loss_are_a_contradiction(world):
    job = world.running("peer_a", "peer_b")
    world.steps(job, 0, 0, losses=(1.0,))
    assert views.job(world.broker, job).error_code == "INTERNAL"


@pytest.mark.parametrize("loss", [nan, inf, -inf])
def test_a_loss_that_is_not_finite_fails_the_job_at_its_step(world, only, loss):
    job = world.running("peer_a", "peer_b")
    commands = world.steps(job, 1, 0, 3, losses=(2.0, loss, 1.0))
    view = views.job(world.broker, job)
    assert (view.state, view.error_code) == ("failed", "LOSS_NOT_FINITE")
    assert "at step 1 " in view.error_message
    assert [m.loss for m in views.metrics(world.broker, job)] == [2.0]
    revoked = [(c.peer_id, c.token) for c in only(commands, do.RevokeSegment)]
    assert revoked[:2] == [world.tokens[job, 0], world.tokens[job, 1]]


def test_evaluations_are_kept_in_order_once(world, make):
    job = world.running("peer_a", spec=make.spec(training={"evaluate_every": 2}))
    world.report(ev.EvaluationDone, job, 0, step=0, loss=3.0)
    world.steps(job, 0, 0, 2)
    for _ in range(2):
        world.report(ev.EvaluationDone, job, 0, step=2, loss=2.0)
    got = [(m.step, m.loss) for m in views.evaluations(world.broker, job)]
    assert got == [(0, 3.0), (2, 2.0)]
    assert views.job(world.broker, job).last_validation_loss == 2.0
    world.report(ev.EvaluationDone, job, 0, step=3, loss=2.0)
    assert views.job(world.broker, job).error_code == "INTERNAL", "it has done two steps"


def test_a_validation_loss_that_is_not_finite_fails(world):
    job = world.running("peer_a")
    world.report(ev.EvaluationDone, job, 0, step=0, loss=nan)
    assert views.job(world.broker, job).error_code == "LOSS_NOT_FINITE"


def test_progress_before_the_start_is_ignored(world, only):
    job = world.prepared("peer_a")
    for commands in (world.steps(job, 0, 0), world.finish(job, 0),
                     world.report(ev.EvaluationDone, job, 0, step=0, loss=1.0)):
        assert only(commands, do.Note)[0].event == "report_ignored"
    assert world.state_of(job) == "preparing"


def test_a_failure_of_the_job_itself_ends_it_by_name(world, only):
    job = world.running("peer_a", "peer_b")
    commands = world.report(ev.SegmentFailed, job, 0, code="UNSUPPORTED_OP", message="no Foo",
                            blamed_peer="")
    view = views.job(world.broker, job)
    assert (view.state, view.error_code) == ("failed", "UNSUPPORTED_OP")
    assert view.error_message == (
        "Peer PEER_A (peer_a), segment 0: no Foo (it is the job's own failure).")
    revoked = [(c.peer_id, c.token) for c in only(commands, do.RevokeSegment)]
    assert revoked[:2] == [world.tokens[job, 0], world.tokens[job, 1]]
    for segment in (0, 1):
        world.report(ev.SegmentReleased, job, segment)
    assert not any(peer.leases for peer in views.peers(world.broker))


def test_an_unknown_code_becomes_internal_and_messages_are_bounded(world):
    job = world.running("peer_a")
    world.report(ev.SegmentFailed, job, 0, code="WHATEVER", message="x" * 10**6, blamed_peer="?",
                 cause="device_fault")
    view = views.job(world.broker, job)
    assert view.error_code == "INTERNAL"
    assert len(view.error_message) == 2_000


def test_finishing_early_or_with_a_bad_result_fails(world):
    job = world.running("peer_a")
    world.finish(job, 0)
    assert "0 of 3 steps" in views.job(world.broker, job).error_message
    world.report(ev.SegmentReleased, job, 0)
    for bad in ({"result_digest": "zz", "result_bytes": 1},
                {"result_digest": "0" * 64, "result_bytes": 1 << 40},
                {"result_digest": "0" * 64, "result_bytes": -1}):
        job = world.running("peer_a")
        world.steps(job, 0, 0, 3)
        world.report(ev.SegmentFinished, job, 0, **bad)
        assert "a result of" in views.job(world.broker, job).error_message
        world.report(ev.SegmentReleased, job, 0)


def test_giving_up_a_segment_that_nobody_revoked_is_a_loss(world, only):
    job = world.running("peer_a", "peer_b")
    commands = world.report(ev.SegmentReleased, job, 0)
    assert "gave its segment up" in next(
        c.text for c in only(commands, do.Note) if c.event == "segment_vacant")
    assert world.state_of(job) == "recovering"
    (lease,) = views.peer(world.broker, "peer_a").leases
    assert (lease.token, lease.phase) == (world.tokens[job, 0][1], "assigned"), "it may try again"


def test_reports_of_a_suspect_peer_count(world):
    job = world.running("peer_a")
    world.disconnect("peer_a")
    world.steps(job, 0, 0)
    assert views.job(world.broker, job).steps_done == 1


def test_a_failure_of_a_finished_segment_is_ignored(world):
    """Its result is stored; that its links broke since is no news."""
    job = world.running("peer_a", "peer_b")
    for segment in (0, 1):
        world.steps(job, segment, 0, 3)
    world.finish(job, 0)
    world.report(ev.SegmentFailed, job, 0, code="PEER_LOST", message="m", blamed_peer="peer_b")
    assert views.job(world.broker, job).state == "running"
    world.finish(job, 1)
    assert views.job(world.broker, job).state == "succeeded"


def learnt(factor):
    return (Correction(direction="forward", op_class=OpClass.MATMUL, factor=factor),)


def test_what_a_peer_learnt_is_planned_with(world):
    job = world.running("peer_a")
    world.steps(job, 0, 0, 3)
    world.finish(job, 0, corrections=learnt(1.5))
    assert world.broker.state.peers["peer_a"].hardware.rates.corrections == learnt(1.5)


@pytest.mark.parametrize("factor", [0.0, 100.0, nan])
def test_corrections_that_cannot_be_true_are_ignored(world, only, factor):
    job = world.running("peer_a")
    world.steps(job, 0, 0, 3)
    commands = world.finish(job, 0, corrections=learnt(factor))
    assert world.state_of(job) == "succeeded"
    assert "corrections_ignored" in [c.event for c in only(commands, do.Note)]
    assert world.broker.state.peers["peer_a"].hardware.rates.corrections == ()
