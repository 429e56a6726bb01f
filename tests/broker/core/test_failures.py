"""What a segment's failure means: for whom it counts, and whether the segment is tried again."""

from __future__ import annotations

import pytest

from broker.core import commands as do
from broker.core import events as ev
from broker.core import limits, views

JOBS_OWN = [("UNSUPPORTED_OP", ""), ("INVALID_GRAPH", ""),
            ("INTERNAL", "job"), ("OUT_OF_MEMORY", "job")]
OF_THE_PEER = [("OUT_OF_MEMORY", ""), ("DISK_FULL", ""), ("INTERNAL", "device_fault"),
               ("INTERNAL", "device_memory"), ("INTERNAL", "disk")]
PASSING = [("EXECUTOR_DIED", ""), ("EXECUTOR_FAILED", ""), ("UNREACHABLE", ""), ("STALLED", ""),
           ("INTERNAL", ""), ("INTERNAL", "clock"), ("OUT_OF_MEMORY", "killed"),
           ("NO_SUCH_CODE", "no such cause")]


def fail(world, job, segment, code="EXECUTOR_DIED", cause="", blamed=""):
    return world.report(ev.SegmentFailed, job, segment, code=code, message="it broke",
                        blamed_peer=blamed, cause=cause)


def avoided(world, job, segment):
    record = world.broker.state.jobs[job].failures.get(segment)
    return {} if record is None else record.avoided


def release(world, job, segment, peer, token):
    """A peer confirms that it holds nothing of what was taken back."""
    return world.report(ev.SegmentReleased, job, segment, peer_id=peer, token=token,
                        number=world.numbers.get(peer, 0) + 1)


def fail_and_load_again(world, job, segment, **values):
    """A segment fails, and whoever gets it has it ready; returns who that is."""
    peer, token = world.tokens[job, segment]
    fail(world, job, segment, **values)
    release(world, job, segment, peer, token)
    if world.state_of(job) != "failed":
        world.report(ev.SegmentReady, job, segment)
    return world.tokens[job, segment][0]


@pytest.mark.parametrize(("code", "cause"), JOBS_OWN)
def test_what_would_come_again_anywhere_ends_the_job_at_once(world, code, cause):
    job = world.training("peer_a", "peer_b")
    world.connect("peer_c")
    fail(world, job, 1, code, cause)
    view = views.job(world.broker, job)
    assert (view.state, view.error_code) == ("failed", code)
    assert view.error_message == (
        "Peer PEER_B (peer_b), segment 1: it broke (it is the job's own failure).")


def test_numbers_that_are_not_finite_are_computed_again_elsewhere(world, only):
    """The device may be sick: one that is not goes on, and the job with it."""
    job = world.training("peer_a", "peer_b")
    world.connect("peer_c")
    (assigned,) = only(fail(world, job, 1, "LOSS_NOT_FINITE"), do.AssignSegment)
    assert assigned.peer_id == "peer_c"
    world.report(ev.SegmentReady, job, 1)
    assert world.state_of(job) == "running"


def test_numbers_that_are_not_finite_on_two_peers_are_the_jobs_own_doing(world):
    job = world.training("peer_a", "peer_b")
    world.connect("peer_c")
    fail_and_load_again(world, job, 1, code="LOSS_NOT_FINITE")
    fail(world, job, 1, "LOSS_NOT_FINITE")
    view = views.job(world.broker, job)
    assert (view.state, view.error_code) == ("failed", "LOSS_NOT_FINITE")
    assert "2 peers have come to it" in view.error_message
    assert all(peer.losses == 0 for peer in world.broker.state.peers.values()), "nobody is blamed"


def test_numbers_that_are_not_finite_end_the_job_where_nobody_can_compute_them_again(world):
    job = world.training("peer_a", "peer_b")
    fail(world, job, 1, "LOSS_NOT_FINITE")
    view = views.job(world.broker, job)
    assert (view.state, view.error_code) == ("failed", "LOSS_NOT_FINITE")
    assert "no other peer is here to compute it again" in view.error_message


@pytest.mark.parametrize(("code", "cause"), OF_THE_PEER)
def test_a_peer_that_cannot_does_not_get_the_segment_again(world, only, code, cause):
    job = world.training("peer_a", "peer_b")
    world.connect("peer_c")
    (assigned,) = only(fail(world, job, 1, code, cause), do.AssignSegment)
    assert assigned.peer_id == "peer_c"
    assert "has failed it" in avoided(world, job, 1)["peer_b"]
    release(world, job, 1, "peer_b", 2)
    world.report(ev.SegmentReady, job, 1)
    assert not only(world.lose("peer_c"), do.AssignSegment)
    assert "PEER_B (peer_b) has failed it" in world.reason(job)


@pytest.mark.parametrize(("code", "cause"), PASSING)
def test_what_passes_is_tried_again_on_the_same_peer_too(world, only, code, cause):
    job = world.training("peer_a", "peer_b")
    assert not only(fail(world, job, 1, code, cause), do.AssignSegment), "it has not released it"
    (assigned,) = only(release(world, job, 1, "peer_b", 2), do.AssignSegment)
    assert (assigned.peer_id, avoided(world, job, 1)) == ("peer_b", {})


def test_it_is_tried_so_often_and_no_more_without_progress(world):
    job = world.training("peer_a", "peer_b")
    for attempt in range(limits.SEGMENT_ATTEMPTS):
        assert world.state_of(job) == "running", attempt
        fail_and_load_again(world, job, 1)
    view = views.job(world.broker, job)
    assert (view.state, view.error_code) == ("failed", "EXECUTOR_DIED")


