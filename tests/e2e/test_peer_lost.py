"""Peers die, freeze or lose their executor: the job ends with a name, the others are free again."""

import threading

import pytest

from homespun.errors import CATALOG, Code

pytestmark = pytest.mark.e2e


def start(client, lab, **changes):
    """An endless job on all three peers, some steps into its work."""
    job = client.train(**lab.endless(**changes), peers=3)
    return job, lab.until_step(job, 3)


def assert_blamed(job, lab, segment, code):
    """The job has failed, and says whose fault it is by name and by id."""
    error = lab.failure(job)
    assert error.code is code, error.message
    assert segment.peer_name in error.message
    assert segment.peer_id in error.message
    return error


def assert_next_job_runs(client, lab, peers):
    lab.finished(client.train(**lab.arguments(steps=3), peers=peers))


def name_of(segment):
    return segment.peer_name  # LocalNetwork calls its processes by the same names


def test_a_killed_peer(network, client, lab):
    job, status = start(client, lab)
    watched = []
    thread = threading.Thread(
        target=lambda: watched.append(network.run("homespun", "watch", job.id)))
    thread.start()
    lost = status.segments[1]
    network.kill(name_of(lost))
    assert_blamed(job, lab, lost, Code.PEER_LOST)
    thread.join()
    assert watched[0].returncode == CATALOG[Code.PEER_LOST].exit_code == 1
    assert lost.peer_id in watched[0].stderr
    assert f"[{Code.PEER_LOST}]" in watched[0].stderr
    network.wait_until(lambda: lab.free_peers(network) == 2, "the other two are free")
    assert_next_job_runs(client, lab, peers=2)


def test_a_peer_that_is_killed_and_comes_back_at_once(network, client, lab):
    """It is the same peer, but what it held is gone."""
    job, status = start(client, lab)
    lost = status.segments[2]
    network.kill(name_of(lost))
    network.start_peer(int(lost.peer_name.removeprefix("peer-")))
    assert_blamed(job, lab, lost, Code.PEER_LOST)
    network.wait_until(lambda: lab.free_peers(network) == 3, "all three are free")
    assert_next_job_runs(client, lab, peers=3)


def test_a_peer_killed_while_it_prepares(network, client, lab):
    """Before the start nothing is lost with it but the peer itself."""
    job = client.train(**lab.endless(), peers=3)
    status = lab.watch_until(job, lambda status: status.state == "preparing")
    lost = status.segments[0]
    network.kill(name_of(lost))
    assert_blamed(job, lab, lost, Code.PEER_LOST)
    network.wait_until(lambda: lab.free_peers(network) == 2, "the other two are free")


def test_a_frozen_peer_that_wakes_up_too_late(network, client, lab):
    job, status = start(client, lab)
    lost = status.segments[1]
    network.pause(name_of(lost))
    try:
        error = assert_blamed(job, lab, lost, Code.PEER_LOST)
        assert "silent" in error.message
    finally:
        network.resume(name_of(lost))
    network.wait_until(lambda: lab.free_peers(network) == 3, "all three are free")
    assert_next_job_runs(client, lab, peers=3)


def test_a_killed_executor(network, client, lab):
    job, status = start(client, lab)
    struck = status.segments[1]
    number = int(struck.peer_name.removeprefix("peer-"))
    executor, = network.executors(number)
    executor.kill()
    assert_blamed(job, lab, struck, Code.EXECUTOR_DIED)
    assert network.is_running(name_of(struck)), "the daemon must live on"
    network.wait_until(lambda: lab.free_peers(network) == 3, "all three are free")
    assert_next_job_runs(client, lab, peers=3)
    network.wait_until(lambda: not network.executors(number), "no process is left behind")
