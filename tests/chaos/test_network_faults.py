"""The network between processes: partitions, slow lines, spoilt bytes, messages that come late."""

from __future__ import annotations

import itertools
import time

import pytest

from tests.chaos.injection import chance, count, injected
from tests.chaos.network import POLICY
from tests.chaos.proxy import HELD, REFUSED, Condition

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(7_200)]
STEPS = 60


def some_holder(run, drawn):
    status = run.until_step(run.watch.status.steps_done + drawn.randint(2, 6))
    return drawn.choice(status.segments)


def neighbours(run, drawn):
    """Two peers that hold neighbouring segments."""
    status = run.until_step(run.watch.status.steps_done + drawn.randint(2, 6))
    return drawn.choice(list(itertools.pairwise(status.segments)))


def healed(network, run):
    network.proxy.heal()
    network.wait_until(lambda: network.live() == network.size, "all peers are live")
    run.until_step(min(run.steps, run.watch.status.steps_done + 5))


def test_f4_cut_off_from_the_broker(network, start, tmp_path, write_report):
    """Both ways, in silence; the peer itself still reaches the others."""
    drawn = chance("F4")

    def inject(run):
        lost = some_holder(run, drawn)
        at_s = time.time()
        network.isolate(lost.peer_name, HELD, others=("broker",))
        run.until_moved(lost.segment, lost.token)
        until_s = time.time()
        healed(network, run)
        return at_s, until_s

    write_report("F4", *injected(network, start, inject, count(), tmp_path),
                 lease_ttl_s=POLICY["lease_ttl_ms"] / 1000)


def test_f4_cut_off_from_everybody(network, start, tmp_path, write_report):
    """A machine whose line is dead, in silence."""
    drawn = chance("F4 everybody")

    def inject(run):
        lost = some_holder(run, drawn)
        at_s = time.time()
        network.isolate(lost.peer_name, HELD)
        run.until_moved(lost.segment, lost.token)
        until_s = time.time()
        healed(network, run)
        return at_s, until_s

    write_report("F4 everybody", *injected(
        network, start, inject, count(few=2, share=0.5), tmp_path))


def test_f5_the_broker_hears_nothing(network, start, tmp_path, write_report):
    """One way: what the peer says does not arrive."""
    drawn = chance("F5 up")

    def inject(run):
        lost = some_holder(run, drawn)
        at_s = time.time()
        network.proxy.impose(lost.peer_name, "broker", HELD)
        run.until_moved(lost.segment, lost.token)
        until_s = time.time()
        healed(network, run)
        return at_s, until_s

    write_report("F5 to the broker", *injected(
        network, start, inject, count(few=2, share=0.5), tmp_path))


def test_f5_the_peer_hears_nothing(network, start, tmp_path, write_report):
    """The other way: reports arrive, acknowledgements do not; nobody has to stop for that."""
    drawn = chance("F5 down")

    def inject(run):
        deaf = some_holder(run, drawn)
        at_s = time.time()
        network.proxy.impose("broker", deaf.peer_name, HELD)
        run.until_step(run.watch.status.steps_done + 10)
        until_s = time.time()
        healed(network, run)
        return at_s, until_s

    write_report("F5 from the broker", *injected(
        network, start, inject, count(few=2, share=0.5), tmp_path))


def test_f6_a_link_is_cut_and_comes_back(network, start, tmp_path, write_report):
    """RST between two neighbours: the link goes on where it was."""
    drawn = chance("F6 cut")

    def inject(run):
        one, other = neighbours(run, drawn)
        at_s = time.time()
        network.proxy.cut(one.peer_name, other.peer_name)
        run.until_step(run.watch.status.steps_done + 5)
        return at_s, time.time()

    write_report("F6 cut", *injected(network, start, inject, 3 * count(), tmp_path))


def test_f6_two_neighbours_do_not_reach_each_other(network, start, tmp_path, write_report):
    """For good, while both reach everybody else: one of the two segments has to move."""
    drawn = chance("F6")

    def inject(run):
        one, other = neighbours(run, drawn)
        at_s = time.time()
        network.proxy.between(one.peer_name, other.peer_name, REFUSED)
        run.until(
            lambda status: status.state == "running" and (
                status.segments[one.segment].token, status.segments[other.segment].token
            ) != (one.token, other.token), "one of the two segments has moved")
        run.until_step(min(run.steps, run.watch.status.steps_done + 5))
        until_s = time.time()
        healed(network, run)
        return at_s, until_s

    write_report("F6 partition", *injected(
        network, start, inject, count(few=1, share=0.2), tmp_path, steps=150),
        figure="relays do not exist yet: bytes by relay are none")


