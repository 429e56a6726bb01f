"""The shell's clock: Unix time in nanoseconds that never goes back or jumps, also over restarts."""

from __future__ import annotations

import time
from collections.abc import Callable

CATCH_UP = 20
"""Time runs at most one part in so many faster than it passes."""


class Clock:
    """Wall time for people and expiry dates, made steady for the core.

    Starts no earlier than `last_ns`, the newest time in the journal. If the machine's clock is set
    back, time here goes on at its usual pace, so that no deadline waits for the machine's clock to
    catch up. If it is set ahead, or the machine slept, time here follows slowly: to the core it
    would look as if all peers had been silent for so long.
    """

    def __init__(
        self,
        last_ns: int = 0,
        wall: Callable[[], int] = time.time_ns,
        steady: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        """Start after `last_ns`.

        Args:
            last_ns: newest time that was ever given out.
            wall: nanoseconds since 1970; may jump.
            steady: nanoseconds since any moment; never jumps.
        """
        self._last_ns = max(last_ns, wall())
        self._wall = wall
        self._steady = steady
        self._steady_ns = steady()

    def now_ns(self) -> int:
        """Nanoseconds since 1970; larger at every call."""
        steady_ns = self._steady()
        passed_ns = max(1, steady_ns - self._steady_ns)
        self._steady_ns = steady_ns
        self._last_ns += passed_ns
        behind_ns = self._wall() - self._last_ns
        self._last_ns += max(0, min(behind_ns, passed_ns // CATCH_UP))
        return self._last_ns


def unix_ms(at_ns: int) -> int:
    """Milliseconds, as the wire carries times."""
    return at_ns // 1_000_000
