"""Checks before lending: what each finds, that none raises, and what the commands say."""

import json
import os
import socket
import time
from dataclasses import replace

import pytest
from click.testing import CliRunner

from homespun.errors import Code, HomespunError
from homespun.identity import directory as identity_directory
from peer import devices
from peer.cli import cli as peer
from peer.owner.core.limits import NO_LIMITS, IdleRule
from peer.preflight import machine_checks
from peer.preflight.finding import Finding, Verdict, found_by
from peer.preflight.machine_checks import MachineChecks
from peer.preflight.network import NetworkFacts, findings, kind_of
from peer.settings import PeerDirectory, PeerSettings

FACTS = NetworkFacts(
    broker="nas.local:7700", trips_s=(0.001, 0.003, 0.002), problem="", own_host="192.168.1.5",
    ipv6_host="", told="192.168.1.5:9000", is_told_open=True, reached_by=0)


def checks(place, is_running=False, **changes):
    return MachineChecks(place, replace(place.load_settings(), **changes), is_running)


def only(check):
    finding, = check()
    return finding


def test_checks_that_cannot_be_made_have_failed_with_the_reason():
    def refuses():
        raise HomespunError(Code.BAD_CONFIGURATION, "No such thing.")
        yield

    def breaks():
        raise OSError("I/O error")
        yield

    def passes():
        yield Finding(id="c", verdict=Verdict.OK, actual="x", required="x")

    found = found_by([("a", refuses), ("b", breaks), ("c", passes)])
    assert [(each.id, each.verdict) for each in found] == [
        ("a", "fail"), ("b", "fail"), ("c", "ok")]
    assert found[0].actual == "No such thing."
    assert found[0].remedy


def test_a_port_that_is_taken(place):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        taken_finding = only(checks(place, listen_host="127.0.0.1", listen_port=port).port)
        assert taken_finding.verdict is Verdict.FAIL
        assert taken_finding.remedy
        assert only(checks(place, True, listen_port=port).port).verdict is Verdict.OK
    assert only(checks(place, listen_host="127.0.0.1").port).verdict is Verdict.OK


def test_more_memory_than_there_is(place):
    assert only(checks(place, memory_bytes=1 << 60).memory).verdict is Verdict.FAIL
    assert only(checks(place).memory).verdict is Verdict.OK


def test_a_disk_that_is_too_small(place):
    limits = replace(NO_LIMITS, free_disk_bytes=1 << 60)
    assert only(checks(place, limits=limits).disk).verdict is Verdict.FAIL


def test_limits_that_forbid_and_limits_that_cannot_be_kept(place, monkeypatch):
    assert only(checks(place).limits).verdict is Verdict.OK
    forbids = replace(NO_LIMITS, free_memory_bytes=1 << 60)
    assert only(checks(place, limits=forbids).limits).id == "limits.memory_short"
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("DBUS_SESSION_BUS_ADDRESS", raising=False)
    unknown = only(checks(place, limits=replace(NO_LIMITS, only_when_idle=IdleRule.YES)).limits)
    assert unknown.id == "limits.use_unknown"
    assert "only-when-idle no" in unknown.remedy


def test_a_gpu_that_lies_idle_and_one_that_is_not_there(place, monkeypatch):
    monkeypatch.setattr(machine_checks.devices, "gpu_names", lambda: ["RTX 3080"])
    monkeypatch.setattr(devices, "gpu_names", lambda: ["RTX 3080"])
    idle = only(checks(place, device="auto", executor="null").device)
    assert idle.verdict is Verdict.WARN
    assert "RTX 3080 is not used" in idle.actual
    assert only(checks(place, device="cuda:3").device).verdict is Verdict.FAIL
    assert only(checks(place, device="cpu").device).verdict is Verdict.OK


def test_an_executor_that_is_not_installed(place):
    found = found_by([("executor", checks(place, executor="null").executor)])
    assert found[0].verdict is Verdict.OK


