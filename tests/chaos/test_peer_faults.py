"""Processes of peers are killed, stopped, slowed down, come and go."""

from __future__ import annotations

import resource
import threading
import time

import psutil
import pytest

from tests.chaos.injection import chance, count, injected
from tests.chaos.network import HEAL_TIMEOUT_S, POLICY

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(7_200)]
DUTY_S, SLOWER = 0.2, 10
"""A slow device computes for one tenth of each 0.2 s."""
SHORT, LONG = 100, 500
"""Steps of a job to compare with, and of one in which moving a segment pays."""


def holder_of_any(run, drawn):
    """The segment that is hit next, some steps from now and at any moment of a step."""
    status = run.until_step(run.watch.status.steps_done + drawn.randint(2, 8))
    time.sleep(drawn.uniform(0.0, 0.3))  # the moment itself is what is drawn
    return drawn.choice(status.segments)


def back(network):
    """Start what has ended and wait until the pool is whole again."""
    for name in network.names:
        if not network.is_running(name):
            network.restart(name)
    network.wait_until(
        lambda: network.live() == network.size, "all peers are live", HEAL_TIMEOUT_S)


def test_f1_killed(network, start, tmp_path, write_report):
    """SIGKILL of whoever holds a segment, at any time."""
    drawn = chance("F1")

    def inject(run):
        lost = holder_of_any(run, drawn)
        at_s = time.time()
        network.kill(lost.peer_name)
        run.until_moved(lost.segment, lost.token)
        until_s = time.time()
        back(network)
        return at_s, until_s

    write_report("F1", *injected(network, start, inject, count(), tmp_path))


def test_f1_two_at_once(network, start, tmp_path, write_report):
    """Two holders die together; two stand by."""
    drawn = chance("F1 two")

    def inject(run):
        first = holder_of_any(run, drawn)
        segments = run.watch.status.segments
        second = drawn.choice([one for one in segments if one.segment != first.segment])
        at_s = time.time()
        for lost in (first, second):
            network.kill(lost.peer_name)
        for lost in (first, second):
            run.until_moved(lost.segment, lost.token)
        until_s = time.time()
        back(network)
        return at_s, until_s

    write_report("F1 two at once", *injected(
        network, start, inject, count(few=2, share=0.2), tmp_path))


def test_f1_again_during_the_takeover(network, start, tmp_path, write_report):
    """Who takes a segment over dies before it has come far."""
    drawn = chance("F1 again")

    def inject(run):
        lost = holder_of_any(run, drawn)
        at_s = time.time()
        network.kill(lost.peer_name)
        taken = run.until(
            lambda status: status.segments[lost.segment].token not in (0, lost.token)
            and status.segments[lost.segment].peer_name != lost.peer_name,
            "somebody takes the segment over").segments[lost.segment]
        network.kill(taken.peer_name)
        run.until_moved(lost.segment, taken.token)
        until_s = time.time()
        back(network)
        return at_s, until_s

    write_report("F1 again during takeover", *injected(
        network, start, inject, count(few=2, share=0.2), tmp_path))


def test_f1_a_standby_dies(network, start, tmp_path, write_report):
    """Nobody waits for who only stands by."""
    drawn = chance("F1 standby")
    moved = []

    def inject(run):
        status = run.until_step(run.watch.status.steps_done + drawn.randint(1, 5))
        holders = {segment.peer_name for segment in status.segments}
        at_s = time.time()
        network.kill(drawn.choice(sorted(set(network.names) - holders)))
        after = run.until_step(status.steps_done + 5)
        moved.extend(
            f"segment {new.segment} moved" for old, new in zip(
                status.segments, after.segments, strict=True) if old.token != new.token)
        until_s = time.time()
        back(network)
        return at_s, until_s

    seconds, violations = injected(network, start, inject, count(few=2, share=0.2), tmp_path)
    write_report("F1 standby", seconds, violations, leases_moved=len(moved))


def test_f2_frozen_and_back(network, start, tmp_path, write_report):
    """SIGSTOP until somebody else has the segment, then SIGCONT: what it says then is refused."""
    drawn = chance("F2")

    def inject(run):
        lost = holder_of_any(run, drawn)
        at_s = time.time()
        network.pause(lost.peer_name)
        try:
            run.until_moved(lost.segment, lost.token)
            until_s = time.time()
        finally:
            network.resume(lost.peer_name)
        run.until_step(run.watch.status.steps_done + 5)
        back(network)
        return at_s, until_s

    write_report("F2", *injected(network, start, inject, count(), tmp_path),
                 lease_ttl_s=POLICY["lease_ttl_ms"] / 1000)


def test_f2_a_hiccup(network, start, tmp_path, write_report):
    """SIGSTOP for less than the patience: nothing moves."""
    drawn = chance("F2 hiccup")
    moved = []

    def inject(run):
        lost = holder_of_any(run, drawn)
        at_s = time.time()
        network.pause(lost.peer_name)
        time.sleep(POLICY["lease_ttl_ms"] / 1000 / 3)  # the hiccup itself
        network.resume(lost.peer_name)
        status = run.until_step(run.watch.status.steps_done + 5)
        if status.segments[lost.segment].token != lost.token:
            moved.append(f"segment {lost.segment} moved for a hiccup")
        return at_s, time.time()

    seconds, violations = injected(network, start, inject, count(few=2, share=0.5), tmp_path)
    write_report("F2 hiccup", seconds, [*violations, *moved])


