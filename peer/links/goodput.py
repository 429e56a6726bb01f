"""How fast real tensors cross a link, as their sender sees it. Pure.

A stretch lasts from a frame that meets an empty window until everything sent is accepted. Its bytes
over its time, without one round trip, are a sample of the path's bandwidth, as a burst of the probe
is. Short stretches tell the round trip instead, as time is all that they take. A stretch in which
the sender had nothing to send for a while looks slow though the path is not, and nothing ever looks
faster than the path: so the estimate is a high quantile, not the median (BBR takes the maximum for
the same reason: Cardwell et al. 2016, "BBR: Congestion-Based Congestion Control", ACM Queue 14(5)).
"""

from __future__ import annotations

from collections import deque
from statistics import quantiles

SMALL_BYTES = 16 << 10
"""A stretch of fewer bytes takes a round trip and nothing else, on any link worth planning for."""
LARGE_BYTES = 1 << 20
"""A stretch of fewer bytes has not outgrown TCP's slow start."""
TRIPS_MIN = 2.0
"""A stretch must last so many round trips, or the wait for the last word outweighs the transfer."""
SAMPLES = 32
SAMPLES_MIN = 4
REPORT_EVERY_S = 60.0
"""Home links change over minutes and hours."""


class Goodput:
    """One direction of one link. Times are seconds of one clock that never goes back."""

    def __init__(self) -> None:
        """Nothing was sent yet."""
        self._began_s: float | None = None
        self._bytes = 0
        self._trip_s: float | None = None
        self._rates: deque[float] = deque(maxlen=SAMPLES)
        self._new = 0
        self._reported_s: float | None = None

    def sent(self, size_bytes: int, now_s: float, *, is_first: bool) -> None:
        """A frame was handed over.

        Args:
            size_bytes: of its payload.
            now_s: the time.
            is_first: whether it met an empty window on a working stream; others only add to a
                stretch that has begun.
        """
        if is_first:
            self._began_s, self._bytes = now_s, 0
        self._bytes += size_bytes

    def all_accepted(self, now_s: float) -> None:
        """The other side has accepted everything."""
        if self._began_s is None:
            return
        took_s = max(now_s - self._began_s, 1e-6)
        self._began_s = None
        if self._bytes < SMALL_BYTES:
            self._trip_s = took_s if self._trip_s is None else min(self._trip_s, took_s)
        elif self._bytes >= LARGE_BYTES:
            trip_s = self._trip_s or 0.0
            if took_s >= TRIPS_MIN * trip_s:
                self._rates.append(self._bytes / (took_s - trip_s))
                self._new += 1

    def interrupted(self) -> None:
        """The stream broke: what is under way will be sent again, so it tells nothing."""
        self._began_s = None

    def bytes_per_s(self) -> float | None:
        """The bandwidth: upper quartile of the newest samples; None while there are too few."""
        if len(self._rates) < SAMPLES_MIN:
            return None
        return quantiles(self._rates, n=4, method="inclusive")[2]

    def report(self, now_s: float) -> float | None:
        """What to tell the broker now: at most once in `REPORT_EVERY_S`, and only what is new."""
        if self._reported_s is not None and now_s - self._reported_s < REPORT_EVERY_S:
            return None
        if self._new < SAMPLES_MIN:
            return None
        self._reported_s, self._new = now_s, 0
        return self.bytes_per_s()