def test_a_certificate_is_judged_by_its_own_life(place, monkeypatch):
    """A peer that has just joined is not warned, however short the network's certificates live."""
    assert only(checks(place).identity).verdict is Verdict.OK
    held = identity_directory.load(place.identity)
    monkeypatch.setattr(machine_checks, "utc_now", lambda: held.expires_at)
    expired = only(checks(place).identity)
    assert expired.verdict is Verdict.WARN
    assert "`peer run` renews it" in expired.remedy


def test_a_broker_that_is_away(place):
    assert only(checks(place).broker).verdict is Verdict.FAIL


def test_the_command_names_what_fails_and_ends_with_1(place):
    done = CliRunner().invoke(peer, ["check", "--json", "--dir", str(place.root)])
    assert done.exit_code == 1, done.output
    said = json.loads(done.stdout)
    assert said["passed"] is False
    by_id = {each["id"]: each for each in said["findings"]}
    assert by_id["broker"]["verdict"] == "fail"
    assert {"python", "directory", "disk", "identity", "clock", "executor", "device", "memory",
            "port", "limits"} <= set(by_id)
    assert all(each["actual"] and each["required"] for each in said["findings"])
    text = CliRunner().invoke(peer, ["check", "--dir", str(place.root)]).stdout
    assert "FAIL  broker" in text
    for each in said["findings"]:
        assert f"(required: {each['required']})" in text


def test_without_an_identity_each_check_is_made_all_the_same(tmp_path):
    place = PeerDirectory(tmp_path)
    place.save_settings(PeerSettings(name="attic", device="cpu", executor="null"))
    found = {each.id: each for each in found_by(checks(place).all())}
    assert found["identity"].verdict is Verdict.FAIL
    assert found["python"].verdict is Verdict.OK


# --- the network ---------------------------------------------------------------------------------


def reachable(**changes):
    return next(each for each in findings(replace(FACTS, **changes)) if each.id == "reachable")


@pytest.mark.parametrize(("changes", "verdict", "word"), [
    ({}, "warn", "forward port 9000"),
    ({"told": "8.8.4.4:9000"}, "ok", "public"),
    ({"told": ""}, "warn", "peer run"),
    ({"is_told_open": False}, "fail", "firewall"),
    ({"reached_by": 2}, "ok", "2 other peers"),
    ({"told": "100.64.1.2:9000"}, "warn", "shared by a provider"),
])
def test_whether_others_can_reach_this_peer(changes, verdict, word):
    found = reachable(**changes)
    assert found.verdict == verdict
    assert word in found.actual + found.remedy


def test_the_broker_and_its_distance():
    first = next(findings(FACTS))
    assert first.actual == "nas.local:7700 answers, round trip 2.0 ms"
    away = next(findings(replace(FACTS, problem="connection refused")))
    assert away.verdict is Verdict.FAIL


@pytest.mark.parametrize(("host", "kind"), [
    ("127.0.0.1", "this machine only"), ("10.1.1.1", "private"), ("8.8.8.8", "public"),
    ("169.254.1.1", "this cable only"), ("nas.local", "a name"), ("2606:4700::1", "public")])
def test_kinds_of_addresses(host, kind):
    assert kind_of(host) == kind


def test_netcheck_while_the_daemon_runs(place):
    with socket.create_server(("127.0.0.1", 0)) as listening:
        told = f"127.0.0.1:{listening.getsockname()[1]}"
        place.status.write_text(json.dumps({
            "pid": os.getpid(), "updated_unix_ms": time.time_ns() // 1_000_000,
            "tensor_address": told, "reached_by": []}))
        done = CliRunner().invoke(peer, ["netcheck", "--json", "--dir", str(place.root)])
    by_id = {each["id"]: each for each in json.loads(done.stdout)["findings"]}
    assert done.exit_code == 1
    assert by_id["broker"]["verdict"] == "fail"
    assert by_id["reachable"]["actual"] == f"{told} (this machine only) answers from here"
