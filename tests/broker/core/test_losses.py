"""Peers and links that are gone: finished segments' logs, neighbours out of reach, killed peers."""

from __future__ import annotations

import pytest

from broker.core import commands as do
from broker.core import events as ev
from broker.core import limits, views

PATIENCE_MS = limits.LINK_GRACE_MS


def finished(world, make, steps=20):
    """Segment 0 of two has finished; segment 1 has steps to do. Backups are ready."""
    job = world.running("peer_a", "peer_b", spec=make.spec(training={"steps": steps}), linked=True)
    world.connect("peer_c")
    world.reach_all(job)
    world.steps(job, 0, 0, steps)
    world.finish(job, 0)
    return job


def miss(world, job, segment, neighbour, code="UNREACHABLE", blamed=""):
    peer = blamed or world.tokens[job, neighbour][0]
    return world.report(ev.NeighbourLost, job, segment, neighbour=neighbour, blamed_peer=peer,
                        code=code, message="connection refused")


def vacant(only, commands):
    return [note.text for note in only(commands, do.Note) if note.event == "segment_vacant"]


# --- finished segments ---------------------------------------------------------------------------


def test_a_finished_segments_log_is_not_missed_while_its_neighbours_go_on(world, only, make):
    job = finished(world, make)
    commands = world.disconnect("peer_a") + world.sleep(6_000, "peer_b", "peer_c")
    for step in range(5):
        world.steps(job, 1, step)
        commands += world.sleep(PATIENCE_MS, "peer_b", "peer_c")
    assert not vacant(only, commands)
    assert world.state_of(job) == "running"
    world.steps(job, 1, 5, 15)
    world.finish(job, 1)
    assert world.state_of(job) == "succeeded", "its result had been stored"
    assert [part.segment for part in views.result(world.broker, job)] == [0, 1]


def test_a_neighbour_that_is_stuck_without_the_log_gets_it_again(world, only, make):
    job = finished(world, make)
    world.steps(job, 1, 0, 5)
    world.disconnect("peer_a")
    commands = world.sleep(1_000 + PATIENCE_MS, "peer_b", "peer_c")
    assert world.state_of(job) == "running", "it may have all that it needs"
    commands = world.sleep(4_000, "peer_b", "peer_c")
    assert vacant(only, commands) == [
        "Segment 0 is vacant: a neighbour seems to lack something that its lost log had."]
    (assigned,) = only(commands, do.AssignSegment)
    assert (assigned.segment.index, assigned.peer_id, assigned.position) == (0, "peer_c", 0)


def test_it_is_done_again_at_once_where_a_neighbour_replays(world, only, make):
    """In either order: its log is lost during the neighbour's takeover, or was lost before."""
    job = finished(world, make)
    world.connect("peer_d")
    world.reach_all(job)
    world.steps(job, 1, 0, 5)
    world.lose("peer_b")
    assert world.state_of(job) == "recovering"
    commands = world.lose("peer_a")
    assert "boundary log is needed for a replay" in vacant(only, commands)[0]
    assert {c.segment.index for c in only(commands, do.AssignSegment)} == {0}


def test_it_is_done_again_when_a_neighbour_is_lost_later(world, only, make):
    job = finished(world, make)
    world.connect("peer_d")
    world.reach_all(job)
    world.steps(job, 1, 0, 5)
    world.disconnect("peer_a")
    world.sleep(1_000, "peer_b", "peer_c", "peer_d")
    world.steps(job, 1, 5)
    commands = world.lose("peer_b")
    assert {c.segment.index for c in only(commands, do.AssignSegment)} == {0, 1}


def test_segments_that_do_not_exchange_anything_are_left_alone(world, only, make):
    job = world.running("peer_a", "peer_b", spec=make.spec(training={"steps": 20}))
    world.connect("peer_c")
    world.steps(job, 0, 0, 20)
    world.finish(job, 0)
    world.lose("peer_a")
    (assigned,) = only(world.lose("peer_b"), do.AssignSegment)
    assert assigned.segment.index == 1, "segment 0 stays finished"
    assert world.broker.state.jobs[job].leases[0].phase == "finished"


def test_with_clipping_everybody_needs_the_leads_log(world, only, make):
    spec = make.spec(training={"steps": 20, "clip_norm": 1.0})
    job = world.running("peer_a", "peer_b", spec=spec)
    for peer in ("peer_c", "peer_d"):
        world.connect(peer)
    world.steps(job, 0, 0, 20)
    world.finish(job, 0)
    world.disconnect("peer_a")
    world.sleep(6_000, *world.there())
    assigned = only(world.lose("peer_b"), do.AssignSegment)
    assert {c.segment.index for c in assigned} == {0, 1}


def test_a_finished_peer_whose_process_is_new_has_lost_its_log(world, events, make):
    job = finished(world, make)
    world.disconnect("peer_a")
    assert "peer_lost" in events(world.connect("peer_a"))
    assert world.state_of(job) == "running"
    assert not views.peer(world.broker, "peer_a").leases, "it may be given something else"


# --- links ---------------------------------------------------------------------------------------


def chain(world, *pool):
    """Three segments; backups in the pool are ready."""
    job = world.training("peer_a", "peer_b", "peer_c")
    for peer in pool:
        world.connect(peer)
    world.reach_all(job)
    return job


