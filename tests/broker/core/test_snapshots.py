"""Which snapshots are believed, which position is complete, and how often segments take one."""

from __future__ import annotations

from math import nan

import pytest

from broker.core import commands as do
from broker.core import events as ev
from broker.core import limits
from broker.core.snapshots import WHOLE, interval, step_seconds
from broker.core.state import Turn
from dag.cluster import Link


def position(world, job):
    return world.broker.state.jobs[job].position


def books(world, job, segment):
    """Position -> holders, as the broker knows them."""
    known = world.broker.state.jobs[job].snapshots[segment]
    return {at: dict(record.holders) for at, record in known.items()}


def chosen(world, job, **policy):
    """The interval that would be chosen now, under another policy if one is given."""
    if policy:
        world.start(**policy)
    return interval(Turn(world.broker.state), world.broker.state.jobs[job])


# --- the complete position -----------------------------------------------------------------------


def test_a_position_is_complete_when_every_segment_has_it_off_its_own_peer(world, only):
    job = world.training("peer_a", "peer_b")
    world.connect("peer_c")
    world.advance(job, 4)
    world.store(job, 0, 4, "peer_a")
    world.store(job, 1, 4, "peer_b")
    world.store(job, 0, 4, "peer_c")
    assert position(world, job) == 0, "segment 1 has it on its own disk only"
    told = [(c.peer_id, c.segment, c.position)
            for c in only(world.store(job, 1, 4, "peer_a"), do.CompleteSnapshot)]
    assert told == [("peer_a", 0, 4), ("peer_b", 1, 4)]
    assert position(world, job) == 4


def test_positions_that_segments_have_not_in_common_do_not_count(world):
    job = world.training("peer_a", "peer_b")
    world.connect("peer_c")
    world.advance(job, 8)
    world.store(job, 0, 4, "peer_c")
    world.store(job, 0, 8, "peer_c")
    world.store(job, 1, 4, "peer_c")
    assert position(world, job) == 4


def test_own_disk_is_enough_where_there_is_no_other_peer(world):
    job = world.training("peer_a")
    world.advance(job, 4)
    world.store(job, 0, 4, "peer_a")
    assert position(world, job) == 4
    world.connect("peer_b")
    world.advance(job, 8)
    world.store(job, 0, 8, "peer_a")
    assert position(world, job) == 4, "now there is one that could keep it"


def test_shards_count_when_enough_different_ones_are_away(world):
    job = world.training("peer_a")
    for peer in ("peer_b", "peer_c", "peer_d"):
        world.connect(peer)
    world.advance(job, 4)
    for peer, shard in (("peer_b", 0), ("peer_c", 0)):
        world.store(job, 0, 4, peer, shard=shard, data_shards=2)
    assert position(world, job) == 0, "twice the same shard"
    world.store(job, 0, 4, "peer_d", shard=2, data_shards=2)
    assert position(world, job) == 4


def test_a_lost_holder_does_not_make_a_position_complete(world):
    job = world.training("peer_a", "peer_b")
    world.connect("peer_c")
    world.advance(job, 4)
    world.store(job, 0, 4, "peer_c")
    world.lose("peer_c")
    world.connect("peer_d")
    world.store(job, 1, 4, "peer_d")
    assert position(world, job) == 0
    world.store(job, 0, 4, "peer_d")
    assert position(world, job) == 4


def test_a_segment_that_replays_holds_the_position_back(world):
    """It still needs its neighbours' logs from where it restarted."""
    job = world.training_with_backups()
    world.advance(job, 8)
    world.store(job, 1, 8, "peer_a")
    world.lose("peer_b")
    world.report(ev.SegmentReady, job, 1)
    world.steps(job, 1, 4, 2)
    world.store(job, 0, 8, "peer_d")
    assert position(world, job) == 4, "though all have their snapshots of 8"
    world.steps(job, 1, 6, 2)
    world.store(job, 1, 8, "peer_a")
    assert position(world, job) == 8


def test_the_newest_two_complete_positions_are_kept(world):
    job = world.training("peer_a", "peer_b")
    world.connect("peer_c")
    for at in (4, 8, 12):
        world.complete(job, at, "peer_c")
    assert set(books(world, job, 0)) == set(books(world, job, 1)) == {8, 12}


