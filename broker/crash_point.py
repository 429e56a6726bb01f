"""End the process at a chosen moment, for tests of what a crash leaves behind.

`HOMESPUN_CRASH_AT=StepsDone:after-commit:3` ends the broker when the third event `StepsDone` is
durable and not yet applied. Without the variable nothing happens. It ends as SIGKILL ends it: no
handler runs, nothing is flushed.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from enum import StrEnum

from homespun.errors import Code, HomespunError

VARIABLE = "HOMESPUN_CRASH_AT"
EXIT_STATUS = 137
"""What a shell reports of a process that SIGKILL ended."""


class Position(StrEnum):
    """Moments in the life of an event."""

    BEFORE_COMMIT = "before-commit"
    """It was received; nothing is on disk."""
    AFTER_COMMIT = "after-commit"
    """It is durable; the core does not know it yet."""
    BEFORE_REPLY = "before-reply"
    """The core has applied it; nobody was told."""


class CrashPoint:
    """Ends the process when the n-th event of a kind comes to a position."""

    def __init__(
        self, kind: str, position: Position, count: int,
        end: Callable[[int], object] = os._exit,
    ) -> None:
        self._kind = kind
        self._position = position
        self._left = count
        self._end = end

    def reached(self, position: Position, events: Iterable[object]) -> None:
        """These events are at this position now."""
        if position is self._position:
            for event in events:
                if type(event).__name__ == self._kind:
                    self._left -= 1
                    if self._left == 0:
                        self._end(EXIT_STATUS)


def crash_point_asked_for(text: str | None = None) -> CrashPoint:
    """The crash point that the environment names; one that is never reached, if it names none.

    Raises:
        HomespunError: BAD_CONFIGURATION when it is not `event:position` or `event:position:count`.
    """
    text = os.environ.get(VARIABLE, "") if text is None else text
    if not text:
        return CrashPoint("", Position.BEFORE_COMMIT, 0)
    kind, _, rest = text.partition(":")
    position, _, count = rest.partition(":")
    if position not in list(Position) or not (count or "1").isdecimal():
        raise HomespunError(
            Code.BAD_CONFIGURATION,
            f"{VARIABLE} is {text[:80]!r}; expected event:position or event:position:count with a "
            f"position of {', '.join(Position)}.")
    return CrashPoint(kind, Position(position), int(count or 1))
