"""The daemon's clock: monotonic nanoseconds. The core compares them only with each other."""

from __future__ import annotations

import time


class MonotonicClock:
    """Never goes back; does not jump when the machine's time is set."""

    def now_ns(self) -> int:
        """Nanoseconds since some moment in the past."""
        return time.monotonic_ns()
