"""What a job without a result leaves: who is asked for it, what is believed, when it is over."""

from __future__ import annotations

from math import nan

import pytest

from broker.core import blob_rights, limits, views
from broker.core import commands as do
from broker.core import events as ev
from broker.core.machine import Broker


@pytest.fixture
def job(world):
    """Runs on peer_a and peer_b, at step 9; peer_c and peer_d have both segments at 4 and 8."""
    job = world.training("peer_a", "peer_b")
    for peer in ("peer_c", "peer_d"):
        world.connect(peer)
    for at in (4, 8):
        world.complete(job, at, "peer_c", "peer_d")
    world.advance(job, 9)
    return job


def cancel(world, job):
    return world.apply(ev.CancelRequested, request_id="r", job_id=job, by="client_a")


def asked(commands):
    return [(c.peer_id, c.serial, c.position) for c in commands if isinstance(c, do.StorePiece)]


def piece(world, job, serial, peer="peer_c", **changes):
    stored = {"digest": f"{serial + 1:064x}", "size_bytes": 300}
    return world.apply(ev.PieceStored, **{
        "peer_id": peer, "job_id": job, "serial": serial, "position": 8, **stored, **changes})


def left(world, job):
    return views.job(world.broker, job).partial


def test_holders_are_asked_and_devices_are_free_at_once(world, job, only):
    commands = cancel(world, job)
    assert asked(commands) == [("peer_c", 0, 8), ("peer_c", 1, 8)]
    assert {c.peer_id for c in only(commands, do.RevokeSegment)} >= {"peer_a", "peer_b"}
    assert (left(world, job).position, left(world, job).stored) == (8, 0)
    assert left(world, job).until_ns > world.now_ns
    for serial in (0, 1):
        assert blob_rights.may_write_blob(world.broker, "peer_c", 300)
        piece(world, job, serial)
    done = left(world, job)
    assert (done.stored, done.pieces, done.until_ns, done.missing) == (2, 2, 0, ())
    parts = views.partial_result(world.broker, job)
    assert [(part.segment, part.digest) for part in parts] == [(0, f"{1:064x}"), (1, f"{2:064x}")]
    assert world.broker.next_wakeup_ns() is None or not world.broker.state.collecting


def test_who_may_touch_the_pieces(world, job):
    assert not blob_rights.may_write_blob(world.broker, "peer_c", 300)
    cancel(world, job)
    most = world.broker.state.jobs[job].partial.pieces[0].bytes_max
    assert blob_rights.may_write_blob(world.broker, "peer_c", most)
    assert not blob_rights.may_write_blob(world.broker, "peer_c", most + 1)
    assert not blob_rights.may_write_blob(world.broker, "peer_d", 1), "it was not asked"
    piece(world, job, 0)
    assert blob_rights.may_read_blob(world.broker, "client_a", f"{1:064x}")
    assert not blob_rights.may_read_blob(world.broker, "client_b", f"{1:064x}")
    piece(world, job, 1)
    assert not blob_rights.may_write_blob(world.broker, "peer_c", 1), "all is here"


def test_the_next_holder_is_asked_when_one_cannot_or_is_gone(world, job):
    cancel(world, job)
    assert asked(piece(world, job, 0, problem="its disk says: no", digest="")) == [
        ("peer_d", 0, 8)]
    assert asked(world.disconnect("peer_c")) == [("peer_d", 1, 8)]
    piece(world, job, 0, "peer_d")
    piece(world, job, 1, "peer_d")
    assert left(world, job).stored == 2


def test_one_that_comes_back_is_asked_again(world, job):
    world.lose("peer_d")
    cancel(world, job)
    assert asked(world.disconnect("peer_c")) == []
    assert asked(world.connect("peer_c")) == [("peer_c", 0, 8), ("peer_c", 1, 8)]
    piece(world, job, 0)
    assert asked(world.connect("peer_c")) == [("peer_c", 1, 8)], "a new session heard nothing"


def test_collecting_ends_with_the_reasons(world, job):
    cancel(world, job)
    for peer in ("peer_c", "peer_d"):
        piece(world, job, 0, peer, problem="no disk", digest="")
    piece(world, job, 1)
    over = left(world, job)
    assert (over.stored, over.until_ns) == (1, 0), "nobody is left to ask"
    assert over.missing == (
        "segment 0: PEER_C (peer_c): no disk; PEER_D (peer_d): no disk",)


