"""What a daemon says of itself: leases and their waits, standbys, snapshots."""

import json
import os
import re
import socket
import subprocess
import sys
import time
from dataclasses import replace

import pytest
from click.testing import CliRunner

from homespun.errors import Code, HomespunError
from peer.cli import cli as peer_command
from peer.core import events as ev
from peer.core.machine import Peer
from peer.settings import PeerDirectory, PeerSettings
from peer.snapshots.keeper import HeldSnapshot
from peer.status_note import note_end, read_status, what_is_held, write_status

SECOND = 10**9
JOB = {"job_id": "job_000001", "segment": 1, "token": 1}


@pytest.fixture
def core(tiny):
    """A core that waits for a tensor of its neighbour, and stands by for another job."""
    core = Peer()
    more = {"in_flight": 2, "segments": 2, "stall_timeout_ms": 60_000}
    core.apply(ev.AssignmentReceived(
        at_ns=0, job_id=JOB["job_id"], token=1, spec=tiny.spec, segment=tiny.segments[1], **more))
    core.apply(ev.SegmentLoaded(at_ns=0, **JOB))
    core.apply(ev.StartReceived(at_ns=SECOND, **JOB, members=tuple(
        ev.Member(segment=index, peer_id=f"peer_{index}", token=1, tensor_address="host:1")
        for index in range(2))))
    core.apply(ev.StandByReceived(
        at_ns=SECOND, job_id="job_000002", segment=0, token=3, spec=tiny.spec,
        program=tiny.segments[0], level=ev.StandbyLevel.HOT, source="peer_7", **more))
    return core


def held(core, snapshots=()):
    return what_is_held(core.state, snapshots, now_ns=5 * SECOND)


def test_a_lease_says_what_it_waits_for(core):
    lease, = held(core)["leases"]
    assert lease.pop("waiting_for").startswith("activation of")
    assert lease == {
        "job_id": "job_000001", "segment": 1, "phase": "running", "steps_done": 0,
        "waiting_from": "peer_0", "waiting_s": 4.0, "problem": ""}


def test_a_standby_says_how_far_it_is(core):
    standby = {"job_id": "job_000002", "segment": 0, "asked_level": "hot"}
    assert held(core)["standbys"] == [standby | {"level": "", "problem": ""}]
    duty = {"job_id": "job_000002", "segment": 0, "token": 3}
    core.apply(ev.StandbyPrepared(at_ns=SECOND, **duty, level=ev.StandbyLevel.WARM))
    assert held(core)["standbys"] == [standby | {"level": "warm", "problem": ""}]


def test_snapshots_are_counted_as_they_are_kept():
    whole = HeldSnapshot("job_000001", 1, 10, "a", 1_000, shard=0, data_shards=1)
    shard = HeldSnapshot("job_000001", 0, 10, "b", 1_000, shard=2, data_shards=3)
    assert held(Peer(), [whole, shard])["snapshots"] == {"count": 2, "bytes": 1_334}


def test_the_command_shows_all_of_it(core, tmp_path):
    place = PeerDirectory(tmp_path)
    place.save_settings(PeerSettings(name="attic"))

    write_status(place, json.dumps({
        "pid": os.getpid(), "updated_unix_ms": time.time_ns() // 1_000_000, "name": "attic",
        "peer_id": "peer_1", "device": "cpu", "executor": "null", "broker": "host:1",
        "connected": True, "availability": "open",
        **held(core, [HeldSnapshot("job_000001", 1, 10, "a", 2_048, 0, 1)])}).encode())
    shown = CliRunner().invoke(peer_command, ["status", "--dir", str(tmp_path)])
    assert shown.exit_code == 0, shown.output
    for part in ("attic (peer_1) on cpu with null, open, connected to host:1",
                 "from peer_0 for 4.0s", "nothing yet, asked for hot",
                 "Keeps 1 snapshot, 2.00 KiB."):
        assert part in shown.stdout


