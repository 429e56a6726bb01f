"""The shell's clock: Unix time in nanoseconds that never goes back, also over restarts."""

from __future__ import annotations

import time


class Clock:
    """Wall time for people and expiry dates, made monotonic for the core.

    Starts no earlier than `last_ns`, the newest time in the journal. If the machine's clock is set
    back, time stands almost still here until the machine's has caught up.
    """

    def __init__(self, last_ns: int = 0) -> None:
        """Start after `last_ns`."""
        self._last_ns = last_ns

    def now_ns(self) -> int:
        """Nanoseconds since 1970; larger at every call."""
        self._last_ns = max(self._last_ns + 1, time.time_ns())
        return self._last_ns


def unix_ms(at_ns: int) -> int:
    """Milliseconds, as the wire carries times."""
    return at_ns // 1_000_000
