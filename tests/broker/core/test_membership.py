"""Peers that connect, fall silent, go, and come back."""

from __future__ import annotations

from math import inf, nan

import pytest

from broker.core import commands as do
from broker.core import events as ev
from broker.core import limits, views


def test_a_peer_becomes_live_and_its_reports_so_far_are_acknowledged(world, only):
    commands = world.connect("peer_a")
    assert views.peer(world.broker, "peer_a").state == "live"
    assert only(commands, do.AcknowledgeReports) == [
        do.AcknowledgeReports(peer_id="peer_a", through_number=0)]


def test_a_second_session_ends_the_first(world, only):
    world.connect("peer_a", session_id="old")
    commands = world.connect("peer_a", session_id="new")
    (end,) = only(commands, do.DisconnectPeer)
    assert (end.peer_id, end.session_id, end.code) == ("peer_a", "old", "CONFLICT")
    # The old stream's end arrives late and says nothing about the new one.
    world.apply(ev.PeerDisconnected, peer_id="peer_a", session_id="old")
    assert views.peer(world.broker, "peer_a").state == "live"


def test_the_same_session_twice_is_no_conflict(world, only):
    world.connect("peer_a", session_id="s")
    assert not only(world.connect("peer_a", session_id="s"), do.DisconnectPeer)


def test_a_closed_stream_is_suspect_then_lost_after_the_grace(world, only):
    world.connect("peer_a")
    world.disconnect("peer_a")
    assert views.peer(world.broker, "peer_a").state == "suspect"
    world.sleep(4_999)
    assert views.peer(world.broker, "peer_a").state == "suspect"
    world.sleep(1)
    view = views.peer(world.broker, "peer_a")
    assert view.state == "lost"
    assert view.trouble == "closed its stream and did not come back within 5 s"


def test_a_peer_that_comes_back_in_time_is_live(world):
    world.connect("peer_a")
    world.disconnect("peer_a")
    world.sleep(4_000)
    world.connect("peer_a")
    world.sleep(10_000, "peer_a")
    assert views.peer(world.broker, "peer_a").state == "live"


def test_silence_is_suspect_then_lost_and_the_session_is_ended(world, only):
    world.connect("peer_a", session_id="s")
    world.sleep(7_999)
    assert views.peer(world.broker, "peer_a").state == "live"
    world.sleep(1)
    assert views.peer(world.broker, "peer_a").state == "suspect"
    commands = world.sleep(5_000)
    view = views.peer(world.broker, "peer_a")
    assert view.state == "lost"
    assert "silent for 8 s" in view.trouble
    assert [(c.session_id, c.code) for c in only(commands, do.DisconnectPeer)] == [
        ("s", "TIMED_OUT")]


def test_heartbeats_keep_a_peer_live_and_revive_a_silent_one(world):
    world.connect("peer_a")
    world.sleep(60_000, "peer_a")
    assert views.peer(world.broker, "peer_a").state == "live"
    world.sleep(9_000)
    assert views.peer(world.broker, "peer_a").state == "suspect"
    world.sleep(1_000, "peer_a")
    assert views.peer(world.broker, "peer_a").state == "suspect", "heard only at the very end"
    world.sleep(0)
    assert views.peer(world.broker, "peer_a").state == "live"


def test_a_sign_of_life_wakes_the_core_once(world):
    world.connect("peer_a")
    world.sleep(8_000)
    lost_at_ns = world.broker.next_wakeup_ns()
    assert lost_at_ns == world.now_ns + 5 * 10**9
    world.now_ns += 1
    world.beat("peer_a")
    assert world.broker.next_wakeup_ns() == world.now_ns
    world.now_ns += 1
    world.apply(ev.TimerFired, silent_peers=("peer_a",))
    assert world.broker.next_wakeup_ns() == lost_at_ns, "judged again: nothing is due before"


def test_heartbeats_of_strangers_and_closed_sessions_mean_nothing(world):
    world.connect("peer_a")
    world.disconnect("peer_a")
    world.beat("peer_a", "peer_unknown")
    world.sleep(5_000, "peer_a", "peer_unknown")
    assert views.peer(world.broker, "peer_a").state == "lost"
    assert views.peer(world.broker, "peer_unknown") is None


def test_a_lost_peer_may_return(world):
    world.connect("peer_a")
    world.disconnect("peer_a")
    world.sleep(5_000)
    world.connect("peer_a")
    assert views.peer(world.broker, "peer_a").state == "live"


@pytest.mark.parametrize("how", ["closed", "silent"])
def test_a_lost_peer_leaves_its_segment_vacant_and_the_job_says_why_it_waits(world, only, how):
    job = world.running("peer_a", "peer_b")
    if how == "closed":
        world.disconnect("peer_b")
        commands = world.sleep(5_000, "peer_a")
        what = "closed its stream and did not come back within 5 s"
    else:
        commands = world.sleep(13_000, "peer_a")
        what = "was silent for 8 s and did not come back within 5 s"
    view = views.job(world.broker, job)
    assert (view.state, view.error_code) == ("recovering", "")
    assert view.reason == "segment 1 waits for a peer: none of 1 live peers is free"
    texts = [c.text for c in only(commands, do.Note) if c.event == "segment_vacant"]
    assert texts == [
        f"Segment 1 is vacant: peer PEER_B (peer_b), which held segment 1 of 2, {what}."]
    assert not only(commands, do.RevokeSegment), "the neighbour waits and keeps what it has"


