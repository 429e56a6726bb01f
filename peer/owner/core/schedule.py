"""The hours in which a machine is lent, as its owner's clock on the wall shows them.

A window belongs to the weekday that it begins on: `22:00-07:00 Fri` ends on Saturday morning. Wall
clocks jump twice a year in many places, so moments are found by asking the zone, never by adding 24
hours: an hour that the clock leaves out is lent to nobody, one that it shows twice is lent twice.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, timedelta, tzinfo

from homespun.errors import Code, HomespunError

DAY_NAMES = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
ALWAYS_TEXT = "always"
DAY_MINUTES = 24 * 60
WINDOWS_MAX = 50
LOOK_AHEAD_DAYS = 8
"""A week and a day: every weekday's windows, whenever one asks."""
_CLOCK = re.compile(r"([01]?\d|2[0-4]):([0-5]\d)")
_EVERY_DAY = frozenset(range(7))


@dataclass(frozen=True, slots=True)
class Window:
    """Hours of some weekdays.

    Attributes:
        days: on which it begins; 0 is Monday.
        start_minute: after midnight, 0 to 1439.
        end_minute: after the same midnight, `start_minute` + 1 to + 1440; the first one that is not
            in the window.
    """

    days: frozenset[int]
    start_minute: int
    end_minute: int

    def holds(self, weekday: int, minute: int) -> bool:
        """Whether a clock that shows this is inside."""
        return (
            (weekday in self.days and self.start_minute <= minute < self.end_minute)
            or ((weekday - 1) % 7 in self.days and minute + DAY_MINUTES < self.end_minute))


@dataclass(frozen=True, slots=True)
class Schedule:
    """Windows that may overlap; none of them means always."""

    windows: tuple[Window, ...] = ()


ALWAYS = Schedule()


def parse_schedule(text: str) -> Schedule:
    """Windows from text: `always`, or `22:00-07:00 daily`, `09:00-12:00 Mon-Fri, 10:00-24:00 Sat`.

    Raises:
        HomespunError: INVALID_ARGUMENT with the part that cannot be read.
    """
    if text.strip().lower() in (ALWAYS_TEXT, ""):
        return ALWAYS
    parts = [part for part in re.split(r"[,;]", text) if part.strip()]
    if len(parts) > WINDOWS_MAX:
        raise HomespunError(
            Code.INVALID_ARGUMENT, f"A schedule has at most {WINDOWS_MAX} windows, not "
            f"{len(parts)}.")
    return Schedule(tuple(_window(part) for part in parts))


def schedule_text(schedule: Schedule) -> str:
    """The text that `parse_schedule` reads as this."""
    if not schedule.windows:
        return ALWAYS_TEXT
    return ", ".join(
        f"{_clock_text(window.start_minute)}-{_end_text(window)} {_days_text(window.days)}"
        for window in schedule.windows)


def is_open_at(schedule: Schedule, unix_s: float, zone: tzinfo) -> bool:
    """Whether the machine is lent at a moment."""
    if not schedule.windows:
        return True
    shown = datetime.fromtimestamp(unix_s, zone)
    weekday, minute = shown.weekday(), shown.hour * 60 + shown.minute
    return any(window.holds(weekday, minute) for window in schedule.windows)


def next_change(schedule: Schedule, unix_s: float, zone: tzinfo) -> float | None:
    """The first moment after one at which opening or closing comes; None if it never does.

    Cost: O(windows log windows).
    """
    before = is_open_at(schedule, unix_s, zone)
    moments = sorted(at_s for at_s in _moments(schedule, unix_s, zone) if at_s > unix_s)
    return next((at_s for at_s in moments if is_open_at(schedule, at_s, zone) != before), None)


def wall_time_s(day: datetime, minute: int, zone: tzinfo) -> tuple[float, float]:
    """The moments at which a clock shows so many minutes after a day's midnight.

    Mostly the two are the same one; where the clock goes back they are the first and the second
    time. A time that the clock leaves out gives moments around the jump.
    """
    shown = datetime(day.year, day.month, day.day) + timedelta(minutes=minute)
    first, second = (
        shown.replace(tzinfo=zone, fold=fold).timestamp() for fold in (0, 1))
    return first, second