def test_nothing_is_waited_for_beyond_the_deadline(world, job):
    cancel(world, job)
    piece(world, job, 0)
    world.sleep(limits.PARTIAL_TIMEOUT_MS + 60_000, *world.there())
    assert left(world, job).missing == (
        "segment 1: PEER_C (peer_c) has not sent it in time",)
    piece(world, job, 1)
    assert left(world, job).stored == 1, "too late"


def test_a_holder_that_is_away_is_named(world, job):
    world.lose("peer_c", "peer_d")
    cancel(world, job)
    world.sleep(limits.PARTIAL_TIMEOUT_MS + 60_000, *world.there())
    assert left(world, job).missing[0] == (
        "segment 0: nobody who has it is connected: PEER_C (peer_c), PEER_D (peer_d)")


@pytest.mark.parametrize("changes", [
    {"peer": "peer_d"}, {"serial": 7}, {"position": 4}, {"job_id": "job_000099"}])
def test_what_nobody_was_asked_for_changes_nothing(world, job, changes):
    cancel(world, job)
    piece(world, job, **{"serial": 0, **changes})
    assert left(world, job).stored == 0
    assert asked(world.beat()) == []


@pytest.mark.parametrize("changes", [{"digest": "zz"}, {"size_bytes": 0}, {"size_bytes": 1 << 40}])
def test_an_impossible_piece_is_not_believed(world, job, changes):
    cancel(world, job)
    assert asked(piece(world, job, 0, **changes)) == [("peer_d", 0, 8)]
    assert left(world, job).stored == 0


def test_after_a_loss_that_is_not_finite_what_made_it_is_not_taken(world, job):
    """The state of step 8 gave the loss that is not finite if it came at step 8."""
    world.complete(job, 12, "peer_c", "peer_d")
    commands = world.steps(job, 1, 12, losses=(nan,))
    assert world.state_of(job) == "failed"
    assert asked(commands) == [("peer_c", 0, 8), ("peer_c", 1, 8)]


def test_a_failed_job_leaves_its_newest_position(world, job):
    commands = world.steps(job, 1, 9, losses=(nan,))
    assert asked(commands) == [("peer_c", 0, 8), ("peer_c", 1, 8)], "loss 8 was finite"


def test_own_disks_count_though_no_position_was_complete(world):
    job = world.training("peer_a", "peer_b")
    world.connect("peer_c")
    world.advance(job, 4)
    for segment, peer in enumerate(("peer_a", "peer_b")):
        world.store(job, segment, 4, peer)
    assert asked(cancel(world, job)) == [("peer_a", 0, 4), ("peer_b", 1, 4)]


def test_shards_are_gathered_by_one_who_has_one(world):
    job = world.training("peer_a")
    for peer in ("peer_b", "peer_c"):
        world.connect(peer)
    world.advance(job, 4)
    for shard, peer in enumerate(("peer_b", "peer_c")):
        world.store(job, 0, 4, peer, shard=shard, data_shards=2)
    world.lose("peer_a")
    command = next(c for c in cancel(world, job) if isinstance(c, do.StorePiece))
    assert command.source.data_shards == 2
    assert [holder.shard for holder in command.source.holders] == [0, 1]


def test_a_machine_that_its_owner_took_back_is_asked_last(world, job):
    world.apply(ev.AvailabilityChanged, peer_id="peer_c", availability="paused", deadline_ms=0)
    assert {peer for peer, *_ in asked(cancel(world, job))} == {"peer_d"}


def test_a_job_without_a_snapshot_of_all_segments_leaves_nothing(world):
    job = world.training("peer_a", "peer_b")
    world.advance(job, 4)
    world.store(job, 0, 4, "peer_a")
    assert asked(cancel(world, job)) == []
    assert left(world, job) is None


def test_success_leaves_a_result_and_nothing_else(world):
    job = world.running("peer_a")
    world.steps(job, 0, 0, 3)
    world.store(job, 0, 2, "peer_a")
    world.finish(job, 0)
    assert left(world, job) is None


def test_a_restarted_broker_asks_again_and_waits_as_long_as_before(world, job):
    cancel(world, job)
    before = left(world, job).until_ns
    replayed = Broker()
    for event in world.journal:
        replayed.apply(event)
    world.broker = replayed
    world.now_ns += 3_600 * 10**9
    world.start()
    assert left(world, job).until_ns == before + 3_600 * 10**9
    assert asked(world.connect("peer_d")) == [("peer_d", 0, 8), ("peer_d", 1, 8)]
