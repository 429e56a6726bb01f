"""How large the next message of a long transfer should be. Pure.

Who waits for a message hears nothing until it is whole, and what is more urgent waits behind it. So
one message should take a quarter of a second: a mebibyte on a fast line, 16 KiB at 0.5 Mbit/s. The
size follows from how long sending the ones before took, the wait for an owner's rate included. A
slow line shows only when the system's buffers before it are full, so `most_bytes` must be bearable
on the slowest line that is to work.
"""

from __future__ import annotations

SLOWEST_LINE_BYTES_PER_S = 12_500
"""0.1 Mbit/s: where a deadline has to be for a whole, it leaves time for its bytes at this rate."""
PIECE_S = 0.25
"""What sending one message should take."""
FIRST_BYTES = 64 << 10
"""Four doublings from 1 MiB, and 17 s at 30 kbit/s: nothing is known of the line yet."""
LEAST_BYTES = 8 << 10
"""Below, headers and the work for each message count."""
GROWTH_MAX = 2.0
"""A message may have gone into an empty buffer and not over the line."""


class Pieces:
    """The size of the messages of one stream.

    Attributes:
        size_bytes: of the next one, at most.
    """

    def __init__(self, most_bytes: int) -> None:
        """Begin on a line of which nothing is known; no message is to exceed `most_bytes`, >= 1."""
        self._least_bytes = min(LEAST_BYTES, most_bytes)
        self._most_bytes = most_bytes
        self.size_bytes = min(FIRST_BYTES, most_bytes)

    def took(self, sent_bytes: int, seconds: float) -> None:
        """A message has gone.

        Args:
            sent_bytes: of it; a much smaller one than was allowed tells nothing.
            seconds: from when it was ready to when the transport had taken it, >= 0.
        """
        if 2 * sent_bytes < self.size_bytes:
            return
        factor = min(GROWTH_MAX, PIECE_S / max(seconds, 1e-6))
        wanted = int(self.size_bytes * factor)
        self.size_bytes = max(self._least_bytes, min(wanted, self._most_bytes))
