"""A segment without a holder: who gets it, from where on, and what its job waits for."""

from __future__ import annotations

import pytest

from broker.core import commands as do
from broker.core import events as ev
from broker.core import views


def prepare(world, job, **levels):
    """Backups come as far as told, but for those whose level is given: {peer: level}."""
    for (of, segment, peer), duty in sorted(world.duties.items()):
        if of == job:
            world.reach(job, segment, peer, levels.get(peer, duty.level))


# --- who takes over ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("levels", "taker"),
    [
        ({"peer_c": "warm", "peer_d": "hot"}, "peer_d"),
        ({"peer_c": "store", "peer_d": "warm"}, "peer_d"),
        ({"peer_c": "", "peer_d": "store"}, "peer_d"),
        ({"peer_c": "hot", "peer_d": "hot"}, "peer_c"),
    ],
)
def test_the_backup_that_is_furthest_prepared_takes_over(world, only, levels, taker):
    job = world.training("peer_a", "peer_b")
    world.connect("peer_c")
    world.connect("peer_d")
    prepare(world, job, **levels)
    (assigned,) = only(world.lose("peer_b"), do.AssignSegment)
    assert (assigned.peer_id, assigned.segment.index) == (taker, 1)


def test_of_equally_prepared_ones_it_is_who_has_the_snapshot_on_disk(world, only):
    job = world.training("peer_a", "peer_b")
    for peer in ("peer_c", "peer_d"):
        world.connect(peer)
    prepare(world, job, peer_c="warm", peer_d="warm")
    world.complete(job, 4, "peer_d")
    (assigned,) = only(world.lose("peer_b"), do.AssignSegment)
    assert assigned.peer_id == "peer_d"


def test_who_has_lost_fewer_segments_goes_first(world, only):
    world.connect("peer_c")
    first = world.training("peer_c")
    world.lose("peer_c")
    world.apply(ev.CancelRequested, request_id="r", job_id=first, by="client_a")
    job = world.training("peer_a", "peer_b")
    world.connect("peer_c")
    world.connect("peer_d")
    prepare(world, job, peer_c="warm", peer_d="warm")
    (assigned,) = only(world.lose("peer_b"), do.AssignSegment)
    assert assigned.peer_id == "peer_d", "peer_c would be first by its id"


def test_a_segment_goes_on_at_the_complete_position_from_its_snapshot(world, only, make):
    job = world.training("peer_a", "peer_b")
    world.connect("peer_c")
    world.reach_all(job)
    world.complete(job, 4, "peer_c")
    world.advance(job, 7)
    old = world.tokens[job, 1]
    commands = world.lose("peer_b")
    (assigned,) = only(commands, do.AssignSegment)
    assert assigned.token > old[1]
    assert assigned.position == 4
    assert assigned.snapshot == do.SnapshotSource(
        digest=make.digest(2_004), size_bytes=500, data_shards=1,
        holders=(do.Holder(peer_id="peer_c", address="peer_c:7000"),))
    assert world.reason(job) == "segment 1 moves to PEER_C (peer_c)"
    assert world.backups(job, 1) == {"peer_a": "store"}, "the lease took the standby's place"
    revoked = [(c.peer_id, c.segment) for c in only(commands, do.RevokeSegment)]
    assert revoked == [("peer_c", 0)], "what it has prepared for segment 1 it may use"


def test_members_learn_when_a_segment_is_gone_and_when_it_is_there_again(world, only):
    job = world.training("peer_a", "peer_b")
    world.connect("peer_c")
    world.reach_all(job)
    (gone,) = only(world.lose("peer_b"), do.StartJob)
    assert (gone.peer_id, gone.members[1].peer_id, gone.members[1].tensor_address) == (
        "peer_a", "", "")
    told = only(world.report(ev.SegmentReady, job, 1), do.StartJob)
    assert [start.peer_id for start in told] == ["peer_a", "peer_c"]
    assert {start.members[1].peer_id for start in told} == {"peer_c"}
    assert (world.state_of(job), world.reason(job)) == ("running", "")


