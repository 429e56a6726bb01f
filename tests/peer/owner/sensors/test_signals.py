"""What systems answer, and what becomes of it; on each system what is not there says why."""

import sys

import psutil
import pytest

from peer.devices import nvml_name
from peer.owner.sensors import asking, network_cost, presence, supply
from peer.owner.sensors.asking import NotReadable, ask
from peer.owner.sensors.graphics import GraphicsSensor
from peer.owner.sensors.programs import running_programs


@pytest.mark.parametrize(("answer", "seconds"), [
    ("b false\nt 1764245000000000\n", 0.0), ("b true\nt 1764245000000000\n", 90.0)])
def test_logind(answer, seconds):
    assert presence.logind_idle_s(answer, 1_764_245_090.0) == pytest.approx(seconds)


def test_gnome_and_the_mac():
    assert presence.mutter_idle_s("(uint64 12345,)\n") == 12.345
    assert presence.hid_idle_s('  | "HIDIdleTime" = 2500000000\n') == 2.5


def test_windows_ticks_begin_anew():
    assert presence.ticks_idle_s(500, 2**32 - 500) == 1.0


@pytest.mark.parametrize("reader", [
    lambda text: presence.logind_idle_s(text, 0.0), presence.mutter_idle_s, presence.hid_idle_s])
@pytest.mark.parametrize("answer", ["", "s nonsense", "b maybe\nt x"])
def test_an_answer_that_says_nothing(reader, answer):
    with pytest.raises(NotReadable):
        reader(answer)


@pytest.mark.parametrize(("answer", "value"), [
    ("u 1\n", True), ("u 2\n", False), ("u 3", True), ("u 4", False), ("u 0\n", None), ("", None)])
def test_network_manager(answer, value):
    read = network_cost.network_manager_says(answer)
    assert read.value is value
    assert (read.problem == "") is (value is not None)


@pytest.mark.parametrize(("answer", "value"), [
    ("Unrestricted\r\n", False), ("Variable", True), ("Fixed", True), ("Unknown", None)])
def test_windows_connection_cost(answer, value):
    assert network_cost.windows_says(answer).value is value


@pytest.mark.parametrize("system", ["linux", "darwin", "plan9"])
@pytest.mark.parametrize("read", [presence.idle_s, network_cost.is_metered])
def test_a_system_without_its_programs_says_so(monkeypatch, system, read):
    monkeypatch.setattr(asking, "system", lambda: system)
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("DBUS_SESSION_BUS_ADDRESS", raising=False)
    found = read()
    assert found.value is None
    assert found.problem


def test_a_program_that_hangs_or_fails_is_not_waited_for():
    with pytest.raises(NotReadable, match="did not answer"):
        ask((sys.executable, "-c", "import time; time.sleep(60)"), timeout_s=0.2)
    with pytest.raises(NotReadable, match="out of order"):
        ask((sys.executable, "-c", "raise SystemExit('out of order')"))
    with pytest.raises(NotReadable, match="not on this system"):
        ask(("homespun-has-no-such-program",))
    assert asking.system() == sys.platform


class Battery:
    def __init__(self, power_plugged):
        self.power_plugged, self.percent = power_plugged, 80


@pytest.mark.parametrize(("battery", "value"), [
    (None, False), (Battery(True), False), (Battery(False), True), (Battery(None), None)])
def test_batteries(monkeypatch, battery, value):
    monkeypatch.setattr(psutil, "sensors_battery", lambda: battery, raising=False)
    assert supply.is_on_battery().value is value


def test_a_battery_that_fails(monkeypatch):
    def fail():
        raise OSError("EC timeout")

    monkeypatch.setattr(psutil, "sensors_battery", fail, raising=False)
    assert "EC timeout" in supply.is_on_battery().problem
    monkeypatch.delattr(psutil, "sensors_battery")
    assert supply.is_on_battery().value is None


def test_this_program_runs():
    name = psutil.Process().name().lower().removesuffix(".exe")
    assert name in running_programs().value


@pytest.mark.parametrize(("device", "visible", "name"), [
    ("cuda:0", "", "0"), ("cuda:1", "", "1"), ("cuda:0", "3", "3"),
    ("cuda:1", "2, GPU-abc", "GPU-abc"), ("cuda:2", "5", "2")])
def test_nvml_counts_all_devices(device, visible, name):
    assert nvml_name(device, visible) == name


def test_without_a_driver_each_reading_says_so(monkeypatch):
    import pynvml

    def no_driver():
        raise pynvml.NVMLError(pynvml.NVML_ERROR_LIBRARY_NOT_FOUND)

    monkeypatch.setattr(pynvml, "nvmlInit", no_driver)
    sensor = GraphicsSensor("cuda:0", list)
    read = sensor.read()
    for each in (read.temperature_c, read.power_w, read.others_share):
        assert each.value is None
        assert "NVIDIA driver" in each.problem
    assert sensor.energy_j() is None
