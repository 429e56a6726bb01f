"""What stands against lending a machine now, one small rule for each of the owner's limits."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from homespun.units import format_duration, format_size
from peer.core.events import Availability
from peer.owner.core.limits import IdleRule, OwnerLimits
from peer.owner.core.months import next_reset_s
from peer.owner.core.readings import Reading, Readings
from peer.owner.core.reasons import Reason, ReasonKind, reason
from peer.owner.core.schedule import DAY_NAMES, is_open_at, next_change, parse_schedule
from peer.owner.core.wish import Wish

DAY_S = 86_400
_DEFAULTS = OwnerLimits()


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What was found against lending.

    Attributes:
        reasons: all of it.
        closes_unix_ms: when the hours end; 0 while they do not.
        without_effect: limits that cannot be kept, as nothing can be read, with why.
    """

    reasons: tuple[Reason, ...]
    closes_unix_ms: int
    without_effect: tuple[str, ...]


def all_of(limits: OwnerLimits, readings: Readings) -> Found:
    """Everything that stands against lending, whatever the owner wishes."""
    hours, closes_unix_ms = _hours(limits, readings)
    reasons = [each for rule in _RULES for each in rule(limits, readings)]
    return Found(
        reasons=(*hours, *reasons), closes_unix_ms=closes_unix_ms,
        without_effect=tuple(_without_effect(limits, readings)))


def of_wish(wish: Wish, readings: Readings) -> tuple[Reason, ...]:
    """The owner's own word, as a reason."""
    kinds = {
        Availability.PAUSED: ReasonKind.OWNER_PAUSED,
        Availability.FINISHING: ReasonKind.OWNER_FINISHES,
        Availability.LEAVING: ReasonKind.OWNER_LEAVES}
    if wish.availability not in kinds:
        return ()
    until_s = wish.until_unix_ms / 1000 if wish.until_unix_ms else None
    return (reason(kinds[wish.availability], until_s, until=_until(until_s, readings)),)


def shown_time(unix_s: float, readings: Readings) -> str:
    """A moment as the owner's clock shows it: `18:40`, with the weekday if it is not today."""
    shown = datetime.fromtimestamp(unix_s, readings.zone)
    clock = f"{shown.hour:02}:{shown.minute:02}"
    if shown.date() == datetime.fromtimestamp(readings.unix_s, readings.zone).date():
        return clock
    if unix_s - readings.unix_s < 6 * DAY_S:
        return f"{DAY_NAMES[shown.weekday()]} {clock}"
    return f"{shown.date().isoformat()} {clock}"


def _until(unix_s: float | None, readings: Readings) -> str:
    return "" if unix_s is None else f", until {shown_time(unix_s, readings)}"


def _hours(limits: OwnerLimits, readings: Readings) -> tuple[list[Reason], int]:
    """Outside the hours, or so near to their end that work has to go; and that end."""
    schedule = parse_schedule(limits.schedule)
    change_s = next_change(schedule, readings.unix_s, readings.zone)
    if not is_open_at(schedule, readings.unix_s, readings.zone):
        outside = reason(
            ReasonKind.OUTSIDE_HOURS, change_s, schedule=limits.schedule,
            until=_until(change_s, readings))
        return [outside], 0
    if change_s is None:
        return [], 0
    ends = []
    if change_s - readings.unix_s <= limits.notice_s:
        ends.append(reason(ReasonKind.HOURS_END, end=shown_time(change_s, readings)))
    return ends, round(change_s * 1000)


def _presence(limits: OwnerLimits, readings: Readings) -> Iterator[Reason]:
    """Somebody is there. `auto` asks for it only of a GPU, and only where it can be read."""
    idle = readings.idle_s
    if not _asks_idle(limits, readings):
        return
    if idle.value is None:
        if limits.only_when_idle is IdleRule.YES:
            yield reason(ReasonKind.USE_UNKNOWN, problem=idle.problem)
    elif idle.value < limits.idle_s:
        yield reason(
            ReasonKind.IN_USE, idle=format_duration(max(0.0, idle.value)),
            wanted=format_duration(limits.idle_s), source=idle.source)


