"""The time zone that this machine's clock on the wall shows, with its jumps."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, tzinfo


class SystemZone(tzinfo):
    """What the system knows of its own zone, on every system and without a database of zones.

    Python's times without a zone are the system's; this gives them to what wants a zone.
    """

    def utcoffset(self, when: datetime | None) -> timedelta | None:
        """Hours east of Greenwich at a time on the wall."""
        return None if when is None else _shown(when).utcoffset()

    def dst(self, when: datetime | None) -> timedelta | None:
        """Not known apart from the whole offset."""
        return None

    def tzname(self, when: datetime | None) -> str | None:
        """The system's name for it, such as CET."""
        return None if when is None else _shown(when).tzname()

    def fromutc(self, when: datetime) -> datetime:
        """The time on the wall at a moment."""
        moment_s = when.replace(tzinfo=UTC).timestamp()
        return datetime.fromtimestamp(moment_s).replace(tzinfo=self)


def _shown(when: datetime) -> datetime:
    return when.replace(tzinfo=None).astimezone()
