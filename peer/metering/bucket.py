"""How long who wants to send has to wait, so that a rate is kept. Pure.

A message is never cut: it goes when nothing is owed, and what it takes beyond the rate is owed by
whoever comes next. So the line is used evenly, without bursts and pauses.
"""

from __future__ import annotations

BURST_S = 0.25
"""Unused rate is kept for so long; more would come as a burst."""


class TokenBucket:
    """Bytes that may go now; negative while some are owed."""

    def __init__(self) -> None:
        """Without a rate."""
        self._rate = 0.0
        self._level = 0.0
        self._at_s = 0.0

    def wait_s(self, rate: float, now_s: float) -> float:
        """Seconds until the next message may go; 0 for now.

        Args:
            rate: bytes per second from now on; 0 for no limit.
            now_s: on a clock that never goes back.
        """
        self._settle(rate, now_s)
        return 0.0 if rate <= 0 or self._level >= 0 else -self._level / rate

    def take(self, size_bytes: int, now_s: float) -> None:
        """A message goes."""
        self._settle(self._rate, now_s)
        if self._rate > 0:
            self._level -= size_bytes

    def _settle(self, rate: float, now_s: float) -> None:
        """What the time since has brought, at the rate that held then."""
        earned = (now_s - self._at_s) * self._rate
        self._level = min(self._level + earned, rate * BURST_S) if rate > 0 else 0.0
        self._rate, self._at_s = rate, now_s
