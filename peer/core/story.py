"""What happened last on this peer: lines that every invariant error prints.

A story is for people. It is not part of the state: nothing is decided from it.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import fields
from functools import cache
from typing import Any

from peer.core.commands import AnyCommand
from peer.core.events import AnyEvent

STORY_LINES = 32
"""Events that a story remembers: about one step of a small job."""
STORY_COMMANDS = 8
"""Commands that one line names."""

_SHOWN = ("job_id", "segment", "token", "kind", "task", "edge", "mode", "step", "microbatch",
          "source", "last_report", "through_number", "code")


class Story:
    """The last events of a peer, with the commands that they led to."""

    def __init__(self) -> None:
        self._lines: deque[str] = deque(maxlen=STORY_LINES)

    def record(self, event: AnyEvent, commands: Sequence[AnyCommand]) -> None:
        """Add one event."""
        kind: type = type(event)
        parts = [f"{name}={str(getattr(event, name))[:90]}" for name in _shown(kind)]
        counts = Counter(type(command).__name__ for command in commands)
        shown = list(counts.items())[:STORY_COMMANDS]
        summary = ", ".join(f"{name} x{n}" if n > 1 else name for name, n in shown) or "-"
        self._lines.append(
            f"{event.at_ns} {kind.__name__}({', '.join(parts)}) -> {summary}")

    def lines(self) -> tuple[str, ...]:
        """Oldest first."""
        return tuple(self._lines)


@cache
def _shown(kind: Any) -> tuple[str, ...]:
    """What a line tells of a kind of event."""
    return tuple(name for name in _SHOWN if name in {item.name for item in fields(kind)})