def shown(place, *flags):
    done = CliRunner().invoke(peer_command, ["status", *flags, "--dir", str(place.root)])
    assert done.exit_code == 0, done.output
    return done.stdout


def test_a_daemon_that_ended_has_said_why(tmp_path):
    place = PeerDirectory(tmp_path)
    place.save_settings(PeerSettings(name="attic"))
    assert shown(place) == "attic is not running. Start it with: peer run\n"
    minute_ago_ms = time.time_ns() // 1_000_000 - 61_000
    note_end(place, HomespunError(Code.NOT_ALLOWED, "peer_1 is banned.\x1b"), minute_ago_ms)
    text = shown(place)
    assert re.search(
        r"^It ended 1m \d\ds ago: peer_1 is banned\.\? \[NOT_ALLOWED\]$", text, re.MULTILINE)
    assert "  Ask the operator of the network." in text
    ended = json.loads(shown(place, "--json"))["ended"]
    assert (ended["code"], ended["at_unix_ms"]) == ("NOT_ALLOWED", minute_ago_ms)
    note_end(place, None, minute_ago_ms)
    assert "it was told to leave or to stop" in shown(place)


def test_a_daemon_that_was_killed_could_not_say_why(tmp_path):
    place = PeerDirectory(tmp_path)
    place.save_settings(PeerSettings(name="attic"))
    write_status(place, b'{"pid": 4000000, "updated_unix_ms": 1000}')
    assert "it was killed, or the machine stopped" in shown(place)
    assert json.loads(shown(place, "--json"))["ended"]["at_unix_ms"] == 1000


def test_one_that_could_not_start_leaves_the_other_ones_note(tmp_path):
    place = PeerDirectory(tmp_path)
    note = {"pid": os.getpid(), "updated_unix_ms": time.time_ns() // 1_000_000}
    write_status(place, json.dumps(note).encode())
    note_end(place, HomespunError(Code.BAD_CONFIGURATION, "another one"), 1)
    assert read_status(place) == note


def test_a_run_that_fails_is_noted(place):
    """A real `peer run`, whose port somebody else has."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        settings = replace(place.load_settings(), listen_host="127.0.0.1",
                           listen_port=taken.getsockname()[1])
        place.save_settings(settings)
        done = subprocess.run(
            [sys.executable, "-P", "-m", "peer", "run", "--dir", str(place.root)],
            stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    assert done.returncode == HomespunError(Code.BAD_CONFIGURATION, "").exit_code, done.stderr
    text = shown(place)
    assert "another program has the port" in text
    assert "[BAD_CONFIGURATION]" in text


@pytest.mark.parametrize("content", [b"", b"[1]", b'{"pid": 1', b"\xff"])
def test_a_note_that_is_none_says_nothing(tmp_path, content):
    place = PeerDirectory(tmp_path)
    assert read_status(place) == {}
    place.status.write_bytes(content)
    assert read_status(place) == {}


def test_the_command_shows_why_there_is_no_work(tmp_path):
    place = PeerDirectory(tmp_path)
    place.save_settings(PeerSettings(name="attic"))
    write_status(place, json.dumps({
        "pid": os.getpid(), "updated_unix_ms": time.time_ns() // 1_000_000, "name": "attic",
        "peer_id": "peer_1", "device": "cpu", "executor": "null", "broker": "host:1",
        "connected": True, "availability": "open", "no_work": [
            {"rule": "memory", "jobs": 2, "text": "job_000007: 3 too few.",
             "change": "lend more: peer set memory"},
            {"rule": "no_such", "jobs": 0, "text": "Nobody\x1b[31m knows.", "change": ""}],
    }).encode())
    shown = CliRunner().invoke(peer_command, ["status", "--dir", str(tmp_path)])
    assert shown.exit_code == 0, shown.output
    assert ("  2 jobs, memory: job_000007: 3 too few. What would help: lend more: peer set memory."
            in shown.stdout)
    assert "  Nobody?[31m knows.\n" in shown.stdout