def test_what_a_replay_repeats_counts_once(world):
    job = world.training("peer_a", "peer_b")
    world.connect("peer_c")
    world.reach_all(job)
    world.complete(job, 4, "peer_c")
    world.advance(job, 7)
    world.lose("peer_b")
    world.report(ev.SegmentReady, job, 1)
    assert views.job(world.broker, job).steps_done == 7, "work that is done stays done"
    world.steps(job, 1, 4, 3, losses=(9.0, 9.0, 9.0))
    losses = [metric.loss for metric in views.metrics(world.broker, job)]
    assert losses == [1 / (i + 1) for i in range(7)]
    world.steps(job, 1, 7)
    assert len(views.metrics(world.broker, job)) == 8


# --- waiting -------------------------------------------------------------------------------------


def test_without_a_peer_the_job_waits_and_goes_on_when_one_joins(world, only):
    job = world.training("peer_a", "peer_b")
    world.lose("peer_b")
    assert world.state_of(job) == "recovering"
    assert world.reason(job) == "segment 1 waits for a peer: none of 1 live peers is free"
    world.sleep(3_600_000, "peer_a")
    assert world.state_of(job) == "recovering", "it waits for as long as it must"
    (assigned,) = only(world.connect("peer_z"), do.AssignSegment)
    assert (assigned.peer_id, assigned.segment.index) == ("peer_z", 1)
    world.report(ev.SegmentReady, job, 1)
    assert world.state_of(job) == "running"


def test_the_reason_names_why_free_peers_do_not_do(world, make):
    job = world.training("peer_a", "peer_b")
    world.connect("peer_c", hardware=make.hardware(memory_bytes=5))
    world.lose("peer_b")
    assert world.reason(job) == (
        "segment 1 waits for a peer: PEER_C (peer_c) offers 5 bytes of memory; "
        f"segment 1 needs {1 << 20}")


def test_a_peer_that_becomes_free_is_taken_like_one_that_joins(world, only):
    job = world.training("peer_a", "peer_b")
    other = world.training("peer_c")
    world.lose("peer_b")
    assert world.state_of(job) == "recovering"
    world.apply(ev.CancelRequested, request_id="r", job_id=other, by="client_a")
    (assigned,) = only(world.report(ev.SegmentReleased, other, 0), do.AssignSegment)
    assert (assigned.job_id, assigned.peer_id) == (job, "peer_c")


@pytest.mark.parametrize("availability", ["finishing", "paused", "leaving"])
def test_an_owner_that_wants_no_work_is_not_given_a_segment(world, only, availability):
    job = world.training("peer_a", "peer_b")
    world.connect("peer_c", availability=availability)
    assert not only(world.lose("peer_b"), do.AssignSegment)
    commands = world.apply(
        ev.AvailabilityChanged, peer_id="peer_c", availability="open", deadline_ms=0)
    assert [c.job_id for c in only(commands, do.AssignSegment)] == [job]


# --- several at once, and during the cure --------------------------------------------------------


def test_segments_lost_together_restart_at_the_same_position_on_different_peers(world, only):
    job = world.training("peer_a", "peer_b", "peer_c")
    for peer in ("peer_d", "peer_e"):
        world.connect(peer)
    world.reach_all(job)
    world.complete(job, 4, "peer_d", "peer_e")
    world.advance(job, 9)
    assigned = only(world.lose("peer_b", "peer_c"), do.AssignSegment)
    assert {(one.segment.index, one.position) for one in assigned} == {(1, 4), (2, 4)}
    assert {one.peer_id for one in assigned} == {"peer_d", "peer_e"}
    world.report(ev.SegmentReady, job, 1)
    assert world.state_of(job) == "recovering"
    world.report(ev.SegmentReady, job, 2)
    assert world.state_of(job) == "running"


