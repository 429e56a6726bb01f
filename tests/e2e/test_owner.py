"""Owners want their machines back: real daemons told by real commands and real signals."""

import json
import signal
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

pytestmark = pytest.mark.e2e

FRAMEWORK_BYTES = 50 << 20
"""Less than a process with torch loaded has."""
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


# --- of peers at work ----------------------------------------------------------------------------

STEPS = 120
FREED_S = 5.0
"""Longest from the hand-over to the end of the process that computed."""


@pytest.fixture(scope="module")
def undisturbed():
    """Weights and curves of the same job when nobody wants anything back, once it has run."""
    return []


@pytest.fixture
def as_undisturbed(network, client, undisturbed, lab, tmp_path):
    if not undisturbed:
        job = client.train(**lab.arguments(steps=STEPS), peers=2)
        undisturbed += lab.weights(job, tmp_path), lab.curves(job)

    def check(job):
        weights, curves = undisturbed
        assert lab.different(weights, lab.weights(job, tmp_path)) == []
        assert lab.curves(job) == curves

    return check


@pytest.fixture
def lend_again(network):
    """Takes the number of a peer that is to be lent again when the test is over."""
    numbers = []
    yield numbers.append
    for number in numbers:
        tell(network, "resume", number=number)


def begin(network, client, lab):
    """A job at work, the peer of its last segment, and what computes there."""
    job = client.train(**lab.arguments(steps=STEPS), peers=2)
    status = lab.until_step(job, 10)
    number = int(status.segments[-1].peer_name.removeprefix("peer-"))
    executors = network.executors(number)
    assert executors
    return job, number, executors


def until_freed(network, job, number, executors):
    """Seconds from the hand-over, as the broker tells it, to the end of every process."""
    handed_over_s = freed_s = None

    def is_so():
        nonlocal handed_over_s, freed_s
        now_s = time.monotonic()
        if freed_s is None and not any(process.is_running() for process in executors):
            freed_s = now_s
        holders = {segment.peer_name for segment in job.status().segments}
        if handed_over_s is None and f"peer-{number}" not in holders:
            handed_over_s = now_s
        return handed_over_s is not None and freed_s is not None

    network.wait_until(is_so, "the segment is handed over and its device free")
    return freed_s - handed_over_s


def test_a_busy_peer_that_is_paused_hands_over(
    network, client, lab, as_undisturbed, lend_again
):
    job, number, executors = begin(network, client, lab)
    lend_again(number)
    with ThreadPoolExecutor(1) as pool:
        pausing = pool.submit(tell, network, "pause", "--deadline", "60s", number=number)
        freed_s = until_freed(network, job, number, executors)
        paused = pausing.result()
    assert freed_s < FREED_S
    assert (paused["availability"], paused["held"]) == ("paused", [])
    assert {process.pid for process in executors} <= set(paused["ended"])
    assert paused["memory_before"]["process_bytes"] > FRAMEWORK_BYTES
    assert (paused["memory_now"]["processes"], paused["memory_now"]["process_bytes"]) == (0, 0)
    as_undisturbed(job)
    assert tell(network, "status", number=number)["availability"] == "paused"


def test_a_busy_peer_that_is_terminated_hands_over(network, client, lab, as_undisturbed):
    job, number, _ = begin(network, client, lab)
    network.send_signal(f"peer-{number}", signal.SIGTERM)
    assert network.wait_for_end(f"peer-{number}") == 0
    as_undisturbed(job)


def test_a_busy_peer_that_leaves_hands_over(network, client, lab, as_undisturbed):
    job, number, executors = begin(network, client, lab)
    left = tell(network, "leave", "--deadline", "60s", number=number)
    assert {process.pid for process in executors} <= set(left["ended"])
    assert network.wait_for_end(f"peer-{number}") == 0
    as_undisturbed(job)


def test_a_busy_peer_that_finishes_keeps_what_it_has(
    network, client, lab, as_undisturbed, lend_again
):
    job, number, executors = begin(network, client, lab)
    lend_again(number)
    finishing = tell(network, "finish", number=number)
    assert job.id in finishing["held"][0]
    assert all(process.is_running() for process in executors)
    as_undisturbed(job)
    assert tell(network, "finish", "--wait", "60s", number=number)["held"] == []
