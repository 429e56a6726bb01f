"""The backup pool: who stands by for what, how ready, and what a segment still lacks."""

from __future__ import annotations

import pytest

from broker.core import commands as do
from broker.core import events as ev
from broker.core import views


def gaps(world):
    return {(one.job_id, one.segment): one.gap for one in views.backup_view(world.broker.state)}


def gap(world, job, segment):
    return gaps(world)[job, segment]


def grown(world, job, *peers):
    """The job, after peers have joined one by one."""
    for peer in peers:
        world.connect(peer)
    return job


# --- who is chosen -------------------------------------------------------------------------------


def test_every_segment_gets_backups_and_different_ones_are_compiled(world):
    job = grown(world, world.training("peer_a", "peer_b"), "peer_c", "peer_d")
    assert world.backups(job, 0) == {"peer_b": "store", "peer_c": "hot", "peer_d": "warm"}
    assert world.backups(job, 1) == {"peer_a": "store", "peer_c": "warm", "peer_d": "hot"}


def test_no_more_backups_than_are_of_use(world):
    job = grown(world, world.training("peer_a"), "peer_b", "peer_c", "peer_d", "peer_e")
    assert world.backups(job, 0) == {"peer_b": "hot", "peer_c": "hot"}


def test_backups_are_spread_over_the_pool(world):
    for peer in ("peer_c", "peer_d", "peer_e", "peer_f"):
        world.connect(peer)
    job = world.running("peer_a", "peer_b")
    assert world.backups(job, 0) == {"peer_c": "hot", "peer_d": "hot"}
    assert world.backups(job, 1) == {"peer_e": "hot", "peer_f": "hot"}


def test_members_keep_each_others_snapshots_where_the_pool_is_empty(world):
    job = world.training("peer_a", "peer_b")
    assert world.backups(job, 0) == {"peer_b": "store"}
    assert world.backups(job, 1) == {"peer_a": "store"}
    world.connect("peer_c", availability="finishing")
    assert world.backups(job, 0) == {"peer_b": "store", "peer_c": "store"}, "it may keep a file"


def test_what_is_on_another_address_block_is_chosen_first(world):
    world.connect_at(peer_a="10.0.1.1:7", peer_b="10.0.1.2:7", peer_c="10.0.1.3:7",
                     peer_y="10.0.2.1:7", peer_z="10.0.3.1:7")
    job = world.running("peer_a")
    assert set(world.backups(job, 0)) == {"peer_y", "peer_z"}


def test_blocks_of_the_newer_addresses_are_known_too(world):
    world.connect_at(peer_a="[fd00:1:2:3::1]:7", peer_b="[fd00:1:2:9::1]:7",
                     peer_c="[fd00:1:2:3::9]:7", peer_y="[fd00:1:4::1]:7", peer_z="[fd00:9::1]:7")
    job = world.running("peer_a")
    assert set(world.backups(job, 0)) == {"peer_y", "peer_z"}


def test_another_owners_peers_are_chosen_first(world):
    def joins(key, name):
        world.apply(ev.EnrolmentRequested, request_id="r", key_id=key, secret_hash=key, name=name,
                    new_id=name)
        world.connect(f"peer_{name}", tensor_address=f"host-{name}:7")

    for key in ("key_1", "key_2"):
        world.apply(ev.KeyCreated, request_id="r", key_id=key, secret_hash=key, role="peer",
                    reusable=True, expires_at_ns=world.now_ns + 10**12)
    for name in ("a", "b", "c"):
        joins("key_1", name)
    for name in ("y", "z"):
        joins("key_2", name)
    job = world.running("peer_a")
    assert set(world.backups(job, 0)) == {"peer_y", "peer_z"}


def test_the_same_failure_domain_is_better_than_nothing(world):
    world.connect_at(peer_a="10.0.1.1:7", peer_b="10.0.1.2:7")
    job = world.running("peer_a")
    assert world.backups(job, 0) == {"peer_b": "hot"}


def test_the_planners_ranking_counts_and_who_is_not_in_it_is_not_asked(world):
    job = grown(world, world.training("peer_a"), "peer_b", "peer_c", "peer_d")
    world.rank(job, {"peer_d": 0.1, "peer_c": 0.2})
    assert {peer: level for peer, level in world.backups(job, 0).items() if level != "store"} == {
        "peer_c": "hot", "peer_d": "hot"}
    assert "peer_b" not in world.backups(job, 0)


