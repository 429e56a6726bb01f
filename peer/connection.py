"""Whether a daemon has its broker, since when, and if not, why: pure, for the status note."""

from __future__ import annotations

from dataclasses import dataclass

NOT_YET = "it has only just started"


@dataclass(frozen=True, slots=True, kw_only=True)
class Connection:
    """The stream to the broker, as it is.

    Attributes:
        is_up: whether the broker has said welcome and is there.
        since_unix_ms: since when that is so.
        reason: why it is not up, in a sentence; "" while it is.
        retry_unix_ms: when the next attempt begins; 0 while it is up or before the first.
    """

    is_up: bool
    since_unix_ms: int
    reason: str = ""
    retry_unix_ms: int = 0

    def lost(self, reason: str, retry_in_s: float, now_unix_ms: int) -> Connection:
        """An attempt has failed, or the stream has ended: the first of a row says since when."""
        return Connection(
            is_up=False, since_unix_ms=now_unix_ms if self.is_up else self.since_unix_ms,
            reason=reason, retry_unix_ms=now_unix_ms + round(retry_in_s * 1000))


def not_yet(now_unix_ms: int) -> Connection:
    """Before the first attempt."""
    return Connection(is_up=False, since_unix_ms=now_unix_ms, reason=NOT_YET)


def up(now_unix_ms: int) -> Connection:
    """The broker has just said welcome."""
    return Connection(is_up=True, since_unix_ms=now_unix_ms)
