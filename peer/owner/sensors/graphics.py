"""Temperature, power and other users of an NVIDIA device, through NVML."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

from peer.devices import nvml_handle, nvml_name
from peer.owner.core.readings import Reading, unread

AVERAGED_S = 0.5
"""Energy over less time is too coarse for a power."""
MISSING = "there is no NVIDIA driver"


@dataclass(frozen=True, slots=True)
class GraphicsReadings:
    """One device at a moment; see `Readings`."""

    temperature_c: Reading[float]
    power_w: Reading[float]
    others_share: Reading[float]


class GraphicsSensor:
    """Reads one device. Opens the driver when first asked, and again after an error."""

    def __init__(self, device: str, own_processes: Callable[[], Collection[int]]) -> None:
        """Prepare.

        Args:
            device: `cuda:N`, as the frameworks count.
            own_processes: ids of those that compute for this peer.
        """
        self._device = device
        self._own_processes = own_processes
        self._nvml: Any = None
        self._handle: Any = None
        self._energy: tuple[float, float] | None = None
        self._seen_us = 0

    def read(self) -> GraphicsReadings:
        """The device now; what it does not say is unread."""
        try:
            self._open()
        except Exception as error:  # no library, no driver, no such device
            self._handle = None
            nothing: Reading[float] = unread(f"{MISSING}, or it does not answer ({error!s:.80})")
            return GraphicsReadings(nothing, nothing, nothing)
        return GraphicsReadings(
            self._each(self._temperature), self._each(self._power), self._each(self._others))

    def energy_j(self) -> float | None:
        """Energy of the device since its driver was loaded; None if it does not count it."""
        try:
            self._open()
            return float(self._nvml.nvmlDeviceGetTotalEnergyConsumption(self._handle)) / 1000
        except Exception:
            return None

    # --- parts ---------------------------------------------------------------------------------

    def _open(self) -> None:
        if self._handle is not None:
            return
        import pynvml

        pynvml.nvmlInit()
        self._nvml = pynvml
        self._handle = nvml_handle(pynvml, nvml_name(self._device))

    def _each(self, question: Callable[[], Reading[float]]) -> Reading[float]:
        try:
            return question()
        except Exception as error:  # each device knows less than the next one
            return unread(f"the driver says: {error!s:.80}")

    def _temperature(self) -> Reading[float]:
        nvml = self._nvml
        value = nvml.nvmlDeviceGetTemperature(self._handle, nvml.NVML_TEMPERATURE_GPU)
        return Reading(float(value), "NVML")

    def _power(self) -> Reading[float]:
        """The average since the last reading, as a device that rests in between draws in bursts."""
        now_s, energy_j = time.monotonic(), self.energy_j()
        before, self._energy = self._energy, None if energy_j is None else (now_s, energy_j)
        if before is not None and energy_j is not None and now_s - before[0] >= AVERAGED_S:
            return Reading((energy_j - before[1]) / (now_s - before[0]), "NVML energy")
        return Reading(self._nvml.nvmlDeviceGetPowerUsage(self._handle) / 1000, "NVML power")

    def _others(self) -> Reading[float]:
        nvml, own = self._nvml, set(self._own_processes())
        known = {process.pid for ask in (
            nvml.nvmlDeviceGetComputeRunningProcesses, nvml.nvmlDeviceGetGraphicsRunningProcesses)
            for process in ask(self._handle)}
        if own and not own & known:
            return unread("the driver does not show this peer's own processes, so that it cannot "
                          "tell others' from them")
        try:
            samples = nvml.nvmlDeviceGetProcessUtilization(self._handle, self._seen_us)
        except nvml.NVMLError_NotFound:
            samples = []  # nobody has used it since
        newest: dict[int, tuple[int, int]] = {}
        for sample in samples:
            newest[sample.pid] = max(
                newest.get(sample.pid, (0, 0)), (sample.timeStamp, sample.smUtil))
            self._seen_us = max(self._seen_us, sample.timeStamp)
        percent = sum(used for pid, (_, used) in newest.items() if pid not in own)
        return Reading(min(1.0, percent / 100), "NVML")