@pytest.mark.parametrize(("name", "condition"), [
    ("1 Mbit/s", Condition(bytes_per_s=125_000.0)),
    ("300 ms", Condition(latency_s=0.15)),
    ("jitter", Condition(latency_s=0.01, jitter_s=0.05))])
def test_f7_a_poor_line(network, start, tmp_path, write_report, name, condition):
    """One holder's line is poor in both directions: slower, but nobody is taken for dead."""
    violations, goodputs = [], []
    for _ in range(count(few=1, share=0.05)):
        usual = rate(start(STEPS).history())
        run = start(STEPS)
        poor = run.until_step(3).segments[1].peer_name
        network.isolate(poor, condition)
        run.finished()
        network.proxy.heal()
        violations += run.violations(tmp_path, run.reference)
        past = run.history()
        if past.deaths:
            violations.append(f"{past.deaths} peers were taken for dead")
        goodputs.append(rate(past) / usual)
        network.heal()
    write_report(f"F7 {name}", (), violations, n=len(goodputs),
                 goodput=[round(goodput, 3) for goodput in goodputs])


def rate(past):
    """Steps per second after the first tenth."""
    times = past.commits[len(past.commits) // 10:]
    return (len(times) - 1) / (times[-1] - times[0])


def test_f14_flipped_bits_on_the_way(network, start, tmp_path, write_report):
    """Between all peers, under TLS: the connection ends, the link resumes, no wrong byte is used.
    """
    violations, corrupted = [], 0
    for _ in range(count(few=1, share=0.1)):
        run = start(STEPS)
        names = [segment.peer_name for segment in run.until_step(3).segments]
        for one, other in itertools.permutations(names, 2):
            network.proxy.impose(one, other, Condition(corrupt_share=0.01))
        run.until_step(STEPS - 10)
        network.proxy.heal()
        violations += run.violations(tmp_path, run.reference)
        corrupted += sum(
            network.proxy.corrupted(one, other) for one, other in itertools.permutations(names, 2))
        network.heal()
    write_report("F14", (), violations, n=corrupted, wrong_bytes_used=0,
                 where="under TLS; above it tests/peer/links flips bits of frames")


def test_f16_messages_that_come_late(network, start, tmp_path, write_report):
    """A peer's reports are held until its segment has moved, and then arrive, all at once."""
    drawn = chance("F16")
    refused = []

    def inject(run):
        lost = some_holder(run, drawn)
        at_s = time.time()
        network.proxy.impose(lost.peer_name, "broker", HELD)
        run.until_moved(lost.segment, lost.token)
        until_s = time.time()
        network.proxy.impose(lost.peer_name, "broker", Condition(latency_s=0.2))
        healed(network, run)
        refused.append(run)
        return at_s, until_s

    seconds, violations = injected(network, start, inject, count(few=2, share=0.5), tmp_path)
    stale = sum(run.history().stale_reports for run in set(refused))
    write_report("F16", seconds, violations, stale_reports_refused=stale, stale_effects=0)


def test_f25_the_brokers_own_network_fails(network, start, tmp_path, write_report):
    """Everybody is silent at once: the broker suspects itself and moves nothing."""
    violations, seconds = [], []
    for _ in range(count(few=1, share=0.2)):
        run = start(STEPS)
        run.until_step(3)
        network.isolate("broker", HELD)
        time.sleep(2 * POLICY["lease_ttl_ms"] / 1000)  # the outage itself
        at_s = time.time()
        network.proxy.heal()
        violations += run.violations(tmp_path, run.reference)
        past = run.history()
        if len(past.grants) != 3:
            violations.append(f"{len(past.grants) - 3} segments were moved")
        seconds.append(next(at for at in past.commits if at > at_s) - at_s)
        network.heal()
    write_report("F25", seconds, violations, wrong_reassignments=0,
                 figure="network healed to the next commit known")
