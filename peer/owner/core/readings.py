"""What was read of a machine: each reading says where it comes from, or why there is none."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import tzinfo
from typing import Any, Generic, TypeVar

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Reading(Generic[T]):
    """One reading.

    Attributes:
        value: None where it cannot be read.
        source: name of the signal: `logind IdleHint`.
        problem: why there is no value; "" where there is one.
    """

    value: T | None
    source: str = ""
    problem: str = ""


def unread(problem: str) -> Reading[T]:
    """No value, and why."""
    return Reading(None, problem=problem)


_NOT_ASKED: Reading[Any] = Reading(None, problem="no limit needs it")


@dataclass(frozen=True, slots=True, kw_only=True)
class Readings:
    """A machine at a moment.

    Attributes:
        now_s: seconds of a clock that never goes back.
        unix_s: what the clock on the wall shows, as Unix time.
        zone: where that wall is.
        is_gpu: whether the device that is lent is a GPU.
        idle_s: since somebody last touched keyboard, mouse or screen.
        is_on_battery: whether the machine runs on its battery.
        is_metered: whether the network is paid by the byte.
        temperature_c: of the device.
        power_w: that the device draws, averaged since the reading before.
        others_share: of the device's time that other programs use, 0 to 1.
        programs: names of the programs that run, in lower case.
        moved_bytes: sent and received beyond the local network in this quota month.
        free_disk_bytes: where the peer's directory is.
        free_memory_bytes: that programs can get without swapping.
    """

    now_s: float
    unix_s: float
    zone: tzinfo
    is_gpu: bool = False
    idle_s: Reading[float] = _NOT_ASKED
    is_on_battery: Reading[bool] = _NOT_ASKED
    is_metered: Reading[bool] = _NOT_ASKED
    temperature_c: Reading[float] = _NOT_ASKED
    power_w: Reading[float] = _NOT_ASKED
    others_share: Reading[float] = _NOT_ASKED
    programs: Reading[frozenset[str]] = _NOT_ASKED
    moved_bytes: int = 0
    free_disk_bytes: Reading[int] = _NOT_ASKED
    free_memory_bytes: Reading[int] = _NOT_ASKED
