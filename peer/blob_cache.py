"""The peer's cache of blobs, kept below its limit: what no lease needs goes, oldest use first."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Hashable, Iterable
from pathlib import Path

from homespun.blobs.store import BlobStore


class BlobCache:
    """A blob store whose blobs are held by leases, or else only kept while there is room.

    What leases hold may exceed the limit: it is needed. Used by one event loop; `make_room` may run
    in a thread of it.
    """

    def __init__(self, store: BlobStore, limit_bytes: int) -> None:
        """Keep `store` below `limit_bytes` (>= 0), as far as leases allow."""
        self.store = store
        self.limit_bytes = limit_bytes
        self._held: dict[Hashable, frozenset[str]] = {}

    def hold(self, lease: Hashable, digests: Iterable[str]) -> None:
        """Keep these blobs for as long as `lease` holds them, and note that they are in use."""
        self._held[lease] = frozenset(digests)
        for digest in self._held[lease]:
            with contextlib.suppress(FileNotFoundError):
                os.utime(self.store.path(digest))

    def release(self, lease: Hashable) -> None:
        """What this lease held may go."""
        self._held.pop(lease, None)

    def make_room(self, wanted_bytes: int) -> None:
        """Remove unheld blobs, least recently used first, until so many more bytes fit.

        Cost: O(blobs log blobs) when something must go.
        """
        self._shrink(self.limit_bytes - wanted_bytes)

    def clear(self) -> None:
        """Remove everything that no lease holds."""
        self._shrink(0)

    def _shrink(self, target_bytes: int) -> None:
        if self.store.used_bytes <= target_bytes:
            return
        held = frozenset().union(*self._held.values())
        for path in sorted(self.store.root.glob("??/*"), key=_used_at):
            digest = path.name.partition(".")[0]
            if digest not in held:
                self.store.remove(digest)
            if self.store.used_bytes <= target_bytes:
                return


def _used_at(path: Path) -> float:
    with contextlib.suppress(OSError):
        return path.stat().st_mtime
    return 0.0
