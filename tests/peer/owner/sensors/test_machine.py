"""A machine is read as far as limits need it; its zone is the system's, with the system's jumps."""

import os
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from peer.owner.core.limits import NO_LIMITS, IdleRule
from peer.owner.sensors import machine as machines
from peer.owner.sensors.machine import NOT_ASKED, Machine
from peer.owner.sensors.zone import SystemZone


@pytest.fixture
def machine(tmp_path):
    return Machine("cpu", tmp_path, list, lambda: 42)


def test_without_limits_nothing_is_asked(machine, monkeypatch):
    for name in ("idle_s", "is_on_battery", "is_metered", "running_programs"):
        monkeypatch.setattr(machines, name, pytest.fail)
    read = machine.read(NO_LIMITS)
    assert read.moved_bytes == 42
    for each in (read.idle_s, read.is_on_battery, read.is_metered, read.programs,
                 read.free_disk_bytes, read.free_memory_bytes):
        assert (each.value, each.problem) == (None, NOT_ASKED)
    assert read.temperature_c.problem == "it is not read for a processor"


def test_what_limits_need_is_asked(machine):
    read = machine.read(replace(
        NO_LIMITS, only_when_idle=IdleRule.YES, on_battery=False, on_metered=False,
        programs=("x",), free_disk_bytes=1, free_memory_bytes=1))
    assert read.free_disk_bytes.value > 0
    assert read.free_memory_bytes.value > 0
    assert read.programs.value
    for each in (read.idle_s, read.is_on_battery, read.is_metered):
        assert (each.value is None) is bool(each.problem)


def test_a_reader_that_breaks_costs_no_more_than_its_limit(machine, monkeypatch):
    def breaks():
        raise RuntimeError("no such counter")

    monkeypatch.setattr(machines, "running_programs", breaks)
    read = machine.read(replace(NO_LIMITS, programs=("x",)))
    assert "no such counter" in read.programs.problem


def test_a_directory_that_is_gone_says_so(tmp_path):
    gone = Machine("cpu", tmp_path / "gone", list)
    assert gone.read(replace(NO_LIMITS, free_disk_bytes=1)).free_disk_bytes.problem


@pytest.mark.skipif(not hasattr(time, "tzset"), reason="the zone of a process cannot be set here")
@pytest.mark.parametrize("name", ["Europe/Berlin", "America/New_York", "Asia/Kathmandu", "UTC"])
def test_the_system_zone_is_the_systems(monkeypatch, name):
    monkeypatch.setenv("TZ", name)
    time.tzset()
    try:
        zone, known = SystemZone(), ZoneInfo(name)
        start = datetime(2026, 1, 1, tzinfo=UTC)
        for hours in range(0, 366 * 24, 1):
            moment_s = (start + timedelta(hours=hours, minutes=30)).timestamp()
            ours, theirs = (datetime.fromtimestamp(moment_s, each) for each in (zone, known))
            assert ours.replace(tzinfo=None) == theirs.replace(tzinfo=None)
            assert ours.fold == theirs.fold
            assert ours.timestamp() == moment_s
    finally:
        monkeypatch.undo()
        time.tzset()
        assert "TZ" not in os.environ or os.environ["TZ"]