def _struck(network, run, drawn, strike):
    """Strike the executor of some holder; its daemon must live on."""
    lost = holder_of_any(run, drawn)
    daemon = network.pid(lost.peer_name)
    at_s = time.time()
    executors = network.executors(int(lost.peer_name.removeprefix("peer-")))
    strike(max(executors, key=lambda process: process.memory_info().rss))
    run.until_moved(lost.segment, lost.token)
    until_s = time.time()
    assert network.is_running(lost.peer_name), "the daemon has ended with its executor"
    assert network.pid(lost.peer_name) == daemon
    back(network)
    return at_s, until_s


def test_f3_executor_killed(network, start, tmp_path, write_report):
    """The daemon stays, says why, and the segment is restarted."""
    drawn = chance("F3")
    write_report("F3 killed", *injected(
        network, start, lambda run: _struck(network, run, drawn, psutil.Process.kill),
        count(), tmp_path), daemon_restarts=0)


def test_f3_executor_out_of_memory(network, start, tmp_path, write_report):
    """The system refuses the executor any more memory (RLIMIT_AS of now)."""
    drawn = chance("F3 memory")

    def starve(process):
        process.rlimit(resource.RLIMIT_AS, (1 << 20, resource.RLIM_INFINITY))

    write_report("F3 memory", *injected(
        network, start, lambda run: _struck(network, run, drawn, starve),
        count(few=2, share=0.2), tmp_path), daemon_restarts=0)


class Slowed:
    """Lets a process compute only for a share of the time, as a slower device would."""

    def __init__(self, processes):
        self._processes = processes
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *error):
        self._ended.set()
        self._thread.join()

    def _run(self):
        while not self._ended.is_set():
            self._each(psutil.Process.suspend)
            self._ended.wait(DUTY_S * (1 - 1 / SLOWER))
            self._each(psutil.Process.resume)
            self._ended.wait(DUTY_S / SLOWER)

    def _each(self, action):
        for process in self._processes:
            try:
                action(process)
            except psutil.NoSuchProcess:
                continue


def test_f8_a_slow_device(network, start, tmp_path, write_report):
    """One holder computes ten times slower for the rest of the job, which is long enough to pay."""
    violations, ratios, moves = [], [], 0
    for _ in range(count(few=1, share=0.05)):
        usual = step_times(start(SHORT).history())
        run = start(LONG)
        status = run.until_step(20)
        slow = status.segments[1]
        number = int(slow.peer_name.removeprefix("peer-"))
        with Slowed(network.executors(number)):
            run.until_step(LONG - 5, timeout_s=900.0)
        violations += run.violations(tmp_path, run.reference)
        past = run.history()
        moves += len(past.grants) - 3
        ratios.append(p95(step_times(past)[20:]) / p95(usual[20:]))
        network.heal()
    write_report("F8", (), violations, n=len(ratios), slower=SLOWER, moves=moves,
                 step_p95_ratio=[round(ratio, 2) for ratio in ratios])


def step_times(past):
    return [end - begin for begin, end in zip(past.commits, past.commits[1:], strict=False)]


def p95(values):
    return sorted(values)[int(0.95 * (len(values) - 1))]


def test_f9_a_flapping_peer(network, start, tmp_path, write_report):
    """A peer that nobody needs comes and goes: no segment moves for it, the broker does not grow.
    """
    run = start(300)
    status = run.until_step(5)
    holders = {segment.peer_name for segment in status.segments}
    flapping = sorted(set(network.names) - holders)[0]
    broker = psutil.Process(network.pid("broker"))
    before, began_s, flaps = broker.memory_info().rss, time.monotonic(), 0
    while run.watch.status.steps_done < 250 and not run.watch.status.is_final:
        network.kill(flapping)
        network.restart(flapping)
        network.wait_until(lambda: network.live() == network.size, "the peer is back")
        flaps += 1
    minutes = (time.monotonic() - began_s) / 60
    grown = broker.memory_info().rss - before
    violations = run.violations(tmp_path, run.reference)
    moves = len(run.history().grants) - 3
    write_report("F9", (), violations, n=flaps, reassignments_per_minute=round(moves / minutes, 2),
                 broker_rss_growth_mib=round(grown / 2**20, 1))


def test_f24_most_peers_at_once(network, start, tmp_path, write_report):
    """Four of five are killed together and come back: no storm, the job goes on."""
    drawn = chance("F24")

    def inject(run):
        lost = holder_of_any(run, drawn)
        others = [name for name in network.names if name != lost.peer_name]
        at_s = time.time()
        for name in (lost.peer_name, *drawn.sample(others, 3)):
            network.kill(name)
        back(network)
        run.until_moved(lost.segment, lost.token)
        return at_s, time.time()

    write_report("F24", *injected(network, start, inject, count(few=1, share=0.1), tmp_path),
                 killed="4 of 5, started again at once")