def _asks_idle(limits: OwnerLimits, readings: Readings) -> bool:
    is_auto = limits.only_when_idle is IdleRule.AUTO
    return limits.only_when_idle is IdleRule.YES or (is_auto and readings.is_gpu)


def _battery(limits: OwnerLimits, readings: Readings) -> Iterator[Reason]:
    if readings.is_on_battery.value and not limits.on_battery:
        yield reason(ReasonKind.ON_BATTERY, source=readings.is_on_battery.source)


def _metered(limits: OwnerLimits, readings: Readings) -> Iterator[Reason]:
    if readings.is_metered.value and not limits.on_metered:
        yield reason(ReasonKind.METERED, source=readings.is_metered.source)


def _programs(limits: OwnerLimits, readings: Readings) -> Iterator[Reason]:
    running = readings.programs.value or frozenset()
    for program in limits.programs:
        if program_name(program) in running:
            yield reason(ReasonKind.PROGRAM_RUNS, program=program)


def program_name(name: str) -> str:
    """A program's name as it is compared: without letter case and Windows' ending."""
    return name.strip().lower().removesuffix(".exe")


def _others(limits: OwnerLimits, readings: Readings) -> Iterator[Reason]:
    share, limit = readings.others_share.value, limits.others_percent
    if limit > 0 and share is not None and share * 100 > limit:
        yield reason(
            ReasonKind.OTHERS_USE_DEVICE, share=share * 100, limit=limit,
            source=readings.others_share.source)


def _quota(limits: OwnerLimits, readings: Readings) -> Iterator[Reason]:
    if 0 < limits.monthly_bytes <= readings.moved_bytes:
        reset_s = next_reset_s(readings.unix_s, limits.reset_day, readings.zone)
        yield reason(
            ReasonKind.QUOTA_USED, reset_s, quota=format_size(limits.monthly_bytes),
            until=_until(reset_s, readings))


def _disk(limits: OwnerLimits, readings: Readings) -> Iterator[Reason]:
    yield from _scarce(
        ReasonKind.DISK_FULL, readings.free_disk_bytes, limits.free_disk_bytes)


def _memory(limits: OwnerLimits, readings: Readings) -> Iterator[Reason]:
    yield from _scarce(
        ReasonKind.MEMORY_SHORT, readings.free_memory_bytes, limits.free_memory_bytes)


def _scarce(kind: ReasonKind, free: Reading[int], wanted_bytes: int) -> Iterator[Reason]:
    if free.value is not None and free.value < wanted_bytes:
        yield reason(kind, free=format_size(free.value), wanted=format_size(wanted_bytes))


_RULES: tuple[Callable[[OwnerLimits, Readings], Iterator[Reason]], ...] = (
    _presence, _battery, _metered, _programs, _others, _quota, _disk, _memory)


def _without_effect(limits: OwnerLimits, readings: Readings) -> Iterator[str]:
    """Limits that are set and cannot be kept here.

    Those of a GPU that nobody has set are not named for a processor.
    """
    asked: tuple[tuple[str, bool, Reading[Any]], ...] = (
        ("only-when-idle", _asks_idle(limits, readings)
         and limits.only_when_idle is IdleRule.AUTO, readings.idle_s),
        ("on-battery", not limits.on_battery, readings.is_on_battery),
        ("on-metered", not limits.on_metered, readings.is_metered),
        ("temperature", limits.temperature_c > 0 and (
            readings.is_gpu or limits.temperature_c != _DEFAULTS.temperature_c),
         readings.temperature_c),
        ("power", limits.power_w > 0, readings.power_w),
        ("others-percent", limits.others_percent > 0 and (
            readings.is_gpu or limits.others_percent != _DEFAULTS.others_percent),
         readings.others_share),
        ("programs", bool(limits.programs), readings.programs),
        ("free-disk", limits.free_disk_bytes > 0, readings.free_disk_bytes),
        ("free-memory", limits.free_memory_bytes > 0, readings.free_memory_bytes))
    for name, is_set, read in asked:
        if is_set and read.value is None:
            yield f"{name}: {read.problem}"
