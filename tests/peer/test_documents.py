"""What commands print as JSON fits the types that docs/schemas is made from."""

from __future__ import annotations

import json
import os
import re
import time
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner

from peer.cli import cli as peer
from peer.cli.documents import DOCUMENTS
from peer.core.events import Availability
from peer.ledger import Given, Ledger
from peer.owner.core.allowance import decide
from peer.owner.core.limits import OwnerLimits
from peer.owner.core.wish import Wish
from peer.owner.sensors.machine import Machine
from peer.status_note import what_is_allowed
from tests.schemas import commands

ROOT = Path(__file__).resolve().parents[2]


def fits(place, *arguments):
    done = CliRunner().invoke(peer, [*arguments, "--json", "--dir", str(place.root)])
    said = json.loads(done.stdout)
    document = msgspec.convert(said, DOCUMENTS[said["schema"]], strict=True)
    assert document.schema_version == 1
    return said


WITHOUT_DAEMON = [
    ("status",), ("pause", "30m"), ("resume",), ("finish",), ("leave",), ("get",),
    ("get", "schedule"), ("set", "upload", "10Mbit/s"), ("check",), ("netcheck",), ("earnings",),
    ("rates",), ("service", "status")]


@pytest.mark.parametrize("arguments", WITHOUT_DAEMON)
def test_without_a_daemon(place, arguments):
    fits(place, *arguments)


def test_every_command_that_asks_or_acts_has_json_and_is_tried():
    """`bundle` below; `join` prints what `homespun join` does, where a network is (e2e)."""
    with_json, without = commands(peer)
    tried = {name for name in with_json for call in WITHOUT_DAEMON
             if " ".join(call).startswith(name)}
    assert with_json - tried == {"bundle", "join"}
    assert without == {"run", "top", "completion", "service install", "service uninstall"}


def test_the_status_of_a_daemon(place):
    machine = Machine("cpu", place.root, list).read(OwnerLimits())
    allowance, _ = decide(OwnerLimits(), Wish(id="a", availability=Availability.PAUSED), machine)
    place.status.write_bytes(msgspec.json.encode({
        "pid": os.getpid(), "updated_unix_ms": time.time_ns() // 1_000_000, "name": "attic",
        "overrides": {"memory_bytes": 5}, "device": "cpu", "executor": "null", "peer_id": "peer_1",
        "broker": "host:1", "connected": True, "gpu": "", "connection": {
            "is_up": True, "since_unix_ms": 1, "reason": "", "retry_unix_ms": 0},
        "tensor_address": "h:1", "reached_by": ["peer_2"],
        "wish_id": "a", **what_is_allowed(allowance, machine),
        "traffic": {"sent_bytes": 1, "received_bytes": 2, "far_bytes": 3, "month_bytes": 4},
        "leases": [{"job_id": "job_000001", "segment": 1, "phase": "running", "steps_done": 3,
                    "waiting_for": "", "waiting_from": "", "waiting_s": 0.0, "problem": ""}],
        "standbys": [{"job_id": "job_000001", "segment": 0, "level": "", "asked_level": "hot",
                      "problem": ""}],
        "snapshots": {"count": 1, "bytes": 5}}))
    assert fits(place, "status")["reasons"][0]["kind"] == "owner_paused"


def test_the_daemons_note_has_these_fields():
    """What the daemon writes and what the schema says are one list."""
    text = (ROOT / "peer" / "daemon.py").read_text(encoding="utf-8")
    note = text[text.index("status = {"):text.index("write_status, self._parts")]
    written = set(re.findall(r'^ {16}"(\w+)":', note, re.MULTILINE))
    assert written
    assert written <= set(DOCUMENTS["peer_status"].__struct_fields__)


def test_earnings_and_bundle(place, tmp_path):
    Ledger(place.ledger).add([Given(day="2099-01-01", job_id="job_000001", tasks=1, flops=2.0)])
    assert fits(place, "earnings")["total"]["tasks"] == 1
    fits(place, "bundle", "--yes", "--output", str(tmp_path / "b.zip"))


def test_every_json_command_has_a_schema():
    """Schemas are named where they are printed."""
    printed = set()
    for path in (ROOT / "peer" / "cli").glob("*.py"):
        printed |= set(re.findall(r'(?:print_json|_report)\(\s*"(\w+)"', path.read_text("utf-8")))
    assert printed - {"identity"} == set(DOCUMENTS)