def test_a_peer_with_a_finished_segment_may_go(world):
    job = world.running("peer_a", "peer_b", spec=None)
    for segment in (0, 1):
        world.steps(job, segment, 0, 3)
    world.finish(job, 0)
    world.disconnect("peer_a")
    world.sleep(5_000, "peer_b")
    assert views.peer(world.broker, "peer_a").state == "lost"
    assert world.state_of(job) == "running"
    world.finish(job, 1)
    assert world.state_of(job) == "succeeded"


def test_a_peer_that_holds_its_lease_is_reminded_of_who_is_where(world, only):
    """It may have missed that a neighbour has moved."""
    job = world.running("peer_a", "peer_b")
    world.disconnect("peer_b")
    commands = world.connect("peer_b", world.held(job, 1))
    assert not only(commands, do.AssignSegment) + only(commands, do.RevokeSegment)
    (start,) = only(commands, do.StartJob)
    assert (start.peer_id, start.token) == world.tokens[job, 1]
    assert [member.peer_id for member in start.members] == ["peer_a", "peer_b"]
    assert world.state_of(job) == "running"


def test_a_start_that_the_peer_missed_is_sent_again(world, only):
    job = world.prepared("peer_a", "peer_b")
    world.report(ev.SegmentReady, job, 0)
    world.disconnect("peer_a")
    sent = only(world.report(ev.SegmentReady, job, 1), do.StartJob)
    assert [c.peer_id for c in sent] == ["peer_b"], "the other one is not connected"
    (again,) = only(world.connect("peer_a", world.held(job, 0, "ready")), do.StartJob)
    assert again.peer_id == "peer_a"
    assert again.members == sent[0].members


def test_an_assignment_that_the_peer_missed_is_sent_again_under_the_same_token(world, only):
    job = world.prepared("peer_a", "peer_b")
    token = world.tokens[job, 1]
    world.disconnect("peer_b")
    (again,) = only(world.connect("peer_b"), do.AssignSegment)
    assert ((again.peer_id, again.token), again.segments) == (token, 2)


def test_a_restarted_peer_loads_again_before_the_start(world, only):
    job = world.prepared("peer_a", "peer_b")
    world.report(ev.SegmentReady, job, 0)
    world.disconnect("peer_a")
    assert only(world.connect("peer_a"), do.AssignSegment)
    world.report(ev.SegmentReady, job, 1)
    assert world.state_of(job) == "preparing", "segment 0 is not loaded any more"
    world.report(ev.SegmentReady, job, 0)
    assert world.state_of(job) == "running"


def test_a_restarted_peer_loses_its_segment_after_a_grace_and_may_load_it_again(world, only):
    job = world.running("peer_a", "peer_b")
    world.steps(job, 0, 0)
    world.disconnect("peer_a")
    world.connect("peer_a")
    assert world.state_of(job) == "running", "the cause may still be on its way"
    first = world.tokens[job, 0]
    commands = world.sleep(1_000, "peer_a", "peer_b")
    (note,) = [c for c in only(commands, do.Note) if c.event == "segment_vacant"]
    assert "came back without the segment" in note.text
    (again,) = only(commands, do.AssignSegment)
    assert (again.peer_id, again.position, again.snapshot) == ("peer_a", 0, None)
    assert again.token > first[1]
    world.report(ev.SegmentReady, job, 0)
    assert world.state_of(job) == "running"


def test_the_cause_reported_after_a_reconnect_wins(world):
    job = world.running("peer_a", "peer_b")
    world.disconnect("peer_a")
    world.connect("peer_a")
    world.report(ev.SegmentFailed, job, 0, code="OUT_OF_MEMORY", message="no room", blamed_peer="")
    assert views.job(world.broker, job).error_code == "OUT_OF_MEMORY"


def test_unknown_and_stale_leases_are_revoked(world, only):
    job = world.running("peer_a", "peer_b")
    world.disconnect("peer_a")
    stale = world.held(job, 0, token=99)
    unknown = ev.HeldLease(job_id="job_999999", segment=3, token=1, phase="running")
    commands = world.connect("peer_a", world.held(job, 0), stale, unknown)
    assert [(c.job_id, c.segment, c.token) for c in only(commands, do.RevokeSegment)] == [
        (job, 0, 99), ("job_999999", 3, 1)]
    assert world.state_of(job) == "running"


