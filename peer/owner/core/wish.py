"""What an owner last said of a peer."""

from __future__ import annotations

from dataclasses import dataclass

from peer.core.events import Availability


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """One wish of the owner.

    Attributes:
        id: names it in the daemon's answer; "" for the one that nobody made.
        availability: what the peer may do.
        deadline_ms: from when the daemon reads it; what is held then is given up. 0: no hurry.
        until_unix_ms: when it is over and the peer is open again; 0: when the owner says so.
    """

    id: str
    availability: Availability
    deadline_ms: int = 0
    until_unix_ms: int = 0

    def is_over(self, unix_s: float) -> bool:
        """Whether its end has come."""
        return self.until_unix_ms > 0 and unix_s * 1000 >= self.until_unix_ms


NO_WISH = Wish(id="", availability=Availability.OPEN)