def test_finished_segments_are_told_of_complete_positions_too(world, only, make):
    job = world.running("peer_a", "peer_b", spec=make.spec(training={"steps": 6}), linked=True)
    world.connect("peer_c")
    world.steps(job, 0, 0, 6)
    world.store(job, 0, 4, "peer_c")
    world.finish(job, 0)
    world.steps(job, 1, 0, 4)
    told = only(world.store(job, 1, 4, "peer_c"), do.CompleteSnapshot)
    assert [c.peer_id for c in told] == ["peer_a", "peer_b"], "it can cut its log"


# --- what is believed ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "lie",
    [
        {"position": 0}, {"position": -4}, {"position": 1_001}, {"position": 5},
        {"digest": "zz"}, {"size_bytes": -1}, {"holder": "peer_unknown"},
        {"data_shards": 0}, {"data_shards": limits.MAX_SHARDS + 1}, {"shard": -1},
        {"shard": limits.MAX_SHARDS}, {"seconds": -1.0}, {"seconds": nan},
        {"seconds": limits.MAX_COPY_S + 1},
    ],
)
def test_what_cannot_be_is_noted_and_not_believed(world, events, lie):
    job = world.training("peer_a")
    world.connect("peer_b")
    world.advance(job, 4)
    commands = world.store(job, 0, **{"position": 4, "holder": "peer_b", **lie})
    assert "snapshot_ignored" in events(commands)
    assert books(world, job, 0) == {}
    assert world.broker.state.jobs[job].copy_s == 0.0


def test_another_digest_starts_a_snapshot_anew(world, make):
    """A segment restarted elsewhere computes other bits: copies of both runs do not mix."""
    job = world.training("peer_a", "peer_b")
    world.connect("peer_c")
    world.connect("peer_d")
    world.advance(job, 4)
    world.store(job, 0, 4, "peer_c", digest=make.digest(7))
    world.store(job, 0, 4, "peer_d", digest=make.digest(8))
    assert books(world, job, 0) == {4: {"peer_d": WHOLE}}


def held(job, segment, record, **changes):
    values = {"position": record.position, "digest": record.digest, "size_bytes": 500}
    return ev.HeldSnapshot(job_id=job, segment=segment, **{**values, **changes})


def test_a_peer_that_registers_is_believed_about_its_disk(world, make):
    job = world.training("peer_a", "peer_b")
    world.connect("peer_c")
    world.complete(job, 4, "peer_c")
    records = [known[4] for known in world.broker.state.jobs[job].snapshots]
    world.connect("peer_c", snapshots=(held(job, 0, records[0]),))
    assert "peer_c" in books(world, job, 0)[4]
    assert "peer_c" not in books(world, job, 1)[4], "its disk was emptied of this"
    world.connect("peer_d", snapshots=(
        held(job, 1, records[1]), held(job, 0, records[0], digest=make.digest(77)),
        held("job_999999", 0, records[0]), held(job, 0, records[0], position=99)))
    assert books(world, job, 1)[4] == {"peer_d": WHOLE}, "it had one that nobody knew of"
    assert "peer_d" not in books(world, job, 0)[4], "other bits"
    assert set(books(world, job, 0)) == {4}, "of an unknown position"


@pytest.mark.parametrize(("shards", "shard", "is_kept"), [
    (2, 1, True), (3, 1, False), (2, limits.MAX_SHARDS, False), (2, -1, False), (1, 0, True)])
def test_a_shard_that_registers_must_fit_the_others(world, shards, shard, is_kept):
    job = world.training("peer_a")
    for peer in ("peer_b", "peer_c", "peer_d"):
        world.connect(peer)
    world.advance(job, 4)
    for number, peer in enumerate(("peer_b", "peer_c")):
        world.store(job, 0, 4, peer, shard=number, data_shards=2)
    record = world.broker.state.jobs[job].snapshots[0][4]
    world.connect("peer_d", snapshots=(held(job, 0, record, data_shards=shards, shard=shard),))
    assert ("peer_d" in books(world, job, 0)[4]) is is_kept


def test_a_whole_copy_is_preferred_to_shards(world, only):
    job = world.training("peer_a", "peer_b")
    for peer in ("peer_c", "peer_d", "peer_e"):
        world.connect(peer)
    world.advance(job, 4)
    for segment in (0, 1):
        for number, peer in enumerate(("peer_c", "peer_d")):
            world.store(job, segment, 4, peer, shard=number, data_shards=2)
    (assigned,) = only(world.lose("peer_b"), do.AssignSegment)
    assert (assigned.snapshot.data_shards, len(assigned.snapshot.holders)) == (2, 2)
    assert sorted(holder.shard for holder in assigned.snapshot.holders) == [0, 1]
    world.store(job, 0, 4, "peer_e")
    (assigned,) = only(world.lose("peer_a"), do.AssignSegment)
    assert assigned.snapshot.data_shards == 1
    assert [holder.peer_id for holder in assigned.snapshot.holders] == ["peer_e"]