def test_progress_forgives(world):
    job = world.training("peer_a", "peer_b")
    world.connect("peer_c")
    for step in range(3 * limits.SEGMENT_ATTEMPTS):
        world.complete(job, step + 1, "peer_c", "peer_a")
        fail_and_load_again(world, job, 1)
        assert world.state_of(job) == "running", step


def test_a_replay_that_does_not_reach_the_old_step_is_no_progress(world):
    """It fails at the same step again and again: repeated work must not hide that."""
    job = world.training("peer_a", "peer_b")
    for steps in (5, 3, 4):
        assert world.state_of(job) == "running"
        world.steps(job, 1, 0, steps)
        fail_and_load_again(world, job, 1)
    assert world.state_of(job) == "failed"


def test_a_bad_job_does_not_blacklist_good_peers(world, only):
    """It fails everywhere; the next job may use all the peers that it has failed on."""
    job = world.training("peer_a", "peer_b")
    for peer in ("peer_c", "peer_d"):
        world.connect(peer)
    while world.state_of(job) == "running":
        fail_and_load_again(world, job, 1, code="OUT_OF_MEMORY")
    assert world.state_of(job) == "failed"
    for segment in (0, 1):
        peer, token = world.tokens[job, segment]
        release(world, job, segment, peer, token)
    (asked,) = only(world.submit(), do.SolvePlacement)
    assert [peer.peer_id for peer in asked.cluster.peers] == [
        "peer_a", "peer_b", "peer_c", "peer_d"]
    assert {peer.losses for peer in world.broker.state.peers.values()} == {0}
    world.solve("job_000002", ["peer_a"])
    world.report(ev.SegmentReady, "job_000002", 0)
    assert set(world.backups("job_000002", 0)) == {"peer_b", "peer_c"}, "they may back it up"


def test_who_failed_one_segment_may_run_another_of_the_same_job(world, only):
    """Its device was too small for the one; that says nothing of the other."""
    job = world.training("peer_a", "peer_b")
    world.connect("peer_c")
    fail_and_load_again(world, job, 1, code="OUT_OF_MEMORY")
    assert world.tokens[job, 1][0] == "peer_c"
    (assigned,) = only(world.lose("peer_a"), do.AssignSegment)
    assert (assigned.segment.index, assigned.peer_id) == (0, "peer_b")


def test_a_blamed_neighbour_moves_too_and_does_not_get_its_segment_again(world, only):
    job = world.training("peer_a", "peer_b")
    for peer in ("peer_c", "peer_d"):
        world.connect(peer)
    commands = fail(world, job, 0, "DIGEST_MISMATCH", blamed="peer_b")
    assert {(c.segment.index, c.peer_id) for c in only(commands, do.AssignSegment)} == {
        (0, "peer_c"), (1, "peer_d")}
    assert list(avoided(world, job, 1)) == ["peer_b"]
    assert avoided(world, job, 0) == {}, "who blames another is not to blame itself"


@pytest.mark.parametrize("blamed", ["", "peer_b", "peer_unknown"])
def test_blaming_nobody_oneself_or_a_stranger_is_ones_own_failure(world, blamed):
    job = world.training("peer_a", "peer_b")
    world.connect("peer_c")
    fail(world, job, 1, "OUT_OF_MEMORY", blamed=blamed)
    assert list(avoided(world, job, 1)) == ["peer_b"]


def test_a_cause_of_the_job_that_is_blamed_on_another_does_not_end_it_at_once(world):
    """What a neighbour sent may be to blame: it is tried elsewhere, so often and no more."""
    job = world.training("peer_a", "peer_b")
    for peer in ("peer_c", "peer_d"):
        world.connect(peer)
    fail(world, job, 0, "INVALID_GRAPH", blamed="peer_b")
    assert world.state_of(job) == "recovering"


def test_with_nobody_else_to_run_it_the_job_fails_instead_of_waiting(world):
    """Waiting for a peer that may never come would hide the failure from who could cure it."""
    job = world.training("peer_a", "peer_b")
    fail(world, job, 1, "OUT_OF_MEMORY")
    view = views.job(world.broker, job)
    assert (view.state, view.error_code) == ("failed", "OUT_OF_MEMORY")


def test_a_peer_that_is_away_for_a_moment_is_somebody_else(world):
    job = world.training("peer_a", "peer_b")
    world.connect("peer_c")
    world.disconnect("peer_c")
    fail(world, job, 1, "OUT_OF_MEMORY")
    assert world.state_of(job) == "recovering"


@pytest.mark.parametrize("segment", [0, 1])
def test_while_it_is_prepared_any_failure_ends_the_job(world, segment):
    job = world.prepared("peer_a", "peer_b")
    fail(world, job, segment, "EXECUTOR_DIED")
    assert views.job(world.broker, job).error_code == "EXECUTOR_DIED"


def test_a_failure_during_a_takeover_counts_like_any_other(world, only):
    job = world.training("peer_a", "peer_b")
    for peer in ("peer_c", "peer_d"):
        world.connect(peer)
    world.lose("peer_b")
    (again,) = only(fail(world, job, 1, "OUT_OF_MEMORY"), do.AssignSegment)
    assert again.peer_id == "peer_d"
    assert list(avoided(world, job, 1)) == ["peer_c"]