def _moments(schedule: Schedule, unix_s: float, zone: tzinfo) -> set[float]:
    """All moments of the coming days at which the answer may change."""
    today = datetime.fromtimestamp(unix_s, zone)
    moments: set[float] = set()
    for ahead in range(-1, LOOK_AHEAD_DAYS + 1):
        day = today.replace(tzinfo=None) + timedelta(days=ahead)
        moments.update(_jumps(day, zone))
        for window in schedule.windows:
            if day.weekday() in window.days:
                moments.update(wall_time_s(day, window.start_minute, zone))
                moments.update(wall_time_s(day, window.end_minute, zone))
    return moments


def _jumps(day: datetime, zone: tzinfo) -> list[float]:
    """The moment within a day at which the zone's clock is put forward or back, to the second."""
    low = int(wall_time_s(day, 0, zone)[0])
    high = int(wall_time_s(day, DAY_MINUTES, zone)[0])
    before = _offset(low, zone)
    if _offset(high, zone) == before:
        return []
    while high - low > 1:
        middle = (low + high) // 2
        if _offset(middle, zone) == before:
            low = middle
        else:
            high = middle
    return [float(high)]


def _offset(unix_s: float, zone: tzinfo) -> timedelta | None:
    return datetime.fromtimestamp(unix_s, zone).utcoffset()


def _window(text: str) -> Window:
    hours, _, days = text.strip().partition(" ")
    start, _, end = hours.partition("-")
    start_minute, end_minute = _minute(start, text), _minute(end, text)
    if start_minute in (end_minute, DAY_MINUTES):
        raise _unreadable(text, "a window ends at another time than it begins; 00:00-24:00 is a "
                                "whole day")
    if end_minute < start_minute:
        end_minute += DAY_MINUTES
    return Window(_days(days.strip(), text), start_minute, end_minute)


def _minute(clock: str, text: str) -> int:
    found = _CLOCK.fullmatch(clock.strip())
    minute = int(found[1]) * 60 + int(found[2]) if found else DAY_MINUTES + 1
    if minute > DAY_MINUTES:
        raise _unreadable(text, f"{clock.strip()[:20]!r} is no time from 00:00 to 24:00")
    return minute


def _days(words: str, text: str) -> frozenset[int]:
    if words.lower() in ("daily", ""):
        return _EVERY_DAY
    days: set[int] = set()
    for word in words.split():
        first, dash, last = word.partition("-")
        begin = _day(first, text)
        end = _day(last, text) if dash else begin
        days.update((begin + step) % 7 for step in range((end - begin) % 7 + 1))
    return frozenset(days)


def _day(word: str, text: str) -> int:
    name = word.strip().lower()[:3].capitalize()
    if name not in DAY_NAMES:
        raise _unreadable(text, f"{word[:20]!r} is no weekday: Mon, Tue, Wed, Thu, Fri, Sat, Sun")
    return DAY_NAMES.index(name)


def _unreadable(text: str, why: str) -> HomespunError:
    return HomespunError(
        Code.INVALID_ARGUMENT, f"{text.strip()[:60]!r} is no window of a schedule: {why}. Write "
        "`22:00-07:00 daily` or `09:00-17:00 Mon-Fri, 10:00-24:00 Sat Sun`.", value=text[:60])


def _clock_text(minute: int) -> str:
    return f"{minute // 60:02}:{minute % 60:02}"


def _end_text(window: Window) -> str:
    end = window.end_minute
    return _clock_text(end if end <= DAY_MINUTES else end - DAY_MINUTES)


def _days_text(days: frozenset[int]) -> str:
    """`daily`, or single days and stretches of three and more."""
    if days == _EVERY_DAY:
        return "daily"
    words, ordered = [], sorted(days)
    while ordered:
        length = 1
        while length < len(ordered) and ordered[length] == ordered[0] + length:
            length += 1
        if length < 3:
            words += [DAY_NAMES[day] for day in ordered[:length]]
        else:
            words.append(f"{DAY_NAMES[ordered[0]]}-{DAY_NAMES[ordered[length - 1]]}")
        ordered = ordered[length:]
    return " ".join(words)
