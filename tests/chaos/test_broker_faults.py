"""The broker dies, repeats, stays away; the submitter vanishes."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
import time

import pytest

from broker.crash_point import EXIT_STATUS, VARIABLE, Position
from homespun.errors import HomespunError
from tests.chaos.injection import chance, count
from tests.chaos.proxy import HELD
from tests.chaos.runs import Run

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(3_600)]
STEPS, SHORT = 60, 25
HELD_S = 2.0
OUTAGE_VARIABLE = "CHAOS_OUTAGE_S"
KINDS_OF_A_JOB = (
    "JobSubmitted", "PlacementSolved", "BackupsRanked", "SegmentReady", "StandbyReady",
    "StepsDone", "SnapshotStored", "SegmentFinished", "SegmentReleased")
"""Transitions that every job comes by."""
KINDS_OF_A_LOSS = ("PeerDisconnected", "NeighbourLost")
"""Transitions that a killed peer causes, when all are connected."""
KINDS_OF_A_START = ("TimerFired", "PeerConnected")
"""Transitions that come by whenever the broker has started while a job runs."""
STEPS_UNTIL = {"SnapshotStored": 120} | dict.fromkeys(KINDS_OF_A_LOSS + KINDS_OF_A_START, 120)
"""A job of SHORT steps is over before its first snapshot is stored, or the broker back."""
OFTEN = {"StepsDone": 20, "SnapshotStored": 3, "StandbyReady": 2, "PeerConnected": 5}
"""Of those, which one is drawn from the first so many."""


def restarted(network):
    """Start the broker again; seconds until it serves."""
    began_s = time.monotonic()
    network.start_broker()
    return time.monotonic() - began_s


def submit(start, runs, steps):
    """Submit in a thread: the broker dies meanwhile."""
    runs.append(start(steps))


@pytest.mark.parametrize("position", list(Position))
@pytest.mark.parametrize("kind", [*KINDS_OF_A_JOB, *KINDS_OF_A_LOSS, *KINDS_OF_A_START])
def test_f17_killed_at_a_transition(network, client, start, tmp_path, write_report, kind, position):
    """Killed before the commit, after it, before anybody is told: nothing is lost or doubled."""
    steps = STEPS_UNTIL.get(kind, SHORT)
    start.reference(steps)
    violations, seconds = [], []
    drawn = chance(f"F17 {kind} {position}")
    for _ in range(count(few=1, share=0.05)):
        jobs = {status.job_id for status in client.jobs()}
        runs = []
        crash = {VARIABLE: f"{kind}:{position}:{drawn.randint(1, OFTEN.get(kind, 1))}"}
        if kind in KINDS_OF_A_JOB:
            again(network, crash)
        submitting = threading.Thread(target=submit, args=(start, runs, steps))
        submitting.start()
        if kind not in KINDS_OF_A_JOB:
            submitting.join()
            lost = drawn.choice(runs[0].until_step(3).segments).peer_name
            again(network, crash, until_all_are_back=kind in KINDS_OF_A_LOSS)
            network.kill(lost)
            network.restart(lost)
        assert network.ended("broker") == EXIT_STATUS
        seconds.append(restarted(network))
        submitting.join()
        run, = runs
        violations += run.violations(tmp_path, run.reference)
        new = {status.job_id for status in client.jobs()} - jobs
        if new != {run.job.id}:
            violations.append(f"one submission made the jobs {sorted(new)}")
        network.heal()
    write_report(f"F17 {kind} {position}", seconds, violations, figure="restart to serving")


def again(network, environment, *, until_all_are_back=True):
    """Start the broker anew, with an environment of its own."""
    network.kill("broker")
    # It may have died again before anybody saw that it serves; `ended` tells how.
    with contextlib.suppress(HomespunError):
        network.start_broker(environment=environment)
    if until_all_are_back:
        network.wait_until(lambda: network.live() == network.size, "all peers are back")


def came_back(network, began_s):
    """Start the broker; seconds until each peer has dialled it again."""
    before = {name: network.proxy.dialled(name, "broker") for name in network.names}
    network.start_broker()
    back_s = []
    for name in network.names:
        assert network.proxy.wait_until(
            lambda name=name: network.proxy.dialled(name, "broker") > before[name], 60)
        back_s.append(time.monotonic() - began_s)
    return back_s


def test_f18_away_for_a_while(network, client, start, tmp_path, write_report):
    """Segments go on, reports wait, peers come back, each step is committed once."""
    outage_s = float(os.environ.get(OUTAGE_VARIABLE, "10"))
    violations, seconds, peaks = [], [], []
    for _ in range(count(few=1, share=0.02)):
        run = start(STEPS)
        run.until_step(5)
        network.kill("broker")
        time.sleep(outage_s)  # the outage itself
        began_s = time.monotonic()
        back_s = came_back(network, began_s)
        seconds.append(max(back_s))
        peaks.append(max(sum(at <= other < at + 1 for other in back_s) for at in back_s))
        violations += run.violations(tmp_path, run.reference)
        if len(run.history().grants) != 3:
            violations.append("a lease moved though no peer was lost")
    write_report(
        "F18", seconds, violations, outage_s=outage_s, lost_steps=0,
        reconnects_per_s_peak=max(peaks), figure="broker started to the last peer back")


def test_f15_every_message_twice(
    network, client, start, tmp_path, write_report, monkeypatch
):
    """Every call of the submitter is sent twice; peers send reports again and again."""
    start.reference(STEPS)
    once, replies = client.connection.call, []

    def twice(method, request, *more):
        replies.append((method, once(method, request, *more), once(method, request, *more)))
        return replies[-1][1]

    jobs = {status.job_id for status in client.jobs()}
    monkeypatch.setattr(client.connection, "call", twice)
    run = start(STEPS)
    monkeypatch.undo()
    run.until_step(3)
    cuts = 4 * count()
    for _ in range(cuts):
        # Acknowledgements do not come through, so that reports come again on the next stream.
        for name in network.names:
            network.proxy.impose("broker", name, HELD)
        wanted = min(STEPS, run.watch.status.steps_done + 2)
        # Not for long: a segment that moves just then needs the broker's word.
        run.watch.wait_for(lambda status, wanted=wanted: status.steps_done >= wanted, HELD_S)
        for name in network.names:
            network.proxy.cut(name, "broker")
        network.proxy.heal()
        network.wait_until(lambda: network.live() == network.size, "all peers are back")
    violations = run.violations(tmp_path, run.reference)
    for method, first, second in replies:
        if method == "Submit" and first != second:
            violations.append(f"two replies to one submission: {first.job_id}, {second.job_id}")
    if {status.job_id for status in client.jobs()} - jobs != {run.job.id}:
        violations.append("one submission, sent twice, made two jobs")
    write_report("F15", (), violations, n=cuts + len(replies))


SUBMITTER = """
import sys
import homespun
from pathlib import Path
from tests.chaos.runs import arguments
with homespun.connect(sys.argv[1], Path(sys.argv[2])) as client:
    job = client.train(**arguments(int(sys.argv[3])), peers=3)
    print(job.id, flush=True)
    job.wait()
"""


def test_f29_the_submitter_vanishes(network, client, start, tmp_path, write_report):
    """The job goes on, and its result waits for whoever asks next."""
    reference = start.reference(STEPS)
    violations = []
    times = count(few=1, share=0.05)
    for _ in range(times):
        submitter = subprocess.Popen(
            [sys.executable, "-c", SUBMITTER, network.address, str(network.credentials),
             str(STEPS)], stdout=subprocess.PIPE, text=True)
        job_id = submitter.stdout.readline().strip()
        submitter.kill()
        submitter.wait()
        submitter.stdout.close()
        run = Run(network, client.job(job_id), STEPS)
        violations += run.violations(tmp_path, reference)
    write_report("F29", (), violations, n=times)