# --- how often -----------------------------------------------------------------------------------


def test_the_first_interval_is_the_replay_budget_in_predicted_steps(world, only, make):
    job = world.prepared("peer_a", spec=make.spec(training={"steps": 1_000}))
    (plan,) = only(world.report(ev.SegmentReady, job, 0), do.PlanSnapshots)
    assert plan.interval == 3, "5 s of 1.5 s each, rounded down: what is replayed stays in budget"


@pytest.mark.parametrize(
    ("copy_s", "policy", "wanted_s"),
    [
        # Young and Daly: sqrt(2 * 0.08 s * 3600 s) = 24 s, below the budget, above the overhead.
        (0.08, {"replay_budget_ms": 100_000}, 24.0),
        # What a replay may take bounds it from above...
        (0.08, {"replay_budget_ms": 15_000}, 15.0),
        # ...but copying may not cost more than its share: 0.08 s / 0.01 = 8 s.
        (0.08, {"replay_budget_ms": 1_000}, 8.0),
        (0.08, {"replay_budget_ms": 1_000, "snapshot_overhead": 0.002}, 40.0),
    ],
)
def test_the_interval_weighs_copies_against_replays(world, copy_s, policy, wanted_s):
    job = world.training("peer_a")
    world.connect("peer_b")
    world.advance(job, 4)
    world.store(job, 0, 4, "peer_b", seconds=copy_s)
    assert chosen(world, job, **policy) == int(wanted_s / 1.5)


def test_snapshots_are_never_denser_than_their_spacing(world, make):
    job = world.prepared("peer_a", spec=make.spec(training={"steps": 1_000}))
    world.report(ev.SegmentReady, job, 0)
    for step in range(limits.PACE_STEPS):
        world.now_ns += 10**7
        world.steps(job, 0, step)
    assert chosen(world, job, replay_budget_ms=1) == limits.SNAPSHOT_SPACING_MS // 10


def test_snapshots_take_no_more_than_their_share_of_a_line(world):
    job = world.training("peer_a", "peer_b")
    world.connect("peer_c")
    world.advance(job, 4)
    for segment, holder in ((0, "peer_b"), (0, "peer_c"), (1, "peer_c")):
        world.store(job, segment, 4, holder, size_bytes=10**7)
    for target in ("peer_b", "peer_c"):
        world.apply(ev.LinkMeasured, link=Link(
            source="peer_a", target=target, latency_s=0.001, bandwidth_bytes_per_s=2.5e6))
    # Two copies of 10 MB at 2.5 MB/s take 8 s, which may be a fifth of the time.
    assert chosen(world, job) == int(40 / 1.5)
    assert chosen(world, job, snapshot_line_share=0.4) == int(20 / 1.5)


def test_a_slow_line_is_known_before_the_first_snapshot_has_crossed_it(world):
    job = world.training("peer_a")
    world.connect("peer_b")
    world.reach_all(job)
    world.advance(job, 4)
    world.apply(ev.LinkMeasured, link=Link(
        source="peer_a", target="peer_b", latency_s=0.001, bandwidth_bytes_per_s=62_500))
    world.store(job, 0, 4, "peer_a", size_bytes=600_000)
    assert [holder.peer_id for holder in world.broker.state.jobs[job].leases[0].plan.holders] == [
        "peer_b"]
    assert chosen(world, job) == int(9.6 / 0.2 / 1.5)


def test_a_line_without_a_measurement_is_known_by_what_giving_took(world):
    job = world.training("peer_a")
    world.connect("peer_b")
    world.advance(job, 8)
    world.store(job, 0, 4, "peer_b", giving_s=30.0)
    assert chosen(world, job) == int(150 / 1.5)
    world.store(job, 0, 8, "peer_a")
    assert chosen(world, job) == int(150 / 1.5), "the newest has not arrived yet"
    world.store(job, 0, 8, "peer_b", giving_s=3.0)
    assert chosen(world, job) == int(15 / 1.5), "the line is well again"


