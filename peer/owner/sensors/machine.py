"""One machine, read as far as its owner's limits need it."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Collection
from pathlib import Path
from typing import TypeVar

import psutil

from peer.owner.core.limits import IdleRule, OwnerLimits
from peer.owner.core.readings import Reading, Readings, unread
from peer.owner.sensors.graphics import GraphicsReadings, GraphicsSensor
from peer.owner.sensors.network_cost import is_metered
from peer.owner.sensors.presence import idle_s
from peer.owner.sensors.programs import running_programs
from peer.owner.sensors.supply import is_on_battery
from peer.owner.sensors.zone import SystemZone

T = TypeVar("T")
METERED_LOOK_S = 60.0
"""A network seldom changes, and asking Windows for it takes a second."""
NOT_ASKED = "no limit needs it"


class Machine:
    """Reads what limits need; blocks for up to a few seconds, so call it in a thread."""

    def __init__(
        self, device: str, directory: Path, own_processes: Callable[[], Collection[int]],
        moved_bytes: Callable[[], int] = lambda: 0,
    ) -> None:
        """Prepare.

        Args:
            device: that is lent: `cpu` or `cuda:N`.
            directory: on the disk that matters.
            own_processes: ids of those that compute for this peer.
            moved_bytes: beyond the local network in this quota month.
        """
        self._directory = directory
        self._moved_bytes = moved_bytes
        self._is_gpu = device.startswith("cuda")
        self._graphics_sensor = GraphicsSensor(device, own_processes) if self._is_gpu else None
        self._metered: tuple[float, Reading[bool]] | None = None

    def read(self, limits: OwnerLimits) -> Readings:
        """The machine now."""
        graphics = self._graphics(limits)
        return Readings(
            now_s=time.monotonic(), unix_s=time.time(), zone=SystemZone(), is_gpu=self._is_gpu,
            idle_s=_if(limits.only_when_idle is IdleRule.YES
                       or (limits.only_when_idle is IdleRule.AUTO and self._is_gpu), idle_s),
            is_on_battery=_if(not limits.on_battery, is_on_battery),
            is_metered=_if(not limits.on_metered, self._is_metered),
            temperature_c=graphics.temperature_c, power_w=graphics.power_w,
            others_share=graphics.others_share,
            programs=_if(bool(limits.programs), running_programs),
            moved_bytes=self._moved_bytes(),
            free_disk_bytes=_if(limits.free_disk_bytes > 0, self._free_disk),
            free_memory_bytes=_if(limits.free_memory_bytes > 0, _free_memory))

    def energy_j(self) -> float | None:
        """Energy of the device since some moment; None where it cannot be measured."""
        return None if self._graphics_sensor is None else self._graphics_sensor.energy_j()

    def _graphics(self, limits: OwnerLimits) -> GraphicsReadings:
        is_asked = limits.temperature_c > 0 or limits.power_w > 0 or limits.others_percent > 0
        if self._graphics_sensor is not None and is_asked:
            return self._graphics_sensor.read()
        nothing: Reading[float] = unread(
            "it is not read for a processor" if self._graphics_sensor is None else NOT_ASKED)
        return GraphicsReadings(nothing, nothing, nothing)

    def _is_metered(self) -> Reading[bool]:
        now_s = time.monotonic()
        if self._metered is None or now_s - self._metered[0] > METERED_LOOK_S:
            self._metered = now_s, is_metered()
        return self._metered[1]

    def _free_disk(self) -> Reading[int]:
        try:
            return Reading(shutil.disk_usage(self._directory).free, "the file system")
        except OSError as error:
            return unread(f"the file system does not say: {error.strerror}")


def _free_memory() -> Reading[int]:
    return Reading(psutil.virtual_memory().available, "the system")


def _if(is_asked: bool, ask: Callable[[], Reading[T]]) -> Reading[T]:
    """Ask, if a limit needs it; whatever fails below has a limit less, and the daemon goes on."""
    if not is_asked:
        return unread(NOT_ASKED)
    try:
        return ask()
    except Exception as error:
        return unread(f"reading it failed: {error!r:.120}")