def test_two_that_cannot_reach_each_other_get_some_time_then_one_moves(world, only):
    job = chain(world, "peer_d")
    commands = miss(world, job, 0, 1)
    commands += world.sleep(PATIENCE_MS - 1, *world.there())
    assert not vacant(only, commands)
    commands = world.sleep(1, *world.there())
    assert vacant(only, commands) == [
        "Segment 1 is vacant: segments 0 and 1 cannot reach each other."]
    (assigned,) = only(commands, do.AssignSegment)
    assert assigned.peer_id == "peer_d"


@pytest.mark.parametrize("who", ["reports", "moves on"])
def test_a_segment_that_comes_further_has_found_its_neighbour(world, only, who):
    job = chain(world, "peer_d")
    miss(world, job, 0, 1)
    world.sleep(PATIENCE_MS - 1, *world.there())
    world.steps(job, 0, 0)
    commands = world.sleep(10 * PATIENCE_MS, *world.there())
    assert not vacant(only, commands)
    assert world.state_of(job) == "running"


def test_the_one_that_is_in_more_troubles_is_replaced(world, only):
    job = chain(world, "peer_d")
    miss(world, job, 1, 0)
    miss(world, job, 2, 1)
    commands = world.sleep(PATIENCE_MS, *world.there())
    assert [c.segment.index for c in only(commands, do.AssignSegment)] == [1]


def test_without_a_backup_they_go_on_trying(world, only):
    job = chain(world)
    miss(world, job, 0, 1)
    world.sleep(5 * PATIENCE_MS, *world.there())
    assert world.state_of(job) == "running", "moving would cure nothing"
    world.connect("peer_d")
    world.reach_all(job)
    commands = world.sleep(PATIENCE_MS, *world.there())
    assert [c.segment.index for c in only(commands, do.AssignSegment)] == [1]


def test_long_steps_get_longer(world, only, make):
    spec = make.spec(training={"steps": 1_000})
    job = world.running("peer_a", "peer_b", spec=spec, linked=True)
    world.connect("peer_d")
    world.reach_all(job)
    for step in range(limits.PACE_STEPS):
        world.sleep(60_000, *world.there())
        world.steps(job, 0, step)
        world.steps(job, 1, step)
    miss(world, job, 0, 1)
    assert not vacant(only, world.sleep(119_999, *world.there()))
    assert vacant(only, world.sleep(1, *world.there())), "two steps of a minute each"


@pytest.mark.parametrize("wrong", [
    {"neighbour": 7, "blamed": "peer_b"}, {"neighbour": -1, "blamed": "peer_b"},
    {"neighbour": 1, "blamed": "peer_c"}, {"neighbour": 1, "blamed": "peer_unknown"}])
def test_who_is_no_neighbour_any_more_is_not_missed(world, only, wrong):
    job = chain(world, "peer_d")
    commands = miss(world, job, 0, **wrong)
    commands += world.sleep(3 * PATIENCE_MS, *world.there())
    assert not vacant(only, commands)


# --- killed --------------------------------------------------------------------------------------


@pytest.mark.parametrize("first", ["stream", "neighbour"])
def test_a_peer_that_broker_and_neighbour_lose_together_is_lost_at_once(world, only, first):
    """In either order, and though no backup is ready: waiting for it would be in vain."""
    job = world.training("peer_a", "peer_b")
    if first == "stream":
        world.disconnect("peer_b")
        miss(world, job, 0, 1)
    else:
        miss(world, job, 0, 1)
        world.disconnect("peer_b")
    assert views.peer(world.broker, "peer_b").state == "lost"
    assert views.peer(world.broker, "peer_b").trouble == (
        "closed its streams to the broker and to a neighbour at once")
    assert world.state_of(job) == "recovering"


def test_old_trouble_does_not_condemn_a_peer_whose_stream_closes(world):
    """The neighbour has come further since it missed it."""
    job = world.training("peer_a", "peer_b")
    miss(world, job, 0, 1)
    world.steps(job, 0, 0)
    world.disconnect("peer_b")
    assert views.peer(world.broker, "peer_b").state == "suspect"


def test_a_peer_that_is_silent_but_connected_is_not_lost_by_a_neighbours_word(world):
    job = world.training("peer_a", "peer_b")
    world.sleep(8_500, "peer_a")
    assert views.peer(world.broker, "peer_b").state == "suspect"
    miss(world, job, 0, 1)
    assert views.peer(world.broker, "peer_b").state == "suspect"


def test_before_the_start_a_lost_peer_means_planning_again(world, only):
    job = world.prepared("peer_a", "peer_b")
    commands = world.lose("peer_b")
    assert [c.peer_id for c in only(commands, do.RevokeSegment)] == ["peer_a"]
    assert world.state_of(job) == "submitted", "nothing of it has run yet"
    commands = world.report(ev.SegmentReleased, job, 0)
    assert [c.job_id for c in only(commands, do.SolvePlacement)] == [job]


def test_losses_are_counted_for_whoever_had_them(world):
    job = world.training("peer_a", "peer_b")
    world.connect("peer_c")
    world.lose("peer_b")
    world.report(ev.SegmentReady, job, 1)
    assert {name: peer.losses for name, peer in world.broker.state.peers.items()} == {
        "peer_a": 0, "peer_b": 1, "peer_c": 0}