def test_with_fewer_peers_than_losses_the_rest_waits(world, only):
    job = world.training("peer_a", "peer_b", "peer_c")
    world.connect("peer_d")
    world.reach_all(job)
    assigned = only(world.lose("peer_b", "peer_c"), do.AssignSegment)
    assert [one.peer_id for one in assigned] == ["peer_d"]
    (first,) = (one.segment.index for one in assigned)
    rest = 3 - first
    assert f"segment {first} moves to PEER_D (peer_d)" in world.reason(job)
    assert f"segment {rest} waits for a peer: none of 2 live peers is free" in world.reason(job)
    world.report(ev.SegmentReady, job, first)
    assert world.state_of(job) == "recovering"
    (late,) = only(world.connect("peer_e"), do.AssignSegment)
    assert late.segment.index == rest


def test_the_segment_with_the_fewest_choices_chooses_first(world, only):
    """Else peer_d would take segment 1, and nobody could take segment 2."""
    job = world.training("peer_a", "peer_b", "peer_c")
    world.connect("peer_d")
    world.connect("peer_e")
    world.rank(job, {}, {"peer_d": 0.1, "peer_e": 0.2}, {"peer_d": 0.1})
    world.disconnect("peer_b")
    world.disconnect("peer_c")
    # Both are lost in one turn, as both have been gone for as long.
    assigned = only(world.sleep(20_000, "peer_a", "peer_d", "peer_e"), do.AssignSegment)
    assert {one.segment.index: one.peer_id for one in assigned} == {1: "peer_e", 2: "peer_d"}


def test_a_segment_without_a_choice_gets_one_from_who_has_another(world, only):
    """Each has two choices; the best of the first two would leave nobody for segment 3."""
    job = world.training("peer_a", "peer_b", "peer_c", "peer_d")
    for peer in ("peer_e", "peer_f", "peer_g"):
        world.connect(peer)
    world.rank(job, {}, {"peer_e": 0.1, "peer_f": 0.2}, {"peer_f": 0.1, "peer_g": 0.2},
               {"peer_e": 0.1, "peer_f": 0.2})
    assigned = only(world.lose("peer_b", "peer_c", "peer_d"), do.AssignSegment)
    held = {one.segment.index: one.peer_id for one in assigned}
    assert held[2] == "peer_g"
    assert {held[1], held[3]} == {"peer_e", "peer_f"}


def test_a_taker_that_is_lost_too_is_replaced(world, only):
    job = world.training_with_backups()
    (first,) = only(world.lose("peer_b"), do.AssignSegment)
    commands = world.lose(first.peer_id)
    (second,) = only(commands, do.AssignSegment)
    assert {first.peer_id, second.peer_id} == {"peer_c", "peer_d"}
    assert second.token > first.token
    assert (second.position, second.snapshot.holders[0].peer_id) == (4, second.peer_id)
    world.report(ev.SegmentReady, job, 1)
    assert world.state_of(job) == "running"


def test_the_neighbour_may_be_lost_during_a_takeover(world, only):
    job = world.training_with_backups()
    (first,) = only(world.lose("peer_b"), do.AssignSegment)
    (second,) = only(world.lose("peer_a"), do.AssignSegment)
    assert (second.segment.index, second.position) == (0, 4)
    assert second.peer_id != first.peer_id
    world.report(ev.SegmentReady, job, 1)
    world.report(ev.SegmentReady, job, 0)
    assert world.state_of(job) == "running"


def test_a_taker_that_does_not_load_in_time_is_not_asked_again(world, only):
    job = world.training("peer_a", "peer_b")
    for peer in ("peer_c", "peer_d"):
        world.connect(peer)
    (first,) = only(world.lose("peer_b"), do.AssignSegment)
    commands = world.sleep(600_000, *world.there())
    (second,) = only(commands, do.AssignSegment)
    assert (first.peer_id, second.peer_id) == ("peer_c", "peer_d")
    assert [c.token for c in only(commands, do.RevokeSegment) if c.peer_id == "peer_c"][:1] == [
        first.token]
    world.report(ev.SegmentReleased, job, 1, peer_id="peer_c", token=first.token,
                 number=world.numbers.get("peer_c", 0) + 1)
    assert "did not load it within 600 s" in world.broker.state.jobs[job].failures[1].avoided[
        "peer_c"]
    assert not only(world.lose("peer_d"), do.AssignSegment)
    assert "PEER_C (peer_c) did not load it within 600 s" in world.reason(job)


