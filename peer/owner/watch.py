"""The daemon's ear for its owner: wishes, limits and signals become events; it says when to go."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from dataclasses import replace

import structlog

from homespun.errors import HomespunError
from peer.core import events as ev
from peer.core.events import Availability
from peer.core.state import LeasePhase, PeerState
from peer.live_settings import LiveSettings
from peer.owner.core.allowance import NOTHING, Allowance, decide
from peer.owner.core.limits import OwnerLimits
from peer.owner.core.readings import Readings
from peer.owner.core.wish import NO_WISH, Wish
from peer.owner.wish_file import forget_wish, read_wish
from peer.settings import PeerDirectory

log = structlog.get_logger(__name__)

LOOK_S = 0.25
"""How often to look at the owner's files, and whether what is held has become less."""
SENSE_S = 5.0
"""How often to read the machine."""
NEARER_S = 1.0
"""A deadline that comes nearer by less is no news."""
NO_EVENT_AT = 0
SIGNAL = "signal"
GIVEN_UP = "its owner wants the device back, and nobody has taken the segment over in time"


class OwnerLeaves(Exception):  # noqa: N818 - no error: it ends the daemon's task group
    """The daemon may go: it holds nothing, or its time is over."""


class OwnerWatch:
    """What the owner wants, as the daemon knows it."""

    def __init__(
        self, directory: PeerDirectory, settings: LiveSettings, state: PeerState,
        post: Callable[[ev.AnyEvent], None], *, is_connected: Callable[[], bool],
        is_working: Callable[[], bool], sense: Callable[[OwnerLimits], Readings],
    ) -> None:
        """Prepare; `begin` and `run` do the work.

        Args:
            directory: where the wish is kept.
            settings: with the limits, and how long a signal lets the daemon hand over.
            state: of the core, to see what is held.
            post: queues an event for the core.
            is_connected: whether a broker is there to hand over to.
            is_working: whether something of a lease is left, such as its executor.
            sense: reads the machine as far as limits need it; may block.
        """
        self._directory = directory
        self._settings = settings
        self._state = state
        self._post = post
        self._is_connected = is_connected
        self._is_working = is_working
        self._sense = sense
        self._wish = NO_WISH
        self._signal: Wish | None = None
        self._seen: tuple[int, int] | None = None
        self._readings: Readings | None = None
        self._recollection = NOTHING
        self._allowance = Allowance(availability=Availability.OPEN)
        self._told_wish_id = ""
        self._told_deadline_s: float | None = None
        self._has_given_up = False
        self._held = 0
        self._news = asyncio.Event()
        self._is_reread_wanted = asyncio.Event()

    @property
    def allowance(self) -> Allowance:
        """What the peer may do at present, and why."""
        return self._allowance

    @property
    def readings(self) -> Readings | None:
        """Of the machine, the newest; None before the first."""
        return self._readings

    @property
    def availability(self) -> Availability:
        """What the peer may do at present."""
        return self._allowance.availability

    @property
    def wish_id(self) -> str:
        """The newest wish that was taken into account."""
        return self._wish.id

    def remaining_ms(self) -> int:
        """Until the deadline, at least 1; 0 without one."""
        if self._allowance.deadline_s is None:
            return 0
        return max(1, round((self._allowance.deadline_s - time.monotonic()) * 1000))

    def leave(self) -> None:
        """A signal: hand over and go, within the grace. Called in the loop's own thread."""
        grace_ms = max(1, round(self._settings.current.grace_s * 1000))
        self._signal = Wish(id=SIGNAL, availability=Availability.LEAVING, deadline_ms=grace_ms)
        self._look()

    async def begin(self) -> None:
        """Read the machine, so that nothing is lent before it is known to be allowed."""
        if self._newest_wish().availability is Availability.LEAVING:
            forget_wish(self._directory)  # it was meant for a daemon that is gone
        self._seen = None
        await self._read()
        self._look()

    async def run(self) -> None:
        """Watch until the daemon may go; after `begin`.

        Raises:
            OwnerLeaves: it may go now.
        """
        while not self._may_go():
            self._look()
            self._give_up_late()
            await asyncio.sleep(LOOK_S)
        if self._signal is None:
            forget_wish(self._directory)
        raise OwnerLeaves

    async def watch_machine(self) -> None:
        """Read the machine again and again, and at once when other limits are set."""
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(SENSE_S):
                    await self._is_reread_wanted.wait()
            self._is_reread_wanted.clear()
            await self._read()

    async def news(self, at_most_s: float) -> None:
        """Wait until something else is allowed, or less is held, or so long."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(at_most_s):
                await self._news.wait()
        self._news.clear()

    # --- parts ---------------------------------------------------------------------------------

    async def _read(self) -> None:
        self._readings = await asyncio.to_thread(self._sense, self._settings.current.limits)

    def _look(self) -> None:
        if self._readings is None:
            return  # `begin` looks when it has read
        if self._settings.look():
            self._is_reread_wanted.set()
            self._news.set()
        if self._signal is None:
            self._wish = self._newest_wish()
            self._forget_if_over()
        self._decide(self._signal or self._wish, self._readings)
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

    def _forget_if_over(self) -> None:
        if self._wish.is_over(time.time()) and self._directory.wish.exists():
            forget_wish(self._directory)

    def _decide(self, wish: Wish, readings: Readings) -> None:
        now = replace(readings, now_s=time.monotonic(), unix_s=time.time())
        before = self._allowance
        self._allowance, self._recollection = decide(
            self._settings.current.limits, wish, now, self._recollection)
        deadline_s, told_s = self._allowance.deadline_s, self._told_deadline_s
        is_nearer = deadline_s is not None and (
            told_s is None or deadline_s < told_s - NEARER_S)
        is_other = self._allowance.availability is not before.availability
        if is_other or is_nearer or wish.id != self._told_wish_id:
            self._told_wish_id = wish.id
            self._announce(now.now_s)
        if _kinds(before) != _kinds(self._allowance):
            self._news.set()

    def _announce(self, now_s: float) -> None:
        allowance = self._allowance
        self._told_deadline_s = allowance.deadline_s
        self._has_given_up = False
        deadline_ms = 0 if allowance.deadline_s is None else max(
            1, round((allowance.deadline_s - now_s) * 1000))
        log.info("availability", now=str(allowance.availability), deadline_ms=deadline_ms,
                 reasons=[each.text for each in allowance.reasons])
        self._post(ev.AvailabilityChanged(
            at_ns=NO_EVENT_AT, availability=allowance.availability, deadline_ms=deadline_ms))
        self._news.set()

    def _may_go(self) -> bool:
        if self.availability is not Availability.LEAVING:
            return False
        if self._is_late() or not self._count():
            return True
        return self._signal is not None and not self._is_connected()

    def _give_up_late(self) -> None:
        """The owner's deadline goes before everything: what takes memory of the device ends."""
        is_due = self.availability is Availability.PAUSED and self._is_late()
        if is_due and not self._has_given_up:
            self._has_given_up = True
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
        deadline_s = self._allowance.deadline_s
        return deadline_s is not None and time.monotonic() >= deadline_s

    def _count(self) -> int:
        """How much is held: leases, standbys, and what is left of them outside the core."""
        state = self._state
        return len(state.leases) + len(state.standbys) + self._is_working()


def _kinds(allowance: Allowance) -> list[str]:
    return [each.kind for each in allowance.reasons]
