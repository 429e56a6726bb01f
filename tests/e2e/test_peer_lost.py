"""Peers die, freeze or lose their executor with nobody to spare: the job waits, and goes on.

With peers to spare it moves: `test_takeover.py`. In both cases the weights are those of a job that
nothing has disturbed.
"""

import pytest

pytestmark = pytest.mark.e2e

STEPS = 40


@pytest.fixture(scope="module")
def undisturbed(shared_client, lab, tmp_path_factory):
    """What the job of this module's tests trains, and its losses."""
    job = shared_client.train(**lab.arguments(steps=STEPS), peers=3)
    return lab.weights(job, tmp_path_factory.mktemp("undisturbed")), lab.curves(job)


def start(client, lab):
    """The same job on all three peers, some steps into its work."""
    job = client.train(**lab.arguments(steps=STEPS), peers=3)
    return job, lab.until_step(job, 3)


def assert_as_undisturbed(job, lab, undisturbed, directory):
    """Every step is there once, with the same loss, and the weights are equal to the last bit."""
    weights, curves = undisturbed
    assert lab.different(lab.weights(job, directory), weights) == []
    assert lab.curves(job) == curves


def until_vacant(job, lab, segment):
    """The job waits for a holder of the segment, and says so; of two losses, one may come later."""
    lab.watch_until(job, lambda status: status.state == "recovering"
                    and f"segment {segment.segment} waits" in status.reason)


def number_of(segment):
    return int(segment.peer_name.removeprefix("peer-"))  # LocalNetwork's own numbers


def test_a_killed_peer_without_a_spare(network, client, lab, undisturbed, tmp_path):
    job, status = start(client, lab)
    lost = status.segments[1]
    network.kill(lost.peer_name)
    until_vacant(job, lab, lost)
    network.start_peer(number_of(lost))
    assert_as_undisturbed(job, lab, undisturbed, tmp_path)


def test_two_killed_peers_next_to_each_other(network, client, lab, undisturbed, tmp_path):
    job, status = start(client, lab)
    for lost in status.segments[1:]:
        network.kill(lost.peer_name)
    until_vacant(job, lab, lost)
    for lost in status.segments[1:]:
        network.start_peer(number_of(lost))
    assert_as_undisturbed(job, lab, undisturbed, tmp_path)


def test_a_peer_killed_while_it_prepares(network, client, lab):
    """Before the start nothing is lost with it but the peer itself: the job is planned again."""
    job = client.train(**lab.endless(), peers=3)
    status = lab.watch_until(job, lambda status: status.state == "preparing")
    lost = status.segments[0]
    network.kill(lost.peer_name)
    lab.watch_until(job, lambda status: status.state == "submitted")
    network.start_peer(number_of(lost))
    lab.until_step(job, 1)


def test_a_frozen_peer_that_wakes_up_too_late(
    network, client, lab, undisturbed, tmp_path
):
    """Its lease is gone when it wakes up; then it may take the segment over as anybody else."""
    job, status = start(client, lab)
    lost = status.segments[1]
    network.pause(lost.peer_name)
    try:
        until_vacant(job, lab, lost)
    finally:
        network.resume(lost.peer_name)
    assert_as_undisturbed(job, lab, undisturbed, tmp_path)
    moved = job.status().segments[1]
    assert moved.token > lost.token


def test_a_killed_executor(network, client, lab, undisturbed, tmp_path):
    job, status = start(client, lab)
    struck = status.segments[1]
    executor, = network.executors(number_of(struck))
    executor.kill()
    assert_as_undisturbed(job, lab, undisturbed, tmp_path)
    assert network.is_running(struck.peer_name), "the daemon must live on"
    network.wait_until(lambda: lab.free_peers(network) == 3, "all three are free")
    network.wait_until(
        lambda: not network.executors(number_of(struck)), "no process is left behind")