def test_a_revoke_missed_by_an_absent_peer_is_sent_when_it_returns(world, only):
    job = world.running("peer_a", "peer_b")
    world.disconnect("peer_a")
    world.apply(ev.CancelRequested, request_id="r", job_id=job, by="client_a")
    (revoke,) = only(world.connect("peer_a", world.held(job, 0)), do.RevokeSegment)
    assert revoke.token == world.tokens[job, 0][1]
    assert views.peer(world.broker, "peer_a").leases[0].phase == "revoked"
    world.report(ev.SegmentReleased, job, 0)
    assert not views.peer(world.broker, "peer_a").leases


def test_a_peer_that_returns_without_a_revoked_segment_is_free(world):
    job = world.running("peer_a", "peer_b")
    world.disconnect("peer_a")
    world.apply(ev.CancelRequested, request_id="r", job_id=job, by="client_a")
    world.connect("peer_a")
    assert not views.peer(world.broker, "peer_a").leases


def test_a_peer_that_does_not_release_is_made_to_reconnect(world, only):
    job = world.running("peer_a")
    world.apply(ev.CancelRequested, request_id="r", job_id=job, by="client_a")
    commands = world.sleep(limits.RELEASE_TIMEOUT_MS, "peer_a")
    (end,) = only(commands, do.DisconnectPeer)
    assert "revoked segment" in end.message


def test_after_a_restart_everybody_has_the_longer_grace(world):
    job = world.running("peer_a", "peer_b")
    world.start()
    assert {peer.state for peer in views.peers(world.broker)} == {"suspect"}
    world.sleep(30_000)
    assert world.state_of(job) == "running"
    world.connect("peer_a", world.held(job, 0))
    world.sleep(29_999, "peer_a")
    assert world.state_of(job) == "running"
    world.sleep(1, "peer_a")
    assert world.state_of(job) == "recovering"
    assert views.peer(world.broker, "peer_b").trouble == (
        "did not come back within 60 s of the broker's restart")


def test_a_restart_does_not_hurt_a_job_whose_peers_return(world):
    job = world.running("peer_a", "peer_b")
    world.start()
    world.connect("peer_a", world.held(job, 0))
    world.connect("peer_b", world.held(job, 1))
    world.sleep(100_000, "peer_a", "peer_b")
    for segment in (0, 1):
        world.steps(job, segment, 0, 3)
        world.finish(job, segment)
    assert world.state_of(job) == "succeeded"


def test_the_policy_of_a_restart_counts(world):
    world.start(reconnect_grace_ms=100)
    world.connect("peer_a")
    world.disconnect("peer_a")
    world.sleep(100)
    assert views.peer(world.broker, "peer_a").state == "lost"


@pytest.mark.parametrize(
    ("changes", "code", "word"),
    [
        ({"session_id": ""}, "INVALID_ARGUMENT", "session_id"),
        ({"tensor_address": "x" * 301}, "INVALID_ARGUMENT", "tensor_address"),
        ({"tensor_address": "a\nb"}, "INVALID_ARGUMENT", "tensor_address"),
        ({"leases": tuple(ev.HeldLease(job_id="j", segment=i, token=i, phase="")
                          for i in range(65))}, "LIMIT_EXCEEDED", "64"),
    ],
)
def test_a_bad_registration_is_refused(world, only, changes, code, word):
    (end,) = only(world.connect("peer_a", **changes), do.DisconnectPeer)
    assert end.code == code
    assert word in end.message
    assert views.peer(world.broker, "peer_a") is None


@pytest.mark.parametrize("rate", [0.0, -1.0, nan, inf])
def test_impossible_hardware_is_refused(world, only, make, rate):
    rates = type(make.hardware().rates)(
        matmul_flops_per_s=rate, attention_flops_per_s=1.0, memory_bytes_per_s=1.0)
    for bad in (make.hardware(rates=rates), make.hardware(memory_bytes=0)):
        (end,) = only(world.connect("peer_a", hardware=bad), do.DisconnectPeer)
        assert "hardware." in end.message


def test_a_submitter_is_no_peer(world, only):
    world.apply(ev.KeyCreated, request_id="r", key_id="key_1", secret_hash="h", role="submitter",
                reusable=False, expires_at_ns=world.now_ns + 1)
    world.apply(ev.EnrolmentRequested, request_id="r", key_id="key_1", secret_hash="h", name="n",
                new_id="z")
    (end,) = only(world.connect("client_z"), do.DisconnectPeer)
    assert end.code == "NOT_ALLOWED"


def test_names_are_made_printable(world):
    world.connect("peer_a", name="a\x1b[31mb" + "x" * 200)
    name = views.peer(world.broker, "peer_a").name
    assert name.startswith("a?[31mb")
    assert len(name) == limits.MAX_NAME
    world.connect("peer_b", name="")
    assert views.peer(world.broker, "peer_b").name == "peer_b"


def test_time_never_goes_back(world):
    world.connect("peer_a")
    late = world.now_ns
    world.now_ns -= 10**12
    world.disconnect("peer_a")
    assert world.broker.state.now_ns == late
    assert world.broker.next_wakeup_ns() == late + 5 * 10**9
