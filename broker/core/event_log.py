"""The event log: every note that the core made for people, numbered, the newest kept.

Like a story it is for people and no part of the state: a replay makes the same lines under the same
numbers, and nothing is decided from them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

from broker.core import limits
from broker.core.commands import AnyCommand, Note


@dataclass(frozen=True, slots=True, kw_only=True)
class LogLine:
    """One line of the event log.

    Attributes:
        number: from 1, without gaps over the life of the journal.
        at_ns: when, Unix time.
        subject: the job, peer or key that it is about.
        kind: stable short name (`job_failed`, `peer_lost`, ...).
        text: one sentence for a person.
    """

    number: int
    at_ns: int
    subject: str
    kind: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LineFilter:
    """Which lines somebody wants; "" and 0 are for all.

    Attributes:
        subject: beginning of a job's, peer's or key's id.
        kind: beginning of the short name, such as `peer` or `job_failed`.
        text: part of the sentence, in any letter case.
        since_ns: none from before.
    """

    subject: str = ""
    kind: str = ""
    text: str = ""
    since_ns: int = 0

    def takes(self, line: LogLine) -> bool:
        """Whether a line is wanted."""
        return (
            line.at_ns >= self.since_ns
            and line.subject.startswith(self.subject)
            and line.kind.startswith(self.kind)
            and self.text.casefold() in line.text.casefold()
        )


class EventLog:
    """The last `limits.EVENT_LOG_LINES` lines."""

    def __init__(self) -> None:
        self._lines: deque[LogLine] = deque(maxlen=limits.EVENT_LOG_LINES)
        self.last_number = 0
        """Of the newest line; 0 before the first."""

    def record(self, at_ns: int, commands: list[AnyCommand]) -> None:
        """Add the notes among the commands of one event."""
        for note in commands:
            if isinstance(note, Note):
                self.last_number += 1
                self._lines.append(LogLine(
                    number=self.last_number, at_ns=at_ns, subject=note.subject, kind=note.event,
                    text=note.text[: limits.MAX_MESSAGE]))

    def newest(self, wanted: LineFilter, limit: int) -> tuple[LogLine, ...]:
        """The newest `limit` lines that are wanted, newest first. Cost: linear in what is kept."""
        return tuple(self._wanted(reversed(self._lines), wanted, limit))

    def after(self, number: int, wanted: LineFilter, limit: int) -> tuple[LogLine, ...]:
        """The first `limit` wanted lines after a number, oldest first. Cost: as `newest`."""
        later = (line for line in self._lines if line.number > number)
        return tuple(self._wanted(later, wanted, limit))

    @staticmethod
    def _wanted(
        lines: Iterator[LogLine], wanted: LineFilter, limit: int
    ) -> Iterator[LogLine]:
        for line in lines:
            if limit <= 0:
                return
            if wanted.takes(line):
                limit -= 1
                yield line
