"""Owners want their machines back: real daemons told by real commands and real signals."""

import json
import signal
import time

import pytest

pytestmark = pytest.mark.e2e

AT_ONCE_S = 10.0
"""Far below the grace and the deadlines: an idle peer has nothing to wait for."""


def tell(network, command, *flags, number=0):
    """Run `peer COMMAND --json` for one of the peers; what it says."""
    done = network.run(
        "peer", command, *flags, "--json", "--dir", str(network.peer_directory(number)))
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def wait_for_end(network, number):
    """The exit status of a peer that was told to go."""
    began_s = time.monotonic()
    status = network.wait_for_end(f"peer-{number}")
    assert time.monotonic() - began_s < AT_ONCE_S
    return status


@pytest.fixture(scope="module")
def idle(start_network):
    return start_network(1)


def test_pause_and_resume_of_an_idle_peer(idle):
    paused = tell(idle, "pause", "--deadline", "30s")
    assert (paused["availability"], paused["held"], paused["ended"]) == ("paused", [], [])
    assert paused["seconds"] < AT_ONCE_S
    assert tell(idle, "status")["availability"] == "paused"
    assert tell(idle, "resume")["availability"] == "open"
    assert tell(idle, "status")["connected"] is True


def test_a_paused_peer_stays_paused_over_a_restart(idle):
    tell(idle, "pause")
    assert idle.stop("peer-0") == 0
    assert tell(idle, "status")["running"] is False
    idle.start_peer(0)
    idle.wait_until(lambda: tell(idle, "status")["running"], "the peer runs again")
    assert tell(idle, "status")["availability"] == "paused"
    tell(idle, "resume")


def test_finish_of_an_idle_peer(idle):
    finished = tell(idle, "finish", "--wait", "30s")
    assert (finished["availability"], finished["held"]) == ("finishing", [])
    tell(idle, "resume")


def test_leave_of_an_idle_peer_ends_it_well_and_the_next_start_is_open(idle):
    assert tell(idle, "leave")["held"] == []
    assert wait_for_end(idle, 0) == 0
    idle.start_peer(0)
    idle.wait_for_peers(1)
    assert tell(idle, "status")["availability"] == "open"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_an_idle_peer_at_once_and_well(idle, number):
    idle.send_signal("peer-0", number)
    assert wait_for_end(idle, 0) == 0
    idle.start_peer(0)
    idle.wait_for_peers(1)


def test_a_signal_ends_a_peer_without_a_broker_at_once(idle):
    idle.kill("broker")
    idle.wait_until(lambda: not tell(idle, "status")["connected"], "the peer knows")
    assert idle.stop("peer-0") == 0
    idle.start_broker()
    idle.start_peer(0)
    idle.wait_for_peers(1)
