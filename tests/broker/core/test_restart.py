"""A broker that was away for long: no wait for somebody's word has run out meanwhile."""

from __future__ import annotations

from broker.core import commands as do
from broker.core import events as ev

HOUR_MS = 3_600_000
MS = 1_000_000


def come_back(world, *, after_ms=HOUR_MS):
    """The broker starts again; timers that were due fire as soon as it has."""
    world.now_ns += after_ms * MS
    return (*world.start(), *world.take(world.broker.timer(world.now_ns)))


def notes(only, commands):
    return [note.event for note in only(commands, do.Note)]


def test_a_job_that_gets_ready_has_the_time_that_was_left(world):
    job = world.prepared("peer_a", "peer_b")
    deadline_ns = world.broker.state.jobs[job].deadline_ns
    come_back(world)
    assert world.state_of(job) == "preparing"
    assert world.broker.state.jobs[job].deadline_ns == deadline_ns + HOUR_MS * MS
    for segment, peer in enumerate(("peer_a", "peer_b")):
        world.connect(peer, world.held(job, segment, "assigned"))
    world.sleep((deadline_ns - world.broker.state.now_ns) // MS + HOUR_MS, "peer_a", "peer_b")
    assert world.state_of(job) == "failed", "the time that was left has passed since"


def test_a_backup_that_gets_ready_is_not_taken_for_broken(world, only):
    job = world.training("peer_a", "peer_b")
    world.connect("peer_c")
    assert world.backups(job, 0)["peer_c"] == "hot"
    standby, = (one for one in world.broker.state.peers["peer_c"].standbys.values()
                if one.job_id == job and one.index == 0)
    deadline_ns = standby.deadline_ns
    assert "backup_broke" not in notes(only, come_back(world))
    assert standby.deadline_ns == deadline_ns + HOUR_MS * MS


def test_a_peer_that_takes_a_segment_over_is_not_given_up_for_it(world, only):
    job = world.training_with_backups()
    world.lose("peer_a")
    lease = world.broker.state.jobs[job].leases[0]
    assert (lease.phase, lease.peer_id) == ("assigned", "peer_c")
    come_back(world)
    world.connect("peer_c", world.held(job, 0, "assigned"))
    commands = world.sleep(1_000, "peer_c")
    assert "segment_vacant" not in notes(only, commands)
    assert world.broker.state.jobs[job].leases[0] is lease


def test_a_segment_that_lacks_a_neighbour_is_not_judged_for_the_time_away(world):
    job = world.training_with_backups()
    world.report(
        ev.NeighbourLost, job, 1, neighbour=0, blamed_peer="peer_a", code="UNREACHABLE",
        message="no stream")
    trouble = world.broker.state.jobs[job].leases[1].trouble
    come_back(world)
    after = world.broker.state.jobs[job].leases[1].trouble
    assert after.deadline_ns == trouble.deadline_ns + HOUR_MS * MS


def test_what_an_operator_was_promised_stays(world):
    world.training_with_backups()
    world.apply(
        ev.DrainRequested, request_id=world.request(), peer_id="peer_c", by="op",
        deadline_ms=60_000, undo=False)
    deadline_ns = world.broker.state.peers["peer_c"].operator_deadline_ns
    come_back(world, after_ms=30_000)
    assert world.broker.state.peers["peer_c"].operator_deadline_ns == deadline_ns
