"""What happened last to each job and peer: ring buffers that every invariant error prints.

A story is for people. It is not part of the state: a replay tells the same one, but nothing is
decided from it.
"""

from __future__ import annotations

from collections import Counter, OrderedDict, deque
from dataclasses import fields
from functools import cache
from typing import Any

from broker.core import limits
from broker.core.commands import AnyCommand
from broker.core.events import AnyEvent


class Stories:
    """The last events of each job and peer, with the commands that they led to."""

    def __init__(self) -> None:
        self._lines: OrderedDict[str, deque[str]] = OrderedDict()

    def record(self, touched: list[str], event: AnyEvent, commands: list[AnyCommand]) -> None:
        """Add one event to the stories of its `subjects`."""
        line = f"{event.at_ns} {type(event).__name__}{_details(event)} -> {_summary(commands)}"
        for subject in touched:
            lines = self._lines.setdefault(subject, deque(maxlen=limits.STORY_LINES))
            lines.append(line)
            self._lines.move_to_end(subject)
        while len(self._lines) > limits.STORIES:
            self._lines.popitem(last=False)

    def of(self, subject: str) -> tuple[str, ...]:
        """The story of a job or peer, oldest line first; empty when it has none."""
        return tuple(self._lines.get(subject, ()))


_SUBJECTS = ("job_id", "peer_id", "subject")
_SHOWN = ("peer_id", "session_id", "job_id", "segment", "token", "number", "first_step", "count",
          "code", "cluster_version")


def subjects(event: AnyEvent, commands: list[AnyCommand]) -> list[str]:
    """Ids of the jobs and peers that an event names or its commands go to, each once."""
    found: dict[str, None] = {}
    for value in (event, *commands):
        for name in _present(value, _SUBJECTS):
            subject = getattr(value, name)
            if subject:
                found[subject] = None
    return list(found)


def _details(event: AnyEvent) -> str:
    parts = [f"{name}={str(getattr(event, name))[:60]}" for name in _present(event, _SHOWN)]
    return f"({', '.join(parts)})"


def _present(value: object, names: tuple[str, ...]) -> tuple[str, ...]:
    """Those of the names that an event or command has a field of."""
    kind: type = type(value)
    return _fields(kind, names)


@cache
def _fields(kind: Any, names: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(name for name in names if name in {item.name for item in fields(kind)})


def _summary(commands: list[AnyCommand]) -> str:
    counts = Counter(type(command).__name__ for command in commands)
    shown = list(counts.items())[: limits.STORY_COMMANDS]
    return ", ".join(f"{name} x{count}" if count > 1 else name for name, count in shown) or "-"