def test_operators_hear_which_line_makes_snapshots_seldom(world, only):
    job = world.training("peer_a", "peer_b")
    world.connect("peer_c")
    world.advance(job, 4)
    assert not only(world.store(job, 0, 4, "peer_c", giving_s=0.5), do.Note)
    notes = only(world.store(job, 1, 4, "peer_c", giving_s=3.0), do.Note)
    (text,) = [note.text for note in notes if note.event == "snapshots_seldom"]
    assert "giving one of segment 1 takes PEER_B (peer_b) 3 s" in text
    assert "up to 15 s of work; the budget is 5 s" in text
    assert not only(world.store(job, 1, 4, "peer_c", giving_s=3.0), do.Note), "said once"


def test_a_time_that_giving_cannot_have_taken_is_ignored(world):
    job = world.training("peer_a")
    world.connect("peer_b")
    world.advance(job, 4)
    for giving_s in (-1.0, nan, 1e300):
        world.store(job, 0, 4, "peer_b", giving_s=giving_s)
    assert books(world, job, 0) == {}


def test_frequent_losses_make_snapshots_denser(world):
    world.start(replay_budget_ms=100_000)
    job = world.training("peer_a", "peer_b")
    for peer in ("peer_c", "peer_d", "peer_e"):
        world.connect(peer)
    world.reach_all(job)
    world.advance(job, 4)
    world.store(job, 0, 4, "peer_c", seconds=0.08)
    before = chosen(world, job)
    for _ in range(3):
        world.connect("peer_f")
        world.lose(world.tokens[job, 1][0])
        world.report(ev.SegmentReady, job, 1)
    after = chosen(world, job)
    assert after == pytest.approx(before / 2, abs=1), "four times the losses, half the interval"


def test_a_step_takes_what_the_last_ones_took(world):
    job = world.training("peer_a")
    record = world.broker.state.jobs[job]
    for step in range(limits.PACE_STEPS):
        assert step_seconds(record) == 1.5, "the prediction, until enough is known"
        world.now_ns += 3 * 10**9
        world.steps(job, 0, step)
    assert step_seconds(record) == 3.0
    world.now_ns += 20 * 10**9
    world.steps(job, 0, limits.PACE_STEPS)
    assert step_seconds(record) < 4.0, "one pause says little"


def test_the_holder_is_told_of_another_interval_only_when_it_differs_much(world, only):
    job = world.training("peer_a")
    plans = []
    for step in range(2 * limits.PACE_STEPS):
        world.now_ns += 12 * 10**8  # 1.2 s instead of 1.5 s: 4 steps instead of 3
        plans += only(world.steps(job, 0, step), do.PlanSnapshots)
    assert not plans
    for step in range(2 * limits.PACE_STEPS, 4 * limits.PACE_STEPS):
        world.now_ns += 10**8
        plans += only(world.steps(job, 0, step), do.PlanSnapshots)
    assert [plan.interval for plan in plans] == [50], "5 s of 0.1 s each"


def test_a_snapshot_of_before_the_start_is_ignored(world):
    job = world.prepared("peer_a")
    world.connect("peer_b")
    world.store(job, 0, 1, "peer_b")
    assert books(world, job, 0) == {}


def gone(world, job, segment):
    """Whoever takes a segment over has found its snapshot nowhere."""
    taker, token = world.tokens[job, segment]
    commands = world.report(
        ev.SegmentFailed, job, segment, code="NOT_FOUND", message="it is not here",
        blamed_peer="", cause="network", evidence="", remedy="")
    return commands + world.report(
        ev.SegmentReleased, job, segment, peer_id=taker, token=token,
        number=world.numbers[taker] + 1)


def test_a_snapshot_that_is_nowhere_any_more_costs_time_but_not_the_job(world, only):
    job = world.training_with_backups()
    world.complete(job, 8, "peer_c", "peer_d")
    world.lose("peer_a")
    record = world.broker.state.jobs[job]
    for position in (8, 4):
        lease = record.leases[0]
        assert (lease.phase, lease.position) == ("assigned", position)
        commands = gone(world, job, 0)
        assert "snapshot_gone" in [note.event for note in only(commands, do.Note)]
        assert world.state_of(job) == "recovering"
        world.sleep(60_000, *world.there())
    assert record.position == record.leases[0].position == 0
    assert not any(failure.attempts for failure in record.failures.values())
