"""`peer pause|resume|finish|leave|status` beside a process that plays the daemon."""

import json
import re
import subprocess
import sys
import time

import psutil
import pytest
from click.testing import CliRunner

from peer.cli import availability
from peer.cli import cli as peer
from peer.core.events import Availability
from peer.owner.core.wish import NO_WISH, Wish
from peer.owner.wish_file import read_wish, write_wish
from peer.settings import PeerDirectory, PeerSettings
from peer.status_note import daemon_of, read_status

DEADLINE_S = 60
HELD_BYTES = 64 << 20
"""Of the process that plays an executor."""
NO_MEMORY = {"processes": 0, "process_bytes": 0, "device_bytes": None}
DAEMON = """
import asyncio, json, os, subprocess, sys, time
from pathlib import Path
from types import SimpleNamespace

from peer.core.state import PeerState
from datetime import UTC

from peer.live_settings import LiveSettings
from peer.owner.core.readings import Readings
from peer.owner.watch import OwnerLeaves, OwnerWatch
from peer.settings import PeerDirectory
from peer.status_note import what_is_allowed, write_status

place = PeerDirectory(Path(sys.argv[1]))
lease = SimpleNamespace(
    job_id="job_000001", segment=1, token=7, phase="running", key=("job_000001", 1, 7))
state, executors = PeerState(), []
if "busy" in sys.argv:
    state.leases["job_000001", 1] = lease
    executors.append(subprocess.Popen(
        [sys.executable, "-c", "b = b'x' * (64 << 20); print('ready', flush=True); input()"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE))
    executors[0].stdout.readline()

def hand_over(event):
    if event.availability in ("paused", "leaving") and "stubborn" not in sys.argv:
        for executor in executors:
            executor.kill()
            executor.wait()
        executors.clear()
        state.leases.clear()

watch = OwnerWatch(
    place, LiveSettings(place, place.load_settings(), {}), state, hand_over,
    is_connected=lambda: True, is_working=lambda: bool(executors),
    sense=lambda limits: Readings(now_s=0.0, unix_s=0.0, zone=UTC))

async def tell():
    while True:
        write_status(place, json.dumps({
            "pid": os.getpid(), "updated_unix_ms": time.time_ns() // 1_000_000,
            "name": "attic", "peer_id": "peer_1", "device": "cpu", "executor": "null",
            "broker": "host:1", "connected": True, "tensor_address": "",
            "wish_id": watch.wish_id, **what_is_allowed(watch.allowance, watch.readings),
            "leases": [{"job_id": each.job_id, "segment": each.segment, "phase": "running",
                        "steps_done": 3, "waiting_for": "a tensor", "waiting_from": "peer_2",
                        "waiting_s": 4.0} for each in state.leases.values()],
            "standbys": [], "snapshots": {"count": 0, "bytes": 0}}).encode())
        await watch.news(0.2)

async def main():
    await watch.begin()
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(watch.run())
            group.create_task(tell())
    except* OwnerLeaves:
        pass

asyncio.run(main())
for executor in executors:
    executor.kill()
"""


@pytest.fixture
def place(tmp_path):
    place = PeerDirectory(tmp_path)
    place.save_settings(PeerSettings(name="attic"))
    return place


@pytest.fixture
def start(place):
    """Start the daemon's player; its words: busy, stubborn."""
    processes = []

    def start(*words):
        daemon = subprocess.Popen([sys.executable, "-c", DAEMON, str(place.root), *words])
        processes.append(daemon)
        deadline = time.monotonic() + DEADLINE_S
        while read_status(place).get("pid") != daemon.pid:
            assert daemon.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.02)
        return daemon

    yield start
    for process in processes:
        process.kill()
        process.wait()


def say(place, *arguments, exit_code=0):
    result = CliRunner().invoke(peer, [*arguments, "--dir", str(place.root)])
    assert result.exit_code == exit_code, result.output
    return result.stdout if exit_code == 0 else result.stderr


def executors(daemon):
    return psutil.Process(daemon.pid).children(recursive=True)


def test_pause_returns_when_nothing_computes_any_more(place, start):
    daemon = start("busy")
    executor, = executors(daemon)
    said = say(place, "pause", "--deadline", "20s")
    assert not executor.is_running()
    assert said.startswith("attic is paused: it holds nothing, and 1 process ended with its work")
    assert daemon.poll() is None
    assert "paused, connected to host:1" in say(place, "status")
    assert say(place, "resume") == "attic takes work again.\n"
    assert json.loads(say(place, "status", "--json"))["availability"] == "open"


def test_pause_says_how_much_memory_is_free_again(place, start):
    start("busy")
    before = json.loads(say(place, "status", "--json"))["memory"]
    assert (before["processes"], before["device_bytes"]) == (1, None)
    assert before["process_bytes"] > HELD_BYTES
    assert "Memory: 1 process computes, with " in say(place, "status")
    _, shown = say(place, "pause").splitlines()
    assert re.fullmatch(
        r"Memory of its processes [67]\d\.\d+ MiB before, 0 B now\.", shown), shown
    assert json.loads(say(place, "status", "--json"))["memory"] == NO_MEMORY
    assert "Memory: no process computes." in say(place, "status")