def test_who_steps_in_is_the_best_ranked(world):
    job = grown(world, world.training("peer_a"), "peer_b", "peer_c", "peer_d", "peer_e")
    world.rank(job, {"peer_b": 0.1, "peer_c": 0.1, "peer_e": 0.2, "peer_d": 0.3})
    world.lose("peer_b")
    assert "peer_e" in world.backups(job, 0)
    assert "peer_d" not in world.backups(job, 0)


def test_too_little_memory_excludes(world, make):
    job = world.training("peer_a")
    world.connect("peer_b", hardware=make.hardware(memory_bytes=5))
    assert world.backups(job, 0) == {"peer_b": "store"}, "it can keep snapshots all the same"
    assert gap(world, job, 0) == "no free peer can run it"


@pytest.mark.parametrize("answer", ["late", "short"])
def test_a_ranking_that_does_not_fit_the_question_is_dropped(world, answer):
    job = world.training("peer_a", "peer_b")
    version = world.broker.state.jobs[job].ranked_version
    ranking = ((("peer_a", 0.1),),) * (1 if answer == "short" else 2)
    world.apply(ev.BackupsRanked, job_id=job, ranking=ranking,
                cluster_version=version + (answer == "late"))
    assert world.broker.state.jobs[job].ranking == ()


def test_the_planner_is_asked_again_about_newcomers_only(world, only):
    job = world.training("peer_a")
    world.rank(job, {"peer_a": 0.1})
    world.disconnect("peer_a")
    assert not only(world.connect("peer_a", world.held(job, 0)), do.RankBackups)
    (asked,) = only(world.connect("peer_b"), do.RankBackups)
    assert [peer.peer_id for peer in asked.cluster.peers] == ["peer_a", "peer_b"]
    assert not only(world.connect("peer_c"), do.RankBackups), "one question at a time"
    (again,) = only(world.apply(
        ev.BackupsRanked, job_id=job, cluster_version=asked.cluster_version,
        ranking=((("peer_b", 0.1),),)), do.RankBackups)
    assert len(again.cluster.peers) == 3


# --- which is compiled where ---------------------------------------------------------------------


def test_as_many_segments_as_can_be_are_compiled_somewhere(world):
    job = grown(world, world.training("peer_a", "peer_b", "peer_c"), "peer_d", "peer_e")
    hot = {peer: segment for segment in range(3)
           for peer, level in world.backups(job, segment).items() if level == "hot"}
    assert len(hot) == 2
    assert len(set(hot.values())) == 2


def test_what_is_compiled_changes_only_where_that_covers_one_more(world, only):
    job = grown(world, world.training("peer_a", "peer_b"), "peer_c", "peer_d")
    world.rank(job, {"peer_c": 0.1, "peer_d": 0.1}, {})
    assert world.backups(job, 0) == {"peer_b": "store", "peer_c": "hot", "peer_d": "hot"}
    world.connect("peer_e", availability="paused")
    world.rank(job, *[{"peer_c": 0.1, "peer_d": 0.1}] * 2)
    assert world.backups(job, 0)["peer_d"] == "hot", "one of them stays as it is"
    assert (world.backups(job, 0)["peer_c"], world.backups(job, 1)["peer_c"]) == ("warm", "hot")
    assert world.backups(job, 1)["peer_d"] == "warm"


def test_room_is_made_before_another_segment_is_compiled(world, only):
    job = grown(world, world.training("peer_a", "peer_b"), "peer_c", "peer_d")
    world.rank(job, {"peer_c": 0.1, "peer_d": 0.1}, {})
    world.connect("peer_e", availability="paused")
    commands = world.rank(job, *[{"peer_c": 0.1, "peer_d": 0.1}] * 2)
    told = [(c.segment.index, c.level) for c in only(commands, do.StandBy) if c.peer_id == "peer_c"]
    assert told == [(0, "warm"), (1, "hot")]


def test_one_segment_only_is_compiled_on_a_peer_over_all_jobs(world):
    world.connect("peer_z")
    jobs = [world.training(peer) for peer in ("peer_a", "peer_b")]
    assert [world.backups(job, 0)["peer_z"] for job in jobs] == ["hot", "warm"]


