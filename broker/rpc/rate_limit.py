"""A token bucket per source address: how often one machine may ask for something costly."""

from __future__ import annotations

import ipaddress
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import unquote

MAX_SOURCES = 10_000


@dataclass(slots=True)
class _Bucket:
    tokens: float
    filled_at_s: float


class SourceLimiter:
    """Lets each source do `burst` things at once and `rate_per_s` in the long run.

    Args:
        rate_per_s: tokens that come back per second, > 0.
        burst: most tokens that a source can hold, >= 1.
        clock: monotonic time in seconds.

    Cost: O(1) per question; remembers at most `MAX_SOURCES` sources and forgets the one that asked
    longest ago, which by then usually has a full bucket again.
    """

    def __init__(
        self, *, rate_per_s: float = 1.0, burst: int = 20,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._rate_per_s = rate_per_s
        self._burst = burst
        self._clock = clock
        self._buckets: OrderedDict[str, _Bucket] = OrderedDict()

    def allow(self, source: str) -> bool:
        """Take a token of `source`; False when it has none left."""
        now_s = self._clock()
        bucket = self._buckets.setdefault(source, _Bucket(float(self._burst), now_s))
        self._buckets.move_to_end(source)
        if len(self._buckets) > MAX_SOURCES:
            self._buckets.popitem(last=False)
        refill = (now_s - bucket.filled_at_s) * self._rate_per_s
        bucket.tokens = min(float(self._burst), bucket.tokens + refill)
        bucket.filled_at_s = now_s
        if bucket.tokens < 1.0:
            return False
        bucket.tokens -= 1.0
        return True


def source_of(peer: str) -> str:
    """The source address in gRPC's `context.peer()`: `ipv4:10.0.0.7:53124`, `ipv6:[::1]:53124`.

    An IPv6 source is its /64 network: whoever has one address there has all of them.
    """
    text = unquote(peer).partition(":")[2].rpartition(":")[0].strip("[]").partition("%")[0]
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return "unknown"  # a transport without addresses: all its callers share one bucket
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return str(address.ipv4_mapped)
        return str(ipaddress.ip_network((address, 64), strict=False))
    return str(address)
