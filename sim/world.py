"""Virtual time: a heap of things to come, and one source of randomness."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from random import Random

MS = 1_000_000
"""Nanoseconds in a millisecond."""
SECOND = 1_000 * MS

Deliver = Callable[[], None]


class World:
    """Things happen one after the other, by time; at the same time, in the order of their making.

    Attributes:
        seed: repeats everything.
        random: the only source of randomness.
        now_ns: virtual time since the beginning.
        happened: how many things did.
    """

    def __init__(self, seed: int, begin_ns: int = 0) -> None:
        self.seed = seed
        self.random = Random(seed)
        self.now_ns = begin_ns
        self.happened = 0
        self._heap: list[tuple[int, int, Deliver]] = []
        self._made = 0

    def at(self, at_ns: int, deliver: Deliver) -> None:
        """Let something happen at a time; at once, after what is due already, if that is past."""
        heapq.heappush(self._heap, (max(at_ns, self.now_ns), self._made, deliver))
        self._made += 1

    def after(self, delay_ns: int, deliver: Deliver) -> None:
        """Let something happen after a while."""
        self.at(self.now_ns + delay_ns, deliver)

    def soon(self, longest_ms: float, deliver: Deliver) -> None:
        """Let something happen within a random time."""
        self.after(self.delay_ns(longest_ms), deliver)

    def delay_ns(self, longest_ms: float) -> int:
        """A random time, at least a nanosecond and at most `longest_ms`."""
        return 1 + int(self.random.random() * longest_ms * MS)

    def run(self, until: Callable[[], bool], most: int) -> bool:
        """Let things happen until a condition holds.

        Args:
            until: asked before each of them.
            most: how many may happen at most: beyond that the world runs in circles.

        Returns:
            Whether the condition came to hold; if not, nothing was left to happen or `most` did.
        """
        for _ in range(most):
            if until():
                return True
            if not self._heap:
                return False
            self.now_ns, _, deliver = heapq.heappop(self._heap)
            self.happened += 1
            deliver()
        return until()


class Line:
    """One direction of a connection: random delays, but nothing overtakes, until it is cut."""

    def __init__(self, world: World, longest_ms: float) -> None:
        self._world = world
        self._longest_ms = longest_ms
        self._last_ns = 0
        self.is_cut = False
        """What is under way when the line is cut never arrives."""

    def send(self, deliver: Deliver) -> None:
        """Let something arrive at the other end."""
        if self.is_cut:
            return
        arrival_ns = self._world.now_ns + self._world.delay_ns(self._longest_ms)
        self._last_ns = max(arrival_ns, self._last_ns + 1)
        self._world.at(self._last_ns, lambda: None if self.is_cut else deliver())