def test_a_taker_whose_process_is_new_is_told_again_under_its_token(world, only):
    job = world.training("peer_a", "peer_b")
    world.connect("peer_c")
    world.reach_all(job)
    world.complete(job, 4, "peer_c")
    (first,) = only(world.lose("peer_b"), do.AssignSegment)
    world.disconnect("peer_c")
    kept = world.broker.state.jobs[job].snapshots[1][4]
    snapshot = ev.HeldSnapshot(job_id=job, segment=1, position=4, digest=kept.digest, size_bytes=5)
    (again,) = only(world.connect("peer_c", snapshots=(snapshot,)), do.AssignSegment)
    assert (again.token, again.position, again.snapshot) == (first.token, 4, first.snapshot)


def test_a_taker_that_comes_back_without_the_snapshot_loses_the_segment(world, only):
    """Nobody else has it: the job waits for a holder instead of loading nothing."""
    job = world.training("peer_a", "peer_b")
    world.connect("peer_c")
    world.reach_all(job)
    world.complete(job, 4, "peer_c")
    world.lose("peer_b")
    world.disconnect("peer_c")
    assert not only(world.connect("peer_c"), do.AssignSegment)
    assert "its snapshot of position 4 is on peers that are away" in world.reason(job)


# --- the old holder ------------------------------------------------------------------------------


def test_a_zombie_is_told_to_stop_and_its_reports_change_nothing(world, only, make):
    job = world.training("peer_a", "peer_b")
    world.connect("peer_c")
    world.reach_all(job)
    world.complete(job, 4, "peer_c")
    held = world.held(job, 1)
    world.lose("peer_b")
    world.report(ev.SegmentReady, job, 1)
    (revoke,) = [c for c in only(world.connect("peer_b", held), do.RevokeSegment)
                 if c.token == held.token]
    assert (revoke.peer_id, revoke.segment) == ("peer_b", 1)
    before = (views.job(world.broker, job), world.broker.state.jobs[job].snapshots[1].copy())
    for number, (kind, more) in enumerate((
        (ev.StepsDone, {"first_step": 4, "count": 3, "losses": (5.0, 5.0, 5.0)}),
        (ev.EvaluationDone, {"step": 4, "loss": 1.0}),
        (ev.SnapshotStored, {"position": 6, "digest": make.digest(6), "size_bytes": 5,
                             "holder": "peer_b", "shard": 0, "data_shards": 1, "seconds": 0.1}),
        (ev.SegmentPace, {"microbatch_s": 0.1, "microbatches": 9}),
        (ev.NeighbourLost, {"neighbour": 0, "blamed_peer": "peer_a", "code": "CONFLICT",
                            "message": "m"}),
        (ev.SegmentFailed, {"code": "INTERNAL", "message": "m", "blamed_peer": "", "cause": "job"}),
        (ev.SegmentFinished, {"result_digest": make.digest(1), "result_bytes": 1}),
    ), start=1):
        commands = world.apply(kind, peer_id="peer_b", number=100 + number, job_id=job, segment=1,
                               token=held.token, **more)
        assert "stale_token" in [note.event for note in only(commands, do.Note)], kind
    after = (views.job(world.broker, job), world.broker.state.jobs[job].snapshots[1])
    assert after == before


def test_a_holder_that_returns_in_time_keeps_its_segment(world, only):
    job = world.training("peer_a", "peer_b")
    token = world.tokens[job, 1]
    world.disconnect("peer_b")
    world.sleep(4_000, "peer_a")
    world.connect("peer_b", world.held(job, 1))
    world.sleep(20_000, "peer_a", "peer_b")
    assert (world.state_of(job), world.tokens[job, 1]) == ("running", token)


