"""`peer earnings`: sums by day and job, JSON and CSV; and `peer top` as a picture."""

import csv
import io
import json
import os
import time

import pytest
from click.testing import CliRunner
from rich.console import Console

from peer.cli import cli as peer
from peer.cli.top import picture
from peer.ledger import Given, Ledger
from peer.settings import PeerDirectory, PeerSettings

JOB = "job_000001"


@pytest.fixture
def place(tmp_path):
    place = PeerDirectory(tmp_path)
    place.save_settings(PeerSettings(name="attic"))
    return place


@pytest.fixture
def given(place):
    Ledger(place.ledger).add([
        Given(day="2026-11-26", job_id=JOB, tasks=10, flops=2e12, device_s=1800.0,
              energy_j=360_000.0, sent_bytes=1 << 20, received_bytes=2 << 20, far_bytes=3 << 20),
        Given(day="2026-11-27", job_id=JOB, tasks=5, flops=1e12, device_s=1800.0),
        Given(day="2026-11-27", job_id="", sent_bytes=512)])


def say(place, *arguments):
    done = CliRunner().invoke(peer, [*arguments, "--dir", str(place.root)])
    assert done.exit_code == 0, done.output
    return done.stdout


def test_nothing_was_given_yet(place):
    assert say(place, "earnings", "--since", "2026-11-01") == (
        "Nothing was given since 2026-11-01.\n")


def test_by_day_and_by_job(place, given):
    lines = [line.split() for line in say(place, "earnings", "--since", "2026-11-01").splitlines()]
    assert lines[1] == ["2026-11-26", "10", "2", "0.50", "0.100", "1.00", "MiB", "2.00", "MiB",
                        "3.00", "MiB"]
    assert lines[-1][:4] == ["total", "15", "3", "1.00"]
    by_job = say(place, "earnings", "--since", "2026-11-01", "--by", "job")
    assert [line.split()[0] for line in by_job.splitlines()] == ["job", JOB, "no", "total"]
    later = json.loads(say(place, "earnings", "--since", "2026-11-27", "--json"))
    assert later["total"]["tasks"] == 5
    assert [each["job_id"] for each in later["entries"]] == ["", JOB]


def test_csv_has_every_row_and_column(place, given):
    text = say(place, "earnings", "--since", "2026-11-01", "--csv")
    rows = list(csv.DictReader(io.StringIO(text)))
    assert len(rows) == 3
    assert rows[0]["energy_j"] == "360000.0"
    assert list(rows[0]) == list(Given.__dataclass_fields__)


@pytest.mark.parametrize("since", ["sometime", "2026-13-01"])
def test_a_since_that_is_none(place, since):
    done = CliRunner().invoke(peer, ["earnings", "--since", since, "--dir", str(place.root)])
    assert done.exit_code == 2


def note(**changes):
    return {
        "memory": {"processes": 1, "process_bytes": 3 << 20, "device_bytes": 5 << 30},
        "running": True, "name": "attic", "peer_id": "peer_1", "device": "RTX", "executor": "torch",
        "availability": "paused", "connected": True, "duty": 0.5, "updated_unix_ms": 1_000_000,
        "readings": {"temperature_c": {"value": 81.0}, "power_w": {"value": None}},
        "reasons": [{"text": "it runs on battery", "change": "plug it in"}],
        "leases": [{"job_id": JOB, "segment": 1, "phase": "running", "steps_done": 10,
                    "waiting_for": "", "waiting_from": "", "waiting_s": 0.0}],
        "standbys": [{"job_id": "job_000002", "segment": 0, "level": "warm"}],
        "traffic": {"sent_bytes": 1 << 20, "received_bytes": 0, "far_bytes": 0, "month_bytes": 7},
        **changes}


def drawn(said, before=None):
    console = Console(width=120, file=io.StringIO())
    console.print(picture(said, before))
    return console.file.getvalue()


def test_the_picture_shows_state_reasons_work_and_traffic():
    text = drawn(note())
    for part in ("attic (peer_1)", "paused", "duty 50%, 81 °C", "it runs on battery. plug it in",
                 "1 process computes, with 3.00 MiB; all programs use 5.00 GiB of the GPU",
                 JOB, "standby, warm", "sent 1.00 MiB", "month beyond the LAN: 7 B"):
        assert part in text


def test_rates_come_from_two_pictures():
    later = note(updated_unix_ms=1_002_000, traffic={
        "sent_bytes": 3 << 20, "received_bytes": 0, "far_bytes": 0, "month_bytes": 7})
    later["leases"][0]["steps_done"] = 15
    text = drawn(later, note())
    assert "up 1.00 MiB/s" in text
    assert "2.50" in text


def test_once_prints_and_ends(place):
    assert "attic is not running" in say(place, "top", "--once")
    place.status.write_text(json.dumps({
        **note(), "pid": os.getpid(), "updated_unix_ms": time.time_ns() // 1_000_000}))
    assert JOB in say(place, "top")
