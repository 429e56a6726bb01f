"""Submission, cancellation, and the table of a job's states."""

from __future__ import annotations

from dataclasses import replace

import pytest

from broker.core import commands as do
from broker.core import events as ev
from broker.core import jobs, limits, views
from broker.core.invariants import InvariantViolation
from broker.core.state import TERMINAL, JobState


def test_a_job_gets_an_id_from_a_counter(world, only, make):
    assert only(world.submit(), do.Reply)[0].value == "job_000001"
    assert only(world.submit(), do.Reply)[0].value == "job_000002"
    assert views.job(world.broker, "job_000001").state == "submitted"


def test_the_same_submission_makes_one_job(world, only):
    first = only(world.submit(name="same"), do.Reply)[0]
    again = only(world.submit(name="same"), do.Reply)[0]
    assert again.value == first.value
    assert len(views.jobs(world.broker)) == 1
    other = only(world.submit(name="same", owner="client_b"), do.Reply)[0]
    assert other.value != first.value, "submission ids are each owner's own"


def test_the_same_submission_id_with_another_job_is_a_conflict(world, only, make):
    world.submit(name="same")
    (no,) = only(world.submit(make.spec(name="other"), name="same"), do.Reject)
    assert no.code == "CONFLICT"
    assert "job_000001" in no.message


def test_a_retry_after_the_end_still_names_the_job(world, only):
    world.submit(name="same")
    world.apply(ev.CancelRequested, request_id="r", job_id="job_000001", by="client_a")
    assert only(world.submit(name="same"), do.Reply)[0].value == "job_000001"


def test_a_bad_job_is_refused_and_leaves_nothing(world, only, make):
    (no,) = only(world.submit(make.spec(training={"steps": 0})), do.Reject)
    assert no.code == "INVALID_JOB"
    assert "training.steps" in no.message
    assert not views.jobs(world.broker)


@pytest.mark.parametrize("name", ["x" * 301])
def test_a_submission_id_is_bounded(world, only, name):
    assert only(world.submit(name=name), do.Reject)[0].code == "INVALID_ARGUMENT"


def test_one_owner_cannot_fill_the_queue(world, only, monkeypatch):
    monkeypatch.setattr(limits, "MAX_UNFINISHED_JOBS_PER_OWNER", 2)
    monkeypatch.setattr(limits, "MAX_UNFINISHED_JOBS", 3)
    monkeypatch.setattr(limits, "MAX_JOBS", 4)
    world.submit()
    world.submit()
    assert only(world.submit(), do.Reject)[0].code == "LIMIT_EXCEEDED"
    world.submit(owner="client_b")
    assert only(world.submit(owner="client_c"), do.Reject)[0].code == "OVERLOADED"
    world.apply(ev.CancelRequested, request_id="r", job_id="job_000001", by="client_a")
    assert only(world.submit(), do.Reply), "an ended job makes room"
    world.apply(ev.CancelRequested, request_id="r", job_id="job_000002", by="client_a")
    assert only(world.submit(), do.Reject)[0].code == "LIMIT_EXCEEDED"


@pytest.mark.parametrize("by", ["client_a", "operator_root"])
def test_owner_and_operator_may_cancel(world, only, by):
    job = world.running("peer_a", "peer_b")
    standbys = {(standby.peer_id, token)
                for token, standby in world.broker.state.jobs[job].standbys.items()}
    commands = world.apply(ev.CancelRequested, request_id="c", job_id=job, by=by)
    assert only(commands, do.Reply) == [do.Reply(request_id="c", value=job)]
    revoked = [(c.peer_id, c.token) for c in only(commands, do.RevokeSegment)]
    assert revoked[:2] == [world.tokens[job, 0], world.tokens[job, 1]]
    assert set(revoked[2:]) == standbys, "nobody stands by for it any more"
    view = views.job(world.broker, job)
    assert (view.state, view.error_code, view.has_ended) == ("cancelled", "CANCELLED", True)
    assert view.finished_at_ns == world.now_ns
    (no,) = only(world.apply(ev.CancelRequested, request_id="d", job_id=job, by=by), do.Reject)
    assert no.code == "CONFLICT"


def test_others_may_not_cancel(world, only):
    job = world.running("peer_a")
    for by in ("client_b", "peer_a", ""):
        (no,) = only(world.apply(ev.CancelRequested, request_id="c", job_id=job, by=by), do.Reject)
        assert no.code == "NOT_ALLOWED"
    (no,) = only(
        world.apply(ev.CancelRequested, request_id="c", job_id="job_9", by="operator_x"), do.Reject)
    assert no.code == "NOT_FOUND"
    assert world.state_of(job) == "running"


@pytest.mark.parametrize("stage", ["submitted", "planning", "preparing", "running"])
def test_a_job_can_be_cancelled_at_any_stage(world, stage):
    if stage == "submitted":
        world.submit()
        job = "job_000001"
    elif stage == "planning":
        world.connect("peer_a")
        world.submit()
        job = "job_000001"
    else:
        job = world.prepared("peer_a") if stage == "preparing" else world.running("peer_a")
    assert world.state_of(job) == stage
    world.apply(ev.CancelRequested, request_id="c", job_id=job, by="client_a")
    assert world.state_of(job) == "cancelled"
    assert world.broker.state.planning_job == ""


def test_the_table_knows_every_state_and_ends_are_ends():
    assert set(jobs.TRANSITIONS) == set(JobState)
    assert {state for state, targets in jobs.TRANSITIONS.items() if not targets} == TERMINAL


def test_a_transition_outside_the_table_is_a_defect(world):
    world.submit()
    with pytest.raises(InvariantViolation, match="cannot go from submitted to running"):
        jobs.move(world.broker.state.jobs["job_000001"], JobState.RUNNING)


def test_preparing_has_a_deadline_that_names_who_is_late(world):
    job = world.prepared("peer_a", "peer_b")
    world.report(ev.SegmentReady, job, 0)
    world.sleep(601_000, "peer_a", "peer_b")
    view = views.job(world.broker, job)
    assert (view.state, view.error_code) == ("failed", "TIMED_OUT")
    assert view.error_message == "Not ready after 600 s: PEER_B (peer_b) with segment 1."


def test_what_has_to_be_fetched_prolongs_preparing(world, make):
    """A hundred megabytes take 27 minutes at 0.5 Mbit/s: nobody is late before that."""
    spec = make.spec()
    large = replace(spec.parameters[0], blob_bytes=10**8)
    spec = replace(spec, parameters=(large, *spec.parameters[1:]))
    job = world.prepared("peer_a", "peer_b", spec=spec)
    world.sleep(600_000 + 10**8 // 62_500 * 1_000, "peer_a", "peer_b")
    assert world.state_of(job) == "preparing"
    world.sleep(10**8 // limits.FETCH_BYTES_PER_S * 1_000, "peer_a", "peer_b")
    assert world.state_of(job) == "failed"


def test_planning_has_a_deadline(world):
    world.connect("peer_a")
    world.submit()
    world.sleep(limits.PLANNING_TIMEOUT_MS, "peer_a")
    assert views.job(world.broker, "job_000001").error_code == "TIMED_OUT"