# --- falling back --------------------------------------------------------------------------------


def gone_with_its_snapshot(world):
    """Segment 1's snapshot of position 8 is on peer_b and peer_c, which are both lost."""
    job = world.training_with_backups()
    world.complete(job, 8, "peer_c")
    world.store(job, 0, 8, "peer_d")
    return job


def test_a_lost_snapshot_is_waited_for_as_long_as_its_work_would_take(world, only):
    """4 steps of 1.5 s would be done again: that long, and no longer, the job waits."""
    job = gone_with_its_snapshot(world)
    world.disconnect("peer_c")
    world.disconnect("peer_b")
    world.sleep(5_000, "peer_a", "peer_d")
    assert world.state_of(job) == "recovering"
    assert world.reason(job) == (
        "segment 1: its snapshot of position 8 is on peers that are away; waits for one of them, "
        "or else all segments restart at 4")
    assert not only(world.sleep(5_999, "peer_a", "peer_d"), do.AssignSegment)
    commands = world.sleep(1, "peer_a", "peer_d")
    assert "job_went_back" in [note.event for note in only(commands, do.Note)]
    assigned = {c.segment.index: c for c in only(commands, do.AssignSegment)}
    assert {one.position for one in assigned.values()} == {4}
    assert {one.snapshot.holders[0].peer_id for one in assigned.values()} == {"peer_d"}
    known = world.broker.state.jobs[job].snapshots
    assert [set(positions) for positions in known] == [{4}, {4}], "8 is of a run that is no more"


def test_a_holder_that_returns_within_that_time_saves_the_work(world, only, events):
    job = gone_with_its_snapshot(world)
    world.disconnect("peer_c")
    world.disconnect("peer_b")
    world.sleep(8_000, "peer_a", "peer_d")
    record = world.broker.state.jobs[job].snapshots[1][8]
    snapshot = ev.HeldSnapshot(job_id=job, segment=1, position=8, digest=record.digest,
                               size_bytes=500)
    commands = world.connect("peer_c", snapshots=(snapshot,))
    (assigned,) = only(commands, do.AssignSegment)
    assert (assigned.segment.index, assigned.position) == (1, 8)
    assert "job_went_back" not in events(commands)


def test_after_going_back_all_segments_run_again_from_there(world, only):
    job = gone_with_its_snapshot(world)
    world.disconnect("peer_c")
    world.disconnect("peer_b")
    world.sleep(11_000, "peer_a", "peer_d")
    # peer_a still has the segment's old state: it is taken back, and it may take one over again.
    world.report(ev.SegmentReleased, job, 0, peer_id="peer_a", token=1,
                 number=world.numbers["peer_a"] + 1)
    world.connect("peer_e")
    for segment in (0, 1):
        world.report(ev.SegmentReady, job, segment)
    assert world.state_of(job) == "running"
    view = views.job(world.broker, job)
    assert view.steps_done == 8, "what was done counts as done"
    for segment in (0, 1):
        world.steps(job, segment, 4, 5)
    assert views.job(world.broker, job).steps_done == 9


def test_a_cut_log_sends_all_segments_back_at_once(world, only, events):
    job = world.training("peer_a", "peer_b")
    world.connect("peer_c")
    world.reach_all(job)
    world.complete(job, 4, "peer_c")
    commands = world.report(
        ev.NeighbourLost, job, 0, neighbour=1, blamed_peer="peer_b", code="CONFLICT",
        message="the log begins at position 6")
    assert "job_went_back" in events(commands)
    taken_back = [(c.peer_id, c.segment) for c in only(commands, do.RevokeSegment)]
    assert {("peer_a", 0), ("peer_b", 1)} <= set(taken_back)
    assert {c.position for c in only(commands, do.AssignSegment)} == {4}