def test_a_compiled_backup_that_goes_is_followed_by_another(world):
    job = grown(world, world.training("peer_a"), "peer_b", "peer_c", "peer_d")
    assert world.backups(job, 0) == {"peer_b": "hot", "peer_c": "hot"}
    world.lose("peer_b")
    assert world.backups(job, 0)["peer_d"] == "hot"


# --- what changes them ---------------------------------------------------------------------------


def test_a_suspect_backup_keeps_its_duty_and_a_lost_one_does_not(world):
    job = grown(world, world.training("peer_a"), "peer_b", "peer_c", "peer_d")
    world.disconnect("peer_b")
    assert set(world.backups(job, 0)) == {"peer_b", "peer_c"}
    assert {p for p, _ in views.backup_view(world.broker.state)[0].standbys} == {"peer_b", "peer_c"}
    world.sleep(5_000, "peer_a", "peer_c", "peer_d")
    assert {p for p, _ in views.backup_view(world.broker.state)[0].standbys} == {"peer_c", "peer_d"}


def test_a_new_job_takes_a_backup_and_others_step_in(world, only):
    job = grown(world, world.training("peer_a"), "peer_b", "peer_c", "peer_d")
    world.submit()
    taken = world.solve("job_000002", ["peer_b"])
    revoked = [(c.peer_id, c.job_id) for c in only(taken, do.RevokeSegment)]
    assert revoked == [("peer_b", job)]
    assert world.backups(job, 0) == {"peer_c": "hot", "peer_d": "hot"}


@pytest.mark.parametrize("availability", ["finishing", "paused", "leaving"])
def test_an_owner_that_wants_no_work_is_no_backup(world, availability):
    job = grown(world, world.training("peer_a"), "peer_b", "peer_c", "peer_d")
    world.apply(ev.AvailabilityChanged, peer_id="peer_b", availability=availability, deadline_ms=0)
    assert world.backups(job, 0) == {"peer_c": "hot", "peer_d": "hot"}


def test_backups_end_with_their_job(world, only):
    job = grown(world, world.training("peer_a"), "peer_b", "peer_c")
    commands = world.apply(ev.CancelRequested, request_id="r", job_id=job, by="client_a")
    assert {c.peer_id for c in only(commands, do.RevokeSegment)} == {"peer_a", "peer_b", "peer_c"}
    assert not any(peer.standbys for peer in views.peers(world.broker))


def test_nobody_is_told_twice(world, only):
    job = grown(world, world.training("peer_a"), "peer_b", "peer_c")
    world.reach_all(job)
    for peer in ("peer_d", "peer_e"):
        assert not only(world.connect(peer), do.StandBy)


def test_backups_learn_who_holds_the_segment_now(world):
    """They take snapshots from nobody else."""
    job = grown(world, world.training("peer_a", "peer_b"), "peer_c", "peer_d", "peer_e")
    world.reach_all(job)
    before = set(world.backups(job, 1))
    world.lose("peer_b")
    taker = world.tokens[job, 1][0]
    kept = before & set(world.backups(job, 1))
    assert kept, "somebody stood by before and still does"
    assert {world.duties[job, 1, peer].source for peer in kept} == {taker}


def test_a_peer_that_registers_is_told_again_and_of_nothing_old(world, only):
    job = grown(world, world.training("peer_a"), "peer_b")
    duty = world.duties[job, 0, "peer_b"]
    world.reach(job, 0, "peer_b", "hot")
    world.disconnect("peer_b")
    held = [ev.HeldStandby(job_id=job, segment=0, token=token, level=level)
            for token, level in ((duty.token, "warm"), (99, "hot"))]
    commands = world.connect("peer_b", standbys=tuple(held))
    assert [c.token for c in only(commands, do.StandBy)] == [duty.token]
    assert [c.token for c in only(commands, do.RevokeSegment)] == [99]
    assert views.backup_view(world.broker.state)[0].standbys == (("peer_b", "warm"),)


def test_a_process_that_is_new_begins_its_duties_again(world, only):
    job = grown(world, world.training("peer_a"), "peer_b")
    world.reach(job, 0, "peer_b", "hot")
    assert gap(world, job, 0) == ""
    world.disconnect("peer_b")
    (told,) = only(world.connect("peer_b"), do.StandBy)
    assert told.level == "hot"
    assert gap(world, job, 0) == "its backup is getting ready"


