"""Moments as an owner names them: `30m`, `until 18:00`, `until Mon 08:00`."""

from __future__ import annotations

import re
from datetime import date, datetime, timedelta, tzinfo

from homespun.errors import Code, HomespunError
from homespun.units import parse_duration_ms
from peer.owner.core.schedule import DAY_NAMES, wall_time_s

_CLOCK = re.compile(r"([01]?\d|2[0-3]):([0-5]\d)")
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}")
LONGEST_S = 366 * 86_400.0


def parse_moment(text: str, unix_s: float, zone: tzinfo) -> float:
    """The moment that words name, as Unix time.

    A clock time is the next moment at which the owner's clock shows it, today or tomorrow.

    Args:
        text: a duration, or `until` with a clock time, and before it a weekday or a date.
        unix_s: now.
        zone: of the owner's clock.

    Raises:
        HomespunError: INVALID_ARGUMENT when the words name none, or one that is over or more than
            a year away.
    """
    words = text.split()
    if words and words[0].lower() == "until":
        moment_s = _until(words[1:], unix_s, zone)
    else:
        moment_s = unix_s + parse_duration_ms(text) / 1000
    if moment_s is None or not unix_s < moment_s <= unix_s + LONGEST_S:
        raise HomespunError(
            Code.INVALID_ARGUMENT, f"{text[:60]!r} names no moment of the coming year. Write 30m, "
            "until 18:00, until Mon 08:00 or until 2026-12-01 08:00.", value=text[:60])
    return moment_s


def _until(words: list[str], unix_s: float, zone: tzinfo) -> float | None:
    clock = _CLOCK.fullmatch(words[-1]) if words else None
    if clock is None or len(words) > 2:
        return None
    minute = int(clock[1]) * 60 + int(clock[2])
    today = datetime.fromtimestamp(unix_s, zone).date()
    days = _days(words[0] if len(words) == 2 else "", today)
    moments = [at_s for day in days for at_s in wall_time_s(
        datetime(day.year, day.month, day.day), minute, zone) if at_s > unix_s]
    return min(moments, default=None)


def _days(word: str, today: date) -> list[date]:
    """The days that may be meant, from today on."""
    if not word:
        return [today, today + timedelta(days=1)]
    if _DATE.fullmatch(word):
        try:
            return [date.fromisoformat(word)]
        except ValueError:
            return []
    name = word[:3].capitalize()
    return [day for ahead in range(8) if name == DAY_NAMES[
        (day := today + timedelta(days=ahead)).weekday()]]
