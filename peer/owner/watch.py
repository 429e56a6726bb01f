"""The daemon's ear for its owner: wishes and signals become events; when it may go, it goes."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable

import structlog

from homespun.errors import HomespunError
from peer.core import events as ev
from peer.core.events import Availability
from peer.core.state import LeasePhase, PeerState
from peer.owner.wish import NO_WISH, Wish, forget_wish, read_wish
from peer.settings import PeerDirectory

log = structlog.get_logger(__name__)

LOOK_S = 0.25
"""How often to look at the owner's file, and whether what is held has become less."""
NO_EVENT_AT = 0
GIVEN_UP = "its owner wants the device back, and nobody has taken the segment over in time"


class OwnerLeaves(Exception):  # noqa: N818 - no error: it ends the daemon's task group
    """The daemon may go: it holds nothing, or its time is over."""


class OwnerWatch:
    """What the owner wants, as the daemon knows it."""

    def __init__(
        self, directory: PeerDirectory, grace_s: float, state: PeerState,
        post: Callable[[ev.AnyEvent], None], is_connected: Callable[[], bool],
        is_working: Callable[[], bool],
    ) -> None:
        """Prepare; `run` does the work.

        Args:
            directory: where the wish is kept.
            grace_s: how long a signal lets the daemon hand over.
            state: of the core, to see what is held.
            post: queues an event for the core.
            is_connected: whether a broker is there to hand over to.
            is_working: whether something of a lease is left, such as its executor.
        """
        self._directory = directory
        self._grace_s = grace_s
        self._state = state
        self._post = post
        self._is_connected = is_connected
        self._is_working = is_working
        self._wish = NO_WISH
        self._seen: tuple[int, int] | None = None
        self._availability = Availability.OPEN
        self._deadline_s: float | None = None
        self._is_signalled = False
        self._held = 0
        self._news = asyncio.Event()

    @property
    def availability(self) -> Availability:
        """What the peer may do at present."""
        return self._availability

    @property
    def wish_id(self) -> str:
        """The newest wish that was taken into account."""
        return self._wish.id

    def remaining_ms(self) -> int:
        """Until the deadline, at least 1; 0 without one."""
        if self._deadline_s is None:
            return 0
        return max(1, round((self._deadline_s - _now_s()) * 1000))

    def leave(self) -> None:
        """A signal: hand over and go, within the grace. Called in the loop's own thread."""
        self._is_signalled = True
        self._become(Availability.LEAVING, round(self._grace_s * 1000))

    async def run(self) -> None:
        """Watch until the daemon may go.

        Raises:
            OwnerLeaves: it may go now.
        """
        self._forget_stale()
        while not self._may_go():
            self._look()
            self._give_up_late()
            await asyncio.sleep(LOOK_S)
        if not self._is_signalled:
            forget_wish(self._directory)
        raise OwnerLeaves

    async def news(self, at_most_s: float) -> None:
        """Wait until the owner wants something else or less is held, or so long."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(at_most_s):
                await self._news.wait()
        self._news.clear()

    # --- parts ---------------------------------------------------------------------------------

    def _forget_stale(self) -> None:
        """A wish to leave was meant for a daemon that is gone."""
        if self._newest_wish().availability is Availability.LEAVING:
            forget_wish(self._directory)
        self._seen = None

    def _look(self) -> None:
        wish = self._newest_wish()
        if wish.id != self._wish.id and not self._is_signalled:
            self._wish = wish
            self._become(wish.availability, wish.deadline_ms)
        if (held := self._count()) != self._held:
            self._held = held
            self._news.set()

    def _newest_wish(self) -> Wish:
        try:
            found = self._directory.wish.stat()
        except OSError:
            return self._wish  # nobody takes a wish back by removing the file
        if self._seen == (found.st_ino, found.st_mtime_ns):
            return self._wish
        self._seen = (found.st_ino, found.st_mtime_ns)
        try:
            return read_wish(self._directory)
        except HomespunError as error:
            log.warning("wish_not_read", reason=error.message)
            return self._wish

    def _become(self, availability: Availability, deadline_ms: int) -> None:
        log.info("availability", now=str(availability), deadline_ms=deadline_ms)
        self._availability = availability
        self._deadline_s = _now_s() + deadline_ms / 1000 if deadline_ms else None
        self._post(ev.AvailabilityChanged(
            at_ns=NO_EVENT_AT, availability=availability, deadline_ms=deadline_ms))
        self._news.set()

    def _may_go(self) -> bool:
        if self._availability is not Availability.LEAVING:
            return False
        if self._is_late() or not self._count():
            return True
        return self._is_signalled and not self._is_connected()

    def _give_up_late(self) -> None:
        """The owner's deadline goes before everything: what takes memory of the device ends."""
        if self._availability is Availability.PAUSED and self._is_late():
            self._deadline_s = None
            for job_id, segment, token in self._occupying():
                self._post(ev.RevokeReceived(
                    at_ns=NO_EVENT_AT, job_id=job_id, segment=segment, token=token,
                    reason=GIVEN_UP))

    def _occupying(self) -> list[tuple[str, int, int]]:
        """Leases and standbys; of a finished segment there is nothing left but its log."""
        leases = [lease.key for lease in self._state.leases.values()
                  if lease.phase is not LeasePhase.FINISHED]
        return leases + [
            (standby.asked.job_id, standby.asked.segment, standby.asked.token)
            for standby in self._state.standbys.values()]

    def _is_late(self) -> bool:
        return self._deadline_s is not None and _now_s() >= self._deadline_s

    def _count(self) -> int:
        """How much is held: leases, standbys, and what is left of them outside the core."""
        state = self._state
        return len(state.leases) + len(state.standbys) + self._is_working()


def _now_s() -> float:
    return asyncio.get_running_loop().time()
