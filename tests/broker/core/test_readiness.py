"""Backups that break or do not get ready: they rest, others step in, and they are asked again."""

from __future__ import annotations

import pytest

from broker.core import commands as do
from broker.core import events as ev
from broker.core import limits, views
from broker.core.leases import preparation_ms
from broker.core.state import Turn

REST_MS = limits.BACKUP_REST_MS


def prepare_ms(world):
    """What getting ready may take: the policy's time, and a little for the bytes."""
    state = world.broker.state
    (job,) = state.unfinished.values()
    found = preparation_ms(Turn(state), job)
    assert 600_000 < found < 601_000
    return found


def gap(world):
    return views.backup_view(world.broker.state)[0].gap


def pooled(world, *pool):
    job = world.training("peer_a")
    for peer in pool:
        world.connect(peer)
    return job


def told(only, commands, peer="peer_b"):
    return [c.level for c in only(commands, do.StandBy) if c.peer_id == peer]


def breaks(world, job, peer="peer_b", problem="its executor process died"):
    return world.reach(job, 0, peer, "store", problem=problem)


def test_a_backup_that_broke_rests_and_the_gap_says_why(world, only, events):
    job = pooled(world, "peer_b")
    world.reach(job, 0, "peer_b", "hot")
    assert gap(world) == ""
    commands = breaks(world, job)
    assert told(only, commands) == ["store"], "it goes on as a keeper of snapshots"
    assert "backup_broke" in events(commands)
    assert gap(world) == (
        "its backup PEER_B (peer_b) is asked again later: its executor process died")


def test_it_is_asked_again_after_its_rest_and_covers_again(world, only):
    job = pooled(world, "peer_b")
    world.reach(job, 0, "peer_b", "hot")
    breaks(world, job)
    assert not told(only, world.sleep(REST_MS - 1, *world.there()))
    assert told(only, world.sleep(1, *world.there())) == ["hot"]
    assert gap(world) == "its backup is getting ready"
    world.reach(job, 0, "peer_b", "warm")
    assert gap(world) == ""


def test_another_steps_in_at_once(world):
    job = pooled(world, "peer_b", "peer_c", "peer_d")
    world.reach_all(job)
    assert world.backups(job, 0) == {"peer_b": "hot", "peer_c": "hot"}
    breaks(world, job)
    assert world.backups(job, 0) == {"peer_b": "store", "peer_c": "hot", "peer_d": "hot"}
    world.sleep(REST_MS, *world.there())
    assert world.backups(job, 0)["peer_b"] == "store", "its place is taken by now"


def test_pauses_grow_up_to_a_limit(world, only):
    job = pooled(world, "peer_b")
    pauses = []
    for _ in range(8):
        breaks(world, job)
        start_ns = world.now_ns
        while not told(only, world.sleep(1_000, *world.there())):
            pass
        pauses.append((world.now_ns - start_ns) // 10**6)
        world.reach(job, 0, "peer_b", "hot")
    assert pauses[:3] == [REST_MS, 2 * REST_MS, 4 * REST_MS]
    assert pauses[-1] == limits.BACKUP_REST_MAX_MS


def test_a_backup_that_never_gets_ready_rests_too(world, only):
    """It says nothing of what is wrong, or its peer is of an older release."""
    job = pooled(world, "peer_b")
    world.reach(job, 0, "peer_b", "store")
    assert not told(only, world.sleep(prepare_ms(world) - 1, *world.there()))
    assert told(only, world.sleep(1, *world.there())) == ["store"]
    assert gap(world).endswith("it was not ready within 600 s")
    assert told(only, world.sleep(REST_MS, *world.there())) == ["hot"]


def test_one_that_was_ready_gets_its_time_again_when_it_falls_back(world, only):
    job = pooled(world, "peer_b")
    world.sleep(prepare_ms(world) // 2, *world.there())
    world.reach(job, 0, "peer_b", "hot")
    late = told(only, world.sleep(prepare_ms(world), *world.there()))
    assert not late, "a ready one has no deadline"
    world.reach(job, 0, "peer_b", "store")
    assert not told(only, world.sleep(prepare_ms(world) - 1, *world.there()))
    assert told(only, world.sleep(1, *world.there())) == ["store"]


def test_a_new_process_of_the_peer_begins_anew(world, only):
    job = pooled(world, "peer_b")
    world.sleep(prepare_ms(world) // 2, *world.there())
    world.disconnect("peer_b")
    assert told(only, world.connect("peer_b")) == ["hot"]
    assert not told(only, world.sleep(prepare_ms(world) - 1, *world.there()))
    world.reach(job, 0, "peer_b", "hot")
    assert gap(world) == ""


def test_a_resting_peer_that_registers_goes_on_resting(world, only):
    job = pooled(world, "peer_b")
    breaks(world, job)
    world.disconnect("peer_b")
    held = ev.HeldStandby(job_id=job, segment=0, token=world.duties[job, 0, "peer_b"].token,
                          level="store")
    assert told(only, world.connect("peer_b", standbys=(held,))) == ["store"]
    assert told(only, world.sleep(REST_MS, *world.there())) == ["hot"]


def test_a_word_of_trouble_said_twice_counts_once(world):
    """A duty said again is answered by what is the matter, which may be known."""
    job = pooled(world, "peer_b")
    breaks(world, job)
    until_ns = world.broker.next_wakeup_ns()
    breaks(world, job)
    assert world.broker.next_wakeup_ns() == until_ns


@pytest.mark.parametrize("level", ["warm", "hot"])
def test_who_is_ready_has_not_broken_whatever_it_says(world, level):
    job = pooled(world, "peer_b")
    world.reach(job, 0, "peer_b", level, problem="a scratch")
    assert gap(world) == ""


def test_a_resting_backup_takes_over_where_nobody_else_is(world, only):
    """Better a start of its process during the takeover than a job that waits."""
    job = pooled(world, "peer_b")
    breaks(world, job)
    (assigned,) = only(world.lose("peer_a"), do.AssignSegment)
    assert assigned.peer_id == "peer_b"
    world.report(ev.SegmentReady, job, 0)
    world.sleep(10 * REST_MS, *world.there())
    assert world.state_of(job) == "running"


def test_a_resting_peer_may_back_up_another_segment(world):
    job = world.training("peer_a", "peer_b")
    world.connect("peer_c")
    breaks(world, job, "peer_c")
    assert world.backups(job, 0)["peer_c"] == "store"
    assert world.backups(job, 1)["peer_c"] in ("warm", "hot")
