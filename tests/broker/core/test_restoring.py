"""A journal that was put back from a copy: nothing given out since is given out again."""

from __future__ import annotations

import pytest

from broker.core import commands as do
from broker.core import events as ev
from broker.core import views
from broker.core.digest import difference
from broker.core.event_log import LineFilter
from broker.core.limits import RESTORED_JOBS, RESTORED_TOKENS
from broker.core.machine import Broker

HOUR_NS = 3_600 * 10**9


def restore(world):
    """The broker's process ended; days later the journal as it is here is put back and served.

    Returns what each peer holds: nobody has told them anything meanwhile.
    """
    held = {}
    for (job, segment), (peer, _) in world.tokens.items():
        held.setdefault(peer, []).append(world.held(job, segment))
    copied_at_ns = world.now_ns
    world.now_ns += 50 * HOUR_NS
    world.apply(ev.JournalRestored, by="operator_1", reason="the disk died",
                copied_at_ns=copied_at_ns)
    world.start()
    return held


def back(world, held, *peers, snapshots=()):
    """Peers come back with what they hold and have on disk; each command that they get."""
    return [command for peer in peers
            for command in world.connect(peer, *held.get(peer, ()), snapshots=tuple(snapshots))]


def on_disk(make, job, position):
    return [ev.HeldSnapshot(job_id=job, segment=segment, position=position, size_bytes=500,
                            digest=make.digest(1_000 * (segment + 1) + position))
            for segment in (0, 1)]


def test_a_job_goes_on_at_its_snapshot_under_tokens_that_nobody_has_seen(world, only, make):
    job = world.training_with_backups()
    world.advance(job, 7)
    before = world.broker.state.last_token
    held = restore(world)
    assert world.broker.state.last_token >= before + RESTORED_TOKENS
    commands = back(world, held, "peer_a", "peer_b", "peer_c", "peer_d",
                    snapshots=on_disk(make, job, 4))
    revoked = {(each.peer_id, each.segment) for each in only(commands, do.RevokeSegment)}
    assert {("peer_a", 0), ("peer_b", 1)} <= revoked, "what they still hold is not theirs any more"
    assigned = {each.segment.index: each for each in only(commands, do.AssignSegment)}
    assert {each.position for each in assigned.values()} == {4}
    assert set(assigned) == {0, 1}
    assert min(each.token for each in assigned.values()) > before + RESTORED_TOKENS


def test_a_job_whose_snapshots_have_moved_on_begins_again(world, only, make):
    """The copy knows of position 4; by now everybody has thrown that away."""
    job = world.training_with_backups()
    peers = ("peer_a", "peer_b", "peer_c", "peer_d")
    commands = back(world, restore(world), *peers, snapshots=on_disk(make, job, 9))
    assert not only(commands, do.AssignSegment)
    assert "or else all segments restart at 0" in world.reason(job)
    back(world, {}, *peers, snapshots=on_disk(make, job, 9))  # they hold nothing any more
    commands = world.sleep(3_600_000, *peers)
    assert {each.position for each in only(commands, do.AssignSegment)} == {0}


def test_no_wait_has_run_out_while_the_copy_lay_there(world):
    job = world.prepared("peer_a", "peer_b")
    restore(world)
    world.take(world.broker.timer(world.now_ns))
    assert views.job(world.broker, job).state == "submitted", "it is planned again"


def test_job_numbers_are_not_given_out_again(world):
    world.submit()
    restore(world)
    world.submit()
    first, second = world.broker.state.jobs
    assert (first, second) == ("job_000001", f"job_{RESTORED_JOBS + 2:06d}")


def test_no_key_of_the_copy_works_any_more(world, only):
    world.apply(ev.KeyCreated, request_id="r", key_id="key_1", secret_hash="h", role="peer",
                reusable=True, expires_at_ns=world.now_ns + 100 * HOUR_NS)
    restore(world)
    (answer,) = only(world.apply(
        ev.EnrolmentRequested, request_id="r", key_id="key_1", secret_hash="h", name="n",
        new_id="x1"), do.Reject)
    assert answer.code == "WRONG_KEY"


def test_it_is_told_and_audited(world):
    world.training("peer_a")
    restore(world)
    (entry,) = world.broker.audit.newest(10)
    assert (entry.action, entry.by, entry.reason, entry.details) == (
        "db restore", "operator_1", "the disk died", "from a copy that was 50.0 h old")
    assert any(line.kind == "journal_restored" and "the disk died" in line.text
               for line in world.broker.events.newest(LineFilter(), 50))


@pytest.mark.parametrize("moment", ["started", "recovering", "finishing"])
def test_whatever_a_job_is_at_it_survives(world, moment):
    """The invariants are checked after each event."""
    job = world.training_with_backups()
    if moment == "recovering":
        world.lose("peer_a", "peer_c", "peer_d")
    if moment == "finishing":
        world.advance(job, 1_000)
        world.finish(job, 0)
    back(world, restore(world), "peer_a", "peer_b", "peer_c", "peer_d")
    assert views.job(world.broker, job).state == "recovering"


def test_a_replay_gives_the_same(world):
    world.training_with_backups()
    restore(world)
    core = Broker()
    for event in world.journal:
        core.apply(event)
    assert difference(world.broker, core) == ""