def test_pause_as_json(place, start):
    daemon = start("busy")
    executor, = executors(daemon)
    value = json.loads(say(place, "pause", "--json"))
    assert value.pop("seconds") > 0
    assert value.pop("memory_before")["process_bytes"] > HELD_BYTES
    assert value.pop("memory_now") == NO_MEMORY
    assert value == {
        "schema": "peer_availability", "schema_version": 1, "name": "attic", "is_running": True,
        "availability": "paused", "held": [], "ended": [executor.pid], "until_unix_ms": 0}


@pytest.mark.parametrize("command", ["pause", "leave"])
def test_what_is_still_held_at_the_deadline_is_named(place, start, monkeypatch, command):
    monkeypatch.setattr(availability, "HEARD_S", 0.0)
    start("busy", "stubborn")
    said = say(place, command, "--deadline", "2s", exit_code=5)
    assert (
        "it still holds segment 1 of job_000001 (running, waits for a tensor from peer_2 for "
        "4.0s)") in said
    assert "[TIMED_OUT]" in said


def test_a_frozen_daemon_does_not_answer(place, start, monkeypatch):
    monkeypatch.setattr(availability, "HEARD_S", 0.5)
    daemon = psutil.Process(start().pid)
    daemon.suspend()
    try:
        assert "its daemon does not answer" in say(place, "resume", exit_code=5)
    finally:
        daemon.resume()


def test_finish_tells_what_is_left_and_waits_if_asked(place, start):
    start("busy")
    assert say(place, "finish") == (
        "attic takes nothing new; it still holds segment 1 of job_000001 (running, waits for a "
        "tensor from peer_2 for 4.0s).\n")
    say(place, "pause")
    assert say(place, "finish", "--wait", "20s") == (
        "attic takes nothing new; it holds nothing.\n")


def test_leave_ends_the_daemon(place, start):
    daemon = start("busy")
    executor, = executors(daemon)
    assert say(place, "leave").startswith("attic has left, and 1 process ended with its work")
    assert daemon.wait(DEADLINE_S) == 0
    assert not executor.is_running()
    assert read_wish(place) == NO_WISH, "the next start takes part again"


def test_a_pause_for_a_while_says_its_end_and_ends(place, start):
    start()
    said = say(place, "pause", "30m")
    assert said.startswith("attic is paused until ")
    status = say(place, "status")
    assert "Because its owner has paused it, until " in status
    assert "What changes it: peer resume" in status
    shown = json.loads(say(place, "status", "--json"))
    assert shown["reasons"][0]["until_unix_ms"] > time.time() * 1000 + 29 * 60_000
    say(place, "resume")
    assert json.loads(say(place, "status", "--json"))["reasons"] == []


def test_a_pause_that_is_over_is_no_pause_for_the_next_start(place):
    write_wish(place, Wish(id="a", availability=Availability.PAUSED, until_unix_ms=1))
    assert json.loads(say(place, "status", "--json"))["availability"] == "open"
    assert "names no moment" in say(place, "pause", "until", "noon", exit_code=2)


def test_without_a_daemon_a_wish_waits_for_the_next_start(place, start):
    assert say(place, "pause") == "attic is not running: it will be paused when it starts.\n"
    assert say(place, "status").endswith("It will be paused then.\n")
    start()
    assert json.loads(say(place, "status", "--json"))["availability"] == "paused"
    assert read_wish(place).availability is Availability.PAUSED


def test_without_a_daemon_there_is_nothing_to_leave(place):
    assert say(place, "leave") == "attic is not running: there is nothing to leave.\n"
    assert read_wish(place) == NO_WISH


def test_what_a_crashed_daemon_left_is_not_a_daemon(place, start):
    daemon = start("busy")
    for executor in executors(daemon):
        executor.kill()
    daemon.kill()
    daemon.wait()
    assert read_status(place)["pid"] == daemon.pid
    assert daemon_of(read_status(place)) is None
    assert "not running" in say(place, "pause")


def test_a_note_of_another_process_with_the_same_id_is_not_believed(place):
    note = {"pid": psutil.Process().pid, "updated_unix_ms": 1_000}
    assert daemon_of(note) is None
    assert daemon_of(note | {"updated_unix_ms": time.time_ns() // 1_000_000}) is not None
    assert daemon_of({}) is daemon_of({"pid": "x", "updated_unix_ms": 0}) is None


def test_a_wish_that_cannot_be_read_is_said(place):
    place.wish.write_bytes(b"nonsense")
    assert "does not say what the owner wants" in say(place, "status", exit_code=78)


@pytest.mark.parametrize("deadline", ["0s", "soon", "30"])
def test_a_deadline_that_is_none(place, deadline):
    write_wish(place, Wish(id="a", availability=Availability.OPEN))
    say(place, "pause", "--deadline", deadline, exit_code=2)
    assert read_wish(place).id == "a"
