"""How long a peer has to come back: by what it holds, and by how many are silent with it."""

from __future__ import annotations

import pytest

from broker.core import commands as do
from broker.core import events as ev
from broker.core import views


def states(world):
    return {peer.peer_id: peer.state for peer in views.peers(world.broker)}


def grace_ms(world, peer):
    """Time that a peer was given when its stream closed."""
    before = world.now_ns
    world.disconnect(peer)
    return (world.broker.state.peers[peer].deadline_ns - before) // 10**6


def pooled(world, *pool):
    job = world.training("peer_a", "peer_b")
    for peer in pool:
        world.connect(peer)
    return job


# --- the grace -----------------------------------------------------------------------------------


def test_a_peer_that_holds_nothing_has_the_usual_time(world):
    world.connect("peer_a")
    assert grace_ms(world, "peer_a") == 5_000


def test_it_is_short_where_a_backup_is_ready(world):
    job = pooled(world, "peer_c")
    world.reach_all(job)
    assert grace_ms(world, "peer_b") == 1_000


@pytest.mark.parametrize("level", ["", "store"])
def test_a_backup_that_is_not_ready_does_not_shorten_it(world, level):
    job = pooled(world, "peer_c")
    if level:
        world.reach(job, 1, "peer_c", level)
    assert grace_ms(world, "peer_b") == 5_000


def test_nor_does_one_without_a_snapshot_to_restart_from(world):
    job = pooled(world, "peer_c")
    world.reach_all(job)
    world.complete(job, 4, "peer_c")
    world.connect("peer_c", standbys=tuple(
        ev.HeldStandby(job_id=job, segment=segment, level="hot",
                       token=world.duties[job, segment, "peer_c"].token) for segment in (0, 1)))
    assert grace_ms(world, "peer_b") == 5_000


def test_before_the_start_it_is_the_usual_one(world):
    world.connect("peer_c")
    world.prepared("peer_a", "peer_b")
    assert grace_ms(world, "peer_b") == 5_000


def test_silence_is_given_the_same_grace(world):
    job = pooled(world, "peer_c")
    world.reach_all(job)
    world.sleep(9_000, "peer_a", "peer_c")
    assert states(world)["peer_b"] == "lost"
    assert "did not come back within 1 s" in views.peer(world.broker, "peer_b").trouble
    assert world.state_of(job) == "recovering"


# --- the brake -----------------------------------------------------------------------------------


def close(world, *peers):
    for peer in peers:
        world.disconnect(peer)


def test_when_most_are_silent_at_once_nobody_is_given_up_for_longer(world, events):
    for peer in ("peer_a", "peer_b", "peer_c", "peer_d"):
        world.connect(peer)
    close(world, "peer_a", "peer_b", "peer_c")
    commands = world.sleep(19_999, "peer_d")
    assert "mass_loss_brake" in events(commands)
    assert list(states(world).values()) == ["suspect"] * 3 + ["live"]
    commands = world.sleep(1, "peer_d")
    assert list(states(world).values()) == ["lost"] * 3 + ["live"]


def test_the_jobs_go_on_when_they_come_back_within_the_brake(world):
    job = world.training("peer_a", "peer_b", "peer_c")
    tokens = dict(world.tokens)
    held = [world.held(job, segment) for segment in range(3)]
    close(world, "peer_a", "peer_b", "peer_c")
    world.sleep(15_000)
    for peer, lease in zip(("peer_a", "peer_b", "peer_c"), held, strict=True):
        world.connect(peer, lease)
    world.sleep(60_000, *world.there())
    assert (world.state_of(job), world.tokens) == ("running", tokens)


@pytest.mark.parametrize(
    ("silent", "others", "is_braked"),
    [
        (2, 0, False),  # fewer than three are no mass
        (3, 0, True),
        (3, 3, True),  # half of all
        (3, 4, False),  # fewer than half
        (4, 4, True),
    ],
)
def test_it_takes_three_peers_and_half_of_all(world, silent, others, is_braked):
    quiet = [f"peer_{number}" for number in range(silent)]
    there = [f"peer_{number}" for number in range(silent, silent + others)]
    for peer in (*quiet, *there):
        world.connect(peer)
    close(world, *quiet)
    world.sleep(5_000, *there)
    assert {states(world)[peer] for peer in quiet} == {"suspect" if is_braked else "lost"}


def test_peers_lost_long_ago_do_not_count(world):
    for number in range(8):
        world.connect(f"peer_{number}")
    there = [f"peer_{number}" for number in range(2, 8)]
    close(world, "peer_0")
    world.sleep(6_000, "peer_1", *there)
    close(world, "peer_1")
    world.sleep(6_000, *there)
    close(world, "peer_2")
    world.sleep(6_000, *there[1:])
    assert [states(world)[f"peer_{number}"] for number in range(3)] == ["lost"] * 3


def test_silence_on_open_streams_is_braked_like_closed_streams(world):
    for peer in ("peer_a", "peer_b", "peer_c"):
        world.connect(peer)
    world.sleep(8_000 + 19_999)
    assert set(states(world).values()) == {"suspect"}
    commands = world.sleep(1)
    assert set(states(world).values()) == {"lost"}
    ended = [c.code for c in commands if isinstance(c, do.DisconnectPeer)]
    assert ended == ["TIMED_OUT"] * 3


def test_even_peers_that_were_killed_by_a_neighbours_word_are_braked(world):
    """A whole site without power looks like that too: everybody has lost everybody."""
    job = world.training("peer_a", "peer_b", "peer_c", "peer_d")
    close(world, "peer_a", "peer_b", "peer_c")
    world.report(ev.NeighbourLost, job, 3, neighbour=2, blamed_peer="peer_c", code="UNREACHABLE",
                 message="m")
    assert states(world)["peer_c"] == "suspect"
    world.sleep(20_000, "peer_d")
    assert states(world)["peer_c"] == "lost"


def test_the_brake_never_blocks_the_broker_itself(world):
    """It has a deadline of its own, which does not move."""
    for peer in ("peer_a", "peer_b", "peer_c"):
        world.connect(peer)
    close(world, "peer_a", "peer_b", "peer_c")
    start_ns = world.now_ns
    world.sleep(6_000)
    assert world.broker.next_wakeup_ns() == start_ns + 20 * 10**9
