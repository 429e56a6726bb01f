"""When members last called, and how long their certificates last: for people, never decided upon.

In memory only: after a restart a member is known again with its next call.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from broker.core.limits import MAX_IDENTITIES
from homespun.identity.certificates import utc_now


@dataclass(slots=True)
class Sighting:
    """What is known of one member; None for not since the broker's start."""

    called_at: datetime | None = None
    expires_at: datetime | None = None


class Sightings:
    """The last sighting of each member.

    Args:
        clock: the time.
    """

    def __init__(self, clock: Callable[[], datetime] = utc_now) -> None:
        self._clock = clock
        self._known: OrderedDict[str, Sighting] = OrderedDict()

    def called(self, member_id: str, expires_at: datetime) -> None:
        """Take note of a call with a certificate that ends then."""
        self._take(member_id, expires_at).called_at = self._clock()

    def issued(self, member_id: str, expires_at: datetime) -> None:
        """Take note of a certificate that was made and ends then."""
        self._take(member_id, expires_at)

    def of(self, member_id: str) -> Sighting:
        """What is known of a member."""
        return self._known.get(member_id) or Sighting()

    def _take(self, member_id: str, expires_at: datetime) -> Sighting:
        known = self._known.setdefault(member_id, Sighting())
        known.expires_at = max(known.expires_at or expires_at, expires_at)
        self._known.move_to_end(member_id)
        if len(self._known) > MAX_IDENTITIES:
            self._known.popitem(last=False)
        return known
