"""An NVIDIA device as its driver describes it, with a driver that plays all cases."""

from types import SimpleNamespace

import pytest

from peer.owner.sensors.graphics import GraphicsSensor

OWN, GAME = 100, 200


class Driver:
    """What the sensor asks of NVML."""

    NVML_TEMPERATURE_GPU = 0

    class NVMLError_NotFound(Exception):  # noqa: N801, N818 - NVML's own name
        pass

    def __init__(self):
        self.energy_mj, self.processes, self.samples = 1_000, [OWN, GAME], []

    def nvmlDeviceGetTemperature(self, handle, kind):  # noqa: N802
        return 71

    def nvmlDeviceGetTotalEnergyConsumption(self, handle):  # noqa: N802
        return self.energy_mj

    def nvmlDeviceGetPowerUsage(self, handle):  # noqa: N802
        return 250_000

    def nvmlDeviceGetComputeRunningProcesses(self, handle):  # noqa: N802
        return [SimpleNamespace(pid=pid) for pid in self.processes]

    def nvmlDeviceGetGraphicsRunningProcesses(self, handle):  # noqa: N802
        return []

    def nvmlDeviceGetProcessUtilization(self, handle, since_us):  # noqa: N802
        found = [each for each in self.samples if each.timeStamp > since_us]
        if not found:
            raise self.NVMLError_NotFound
        return found


def sample(pid, percent, at_us):
    return SimpleNamespace(pid=pid, smUtil=percent, timeStamp=at_us)


@pytest.fixture
def driver():
    return Driver()


@pytest.fixture
def sensor(driver):
    sensor = GraphicsSensor("cuda:0", lambda: [OWN])
    sensor._nvml, sensor._handle = driver, "handle"
    return sensor


def test_power_is_averaged_over_what_passed(sensor, driver, monkeypatch):
    now = [10.0]
    monkeypatch.setattr("peer.owner.sensors.graphics.time.monotonic", lambda: now[0])
    assert (sensor.read().power_w.value, sensor.read().power_w.source) == (250.0, "NVML power")
    now[0], driver.energy_mj = 14.0, 401_000
    assert (read := sensor.read().power_w).value == pytest.approx(100.0)
    assert read.source == "NVML energy"


def test_others_are_told_from_oneself_by_the_newest_sample(sensor, driver):
    assert sensor.read().others_share.value == 0.0
    driver.samples = [sample(OWN, 90, 1), sample(GAME, 70, 1), sample(GAME, 40, 2)]
    assert sensor.read().others_share.value == pytest.approx(0.4)
    assert sensor.read().others_share.value == 0.0, "nobody has used it since"


def test_a_driver_that_counts_processes_otherwise_is_not_believed(sensor, driver):
    driver.processes = [GAME]
    assert "own processes" in sensor.read().others_share.problem


def test_what_a_device_does_not_know_is_unread(sensor, driver):
    def unknown(*_):
        raise RuntimeError("Not Supported")

    driver.nvmlDeviceGetTotalEnergyConsumption = driver.nvmlDeviceGetPowerUsage = unknown
    read = sensor.read()
    assert read.temperature_c.value == 71.0
    assert read.power_w.problem == "the driver says: Not Supported"
    assert sensor.energy_j() is None
