"""What is remembered of a machine: the worst of the last seconds, counters, clocks."""

import psutil
import pytest

from homespun.errors import Code, HomespunError
from peer import vitals
from peer.vitals import VitalsLog

GIB = 2**30
ERROR = HomespunError(Code.EXECUTOR_DIED, "it ended")


class Machine:
    def __init__(self):
        self.steady_s = 1_000.0
        self.wall_s = 5_000.0
        self.available = 8 * GIB
        self.oom_kills = 3

    def sleep(self, seconds):
        self.steady_s += seconds
        self.wall_s += seconds


@pytest.fixture
def machine(monkeypatch):
    machine = Machine()
    memory = type("Memory", (), {
        "available": property(lambda _: machine.available), "total": 16 * GIB})
    monkeypatch.setattr(vitals.time, "monotonic", lambda: machine.steady_s)
    monkeypatch.setattr(vitals.time, "time", lambda: machine.wall_s)
    monkeypatch.setattr(vitals.psutil, "virtual_memory", memory)
    monkeypatch.setattr(vitals, "_oom_kills", lambda _: machine.oom_kills)
    return machine


def test_the_least_memory_of_the_last_seconds_counts(machine, tmp_path):
    log = VitalsLog(tmp_path)
    machine.available = GIB
    machine.sleep(2)
    log.sample()
    machine.available = 8 * GIB
    machine.sleep(2)
    facts = log.facts(ERROR, exit_status=-9)
    assert (facts.memory_available_bytes, facts.memory_total_bytes) == (GIB, 16 * GIB)
    assert (facts.code, facts.message, facts.exit_status) == ("EXECUTOR_DIED", "it ended", -9)
    assert facts.disk_free_bytes > 0
    machine.sleep(60)
    assert log.facts(ERROR).memory_available_bytes == 8 * GIB


def test_only_new_kills_count(machine, tmp_path):
    log = VitalsLog(tmp_path)
    assert log.facts(ERROR).oom_kills == 0
    machine.oom_kills += 2
    assert log.facts(ERROR).oom_kills == 2
    machine.sleep(60)
    assert log.facts(ERROR).oom_kills == 0


def test_a_clock_that_jumps_is_seen(machine, tmp_path):
    log = VitalsLog(tmp_path)
    machine.sleep(30)
    assert log.facts(ERROR).clock_jump_s == pytest.approx(0)
    machine.wall_s += 3_600
    assert log.facts(ERROR).clock_jump_s == pytest.approx(3_600)


def test_this_machine_can_be_sampled(tmp_path):
    facts = VitalsLog(tmp_path).facts(ERROR)
    assert 0 < facts.memory_available_bytes <= facts.memory_total_bytes
    assert abs(facts.clock_jump_s) < 5
    if psutil.LINUX:
        assert facts.oom_kills == 0


def test_a_place_that_is_gone_has_no_free_bytes(tmp_path):
    assert VitalsLog(tmp_path / "gone").facts(ERROR).disk_free_bytes is None
