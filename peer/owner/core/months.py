"""The month that a quota counts: from a day of the owner's calendar to the same day of the next."""

from __future__ import annotations

from datetime import datetime, tzinfo

RESET_DAY_MAX = 28
"""The last day that every month has."""


def month_start(unix_s: float, reset_day: int, zone: tzinfo) -> datetime:
    """Midnight of the reset day that a moment's month began with.

    Args:
        unix_s: the moment.
        reset_day: 1 to `RESET_DAY_MAX`.
        zone: of the owner's calendar.
    """
    shown = datetime.fromtimestamp(unix_s, zone)
    start = datetime(shown.year, shown.month, reset_day, tzinfo=zone)
    if shown.day >= reset_day:
        return start
    return _shifted(start, -1)


def month_key(unix_s: float, reset_day: int, zone: tzinfo) -> str:
    """Names the month that a moment is in: `2026-11-15`, the day it began."""
    return month_start(unix_s, reset_day, zone).date().isoformat()


def next_reset_s(unix_s: float, reset_day: int, zone: tzinfo) -> float:
    """The moment at which the next month begins."""
    return _shifted(month_start(unix_s, reset_day, zone), 1).timestamp()


def _shifted(start: datetime, months: int) -> datetime:
    month = start.year * 12 + start.month - 1 + months
    return start.replace(year=month // 12, month=month % 12 + 1)