@pytest.mark.parametrize("wrong", [{"level": "boiling"}, {"token": 77}])
def test_nonsense_about_a_standby_is_noted(world, events, wrong):
    job = grown(world, world.training("peer_a"), "peer_b")
    values = {"token": world.duties[job, 0, "peer_b"].token, "level": "hot", **wrong}
    commands = world.report(ev.StandbyReady, job, 0, peer_id="peer_b", number=1, **values)
    assert "report_ignored" in events(commands)
    assert gap(world, job, 0) == "its backup is getting ready"


# --- who keeps snapshots -------------------------------------------------------------------------


def test_the_holder_gives_snapshots_to_those_that_are_ready_to_take_them(world, only):
    job = grown(world, world.training("peer_a"), "peer_b", "peer_c")
    (plan,) = only(world.reach(job, 0, "peer_c", "store"), do.PlanSnapshots)
    assert [(h.peer_id, h.address) for h in plan.holders] == [("peer_c", "peer_c:7000")]
    assert plan.peer_id == "peer_a"
    (plan,) = only(world.reach(job, 0, "peer_b", "store"), do.PlanSnapshots)
    assert [h.peer_id for h in plan.holders] == ["peer_b", "peer_c"]
    assert not only(world.reach(job, 0, "peer_b", "warm"), do.PlanSnapshots), "no news to it"
    (plan,) = only(world.disconnect("peer_c"), do.PlanSnapshots)
    assert [h.peer_id for h in plan.holders] == ["peer_b"]


def test_large_snapshots_are_shared_out_in_shards(world, only):
    world.start(shard_bytes=400, snapshot_holders=3)
    job = grown(world, world.training("peer_a"), "peer_b", "peer_c", "peer_d")
    world.reach_all(job)
    world.advance(job, 4)
    commands = world.store(job, 0, 4, "peer_b", size_bytes=401) + world.reach(
        job, 0, "peer_d", "store")
    plan = only(commands, do.PlanSnapshots)[-1]
    assert (plan.data_shards, [holder.shard for holder in plan.holders]) == (2, [0, 1, 2])


def test_small_snapshots_and_those_of_few_holders_are_kept_whole(world, only):
    world.start(shard_bytes=400, snapshot_holders=3)
    job = grown(world, world.training("peer_a"), "peer_b", "peer_c")
    world.advance(job, 4)
    world.reach_all(job)
    commands = world.store(job, 0, 4, "peer_b", size_bytes=401) + world.disconnect("peer_c")
    assert [plan.data_shards for plan in only(commands, do.PlanSnapshots)][-1] == 1


# --- what is lacking -----------------------------------------------------------------------------


def test_gaps_are_named(world):
    job = world.training("peer_a", "peer_b")
    assert gap(world, job, 0) == "no free peer can run it"
    world.connect("peer_c")
    assert gap(world, job, 0) == "its backup is getting ready"
    world.reach(job, 0, "peer_c", "store")
    assert gap(world, job, 0) == "its backup is getting ready"
    world.reach(job, 0, "peer_c", "warm")
    assert gap(world, job, 0) == ""
    assert gap(world, job, 1) == "its backup is getting ready"
    world.reach_all(job)
    world.complete(job, 4, "peer_c")
    assert gaps(world) == {(job, 0): "", (job, 1): ""}
    world.disconnect("peer_c")
    assert gap(world, job, 1) == "no live peer has its snapshot of position 4"


def test_a_backup_that_is_busy_covers_nothing(world):
    job = grown(world, world.training("peer_a"), "peer_b")
    world.reach_all(job)
    assert gap(world, job, 0) == ""
    world.training("peer_b")
    assert gap(world, job, 0) == "no free peer can run it"


def test_one_peer_covers_several_segments_until_it_is_needed(world):
    """What a second loss would find is told when the first has happened."""
    job = grown(world, world.training("peer_a", "peer_b"), "peer_c")
    world.reach_all(job)
    assert gaps(world) == {(job, 0): "", (job, 1): ""}
    world.lose("peer_b")
    assert gap(world, job, 0) == "no free peer can run it"
