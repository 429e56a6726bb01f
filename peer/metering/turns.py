"""Whose message goes next, where several wait for one line. Pure.

Boundary tensors go first: a step waits for them. Snapshots and blobs wait behind them, but not for
good: of what goes while one of them waits, an eighth of the bytes is theirs. Among equals it is
first come, first served.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from enum import Enum

BULK_SHARE = 1 / 8
"""Of the line, at least, for what is not urgent: a snapshot takes up to eight times as long while
tensors fill the line, and tensors lose an eighth of it."""


class Urgency(Enum):
    """What waits for the arrival of a message."""

    TENSOR = "tensor"
    """A step of a job."""
    BULK = "bulk"
    """Nobody, for the moment: a snapshot, a blob."""


@dataclass(slots=True, eq=False)
class Waiting:
    """A message that is to go."""

    size_bytes: int
    urgency: Urgency


class Turns:
    """The messages that wait before one direction of a line."""

    def __init__(self) -> None:
        """Nobody waits."""
        self._queues: dict[Urgency, deque[Waiting]] = {each: deque() for each in Urgency}
        self._owed_bytes = 0.0
        """What bulk has coming because tensors went before it."""

    def join(self, size_bytes: int, urgency: Urgency) -> Waiting:
        """A message comes; `went` or `leave` ends its wait."""
        waiting = Waiting(size_bytes, urgency)
        self._queues[urgency].append(waiting)
        return waiting

    def next(self) -> Waiting | None:
        """The message that goes as soon as the line is free; None when nobody waits."""
        tensors, bulk = self._queues[Urgency.TENSOR], self._queues[Urgency.BULK]
        if bulk and (not tensors or self._owed_bytes >= bulk[0].size_bytes):
            return bulk[0]
        return tensors[0] if tensors else None

    def went(self, waiting: Waiting) -> None:
        """A message goes."""
        if waiting.urgency is Urgency.BULK:
            self._owed_bytes = max(0.0, self._owed_bytes - waiting.size_bytes)
        elif self._queues[Urgency.BULK]:
            self._owed_bytes += waiting.size_bytes * BULK_SHARE / (1 - BULK_SHARE)
        self.leave(waiting)

    def leave(self, waiting: Waiting) -> None:
        """A message does not wait any more. Cost: O(those of its urgency that wait)."""
        queue = self._queues[waiting.urgency]
        queue.remove(waiting)
        if not self._queues[Urgency.BULK]:
            self._owed_bytes = 0.0  # a share of the line is for who waits, and is not saved up
