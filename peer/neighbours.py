"""A running segment's links: what goes out along the plan, and what may come in.

What is sent goes into the boundary log, and each link reads the log from a place of its own. So
members may change while the segment works: a segment without a holder only costs log, and its next
holder is served from the position that it goes on at.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field

import grpc
import structlog

from homespun.errors import Code, HomespunError
from homespun.ids import JobId, PeerId
from ir.segment import Segment, are_partners
from peer.boundary_log import BoundaryLog
from peer.core.events import Member
from peer.frames import Frame
from peer.links import Link, LinkSettings, Traffic, dial
from peer.metering import Meter, Urgency, route_of
from peer.routes import Routes

log = structlog.get_logger(__name__)

LAG_BYTES = 64 << 20
"""New payload that may wait in the log for a link; beyond it the executor waits."""
LAG_FRAMES = 4_096
RELINK_S = 0.5
"""Pause before a link that failed, though both ends may be well, is made anew; it doubles."""
RELINK_LONGEST_S = 30.0
SETTINGS = LinkSettings(broken_timeout_s=0.4)
"""A neighbour without a stream for so long is reported: the broker knows more, and decides."""

BLAMES = frozenset({Code.INVALID_ARGUMENT, Code.LIMIT_EXCEEDED, Code.NOT_ALLOWED})
"""Codes of a failed link by which the other side did what no correct peer does."""


@dataclass(slots=True, eq=False)
class _Channel:
    """The way to one member.

    Attributes:
        member: who.
        link: to it.
        cursor: number of the frame in the log that the link gets next.
        live_from: what has this number or a later one was new when it was logged; what came before
            is replayed, and holds nobody up.
        routes: of the membership that the link was made in.
        relink_s: pause before the link is made anew if it fails.
        task: hands the log to the link.
        moved: set when the lag has become less.
    """

    member: Member
    link: Link
    cursor: int
    live_from: int
    routes: Routes
    relink_s: float
    task: asyncio.Task[None] | None = None
    moved: asyncio.Event = field(default_factory=asyncio.Event)

    def is_behind(self, log: BoundaryLog) -> bool:
        """Whether so much of what is new waits that no more should be made."""
        segment, begins = self.member.segment, max(self.cursor, self.live_from)
        waiting = log.end(segment) - begins
        return waiting > LAG_FRAMES or (
            waiting > 1 and log.bytes_from(segment, begins) > LAG_BYTES)


class Neighbours:
    """Links to the holders of the segments next to this one. Make it in an event loop."""

    def __init__(
        self,
        job_id: str,
        local_id: str,
        segment: Segment,
        token: int,
        *,
        with_lead: bool,
        open_channel: Callable[[str, str], grpc.aio.Channel],
        on_frame: Callable[[Frame], Awaitable[None]],
        on_lost: Callable[[Member, HomespunError], None],
        on_broken: Callable[[str, HomespunError], None],
        log: BoundaryLog,
        meter: Meter | None = None,
    ) -> None:
        """Prepare; `set_members` makes links.

        Args:
            job_id: the job.
            local_id: this peer.
            segment: what this peer holds.
            token: of its lease.
            with_lead: whether sums over segments are needed.
            open_channel: opens an mTLS channel to (address, peer id).
            on_frame: takes frames that the routes have accepted, in order.
            on_lost: told when a member cannot be reached, or not be served.
            on_broken: told when a member did what no correct one does.
            log: of what is sent.
            meter: counts and holds what goes and comes; None for neither.
        """
        self._meter = meter
        self._job_id, self._local_id = job_id, local_id
        self._segment, self._token, self._with_lead = segment, token, with_lead
        self._open_channel = open_channel
        self._on_frame, self._on_lost, self._on_broken = on_frame, on_lost, on_broken
        self._log = log
        self._channels: dict[int, _Channel] = {}
        self._appended = asyncio.Event()
        self._endings: set[asyncio.Task[object]] = set()
        self._loop = asyncio.get_running_loop()

    def set_members(self, members: tuple[Member, ...]) -> None:
        """Link with the holders of neighbouring segments as they are now.

        Of two peers the one with the smaller id dials. A member under the token that it had keeps
        its link; another gets the log from its position on.
        """
        routes = Routes(self._segment, members)
        for member in routes.neighbours(with_lead=self._with_lead):
            channel = self._channels.get(member.segment)
            if channel is not None and (channel.member.peer_id, channel.member.token) == (
                    member.peer_id, member.token):
                continue
            if channel is not None:
                self._end(channel)
                del self._channels[member.segment]
            if member.peer_id:
                self._begin(member, routes)

    def _begin(self, member: Member, routes: Routes) -> None:
        try:
            cursor = self._log.first_at(member.segment, member.position)
        except HomespunError as error:
            text = (f"segment {member.segment} goes on at position {member.position}, but on "
                    f"{self._local_id} {error.message}")
            self._on_lost(member, HomespunError(error.code, text))
            return
        self._connect(member, routes, cursor, RELINK_S)

    def _connect(self, member: Member, routes: Routes, cursor: int, relink_s: float) -> None:
        """Make a link to a member, and hand it the log from `cursor` on."""
        channel = _Channel(
            member, self._link(member, routes), cursor, self._log.end(member.segment), routes,
            relink_s)
        channel.task = self._loop.create_task(
            self._feed(channel), name=f"feed {self._local_id} -> {member.peer_id}")
        self._channels[member.segment] = channel

    def _link(self, member: Member, routes: Routes) -> Link:
        peer_id, address = member.peer_id, member.tensor_address
        link = Link(
            JobId(self._job_id),
            PeerId(self._local_id),
            PeerId(peer_id),
            on_frame=lambda frame: self._take(member, link, frame),
            on_broken=lambda error: self._broke(member, link, error),
            payload_limit=lambda frame: routes.payload_limit(peer_id, frame),
            settings=SETTINGS,
            tokens=(self._token, member.token),
        )
        if self._local_id < peer_id:
            dial(link, lambda: self._open_channel(address, peer_id),
                 lambda: route_of(self._meter, address, self._job_id, Urgency.TENSOR))
        return link

    async def _take(self, member: Member, link: Link, frame: Frame) -> None:
        """Take a frame, unless its sender has been replaced: then its link is being closed."""
        channel = self._channels.get(member.segment)
        if channel is None or channel.link is not link:
            await self._loop.create_future()  # until `Link.close` cancels it
        await self._on_frame(frame)

    def _broke(self, member: Member, link: Link, error: HomespunError) -> None:
        """A link has had no stream for a while, or has failed for good."""
        channel = self._channels.get(member.segment)
        if channel is None or channel.link is not link:
            return
        is_told = "reported_by" in error.details
        if link.is_failed and error.code in BLAMES and not is_told:
            self._on_broken(member.peer_id, error)
            return
        self._on_lost(member, error)
        if link.is_failed:
            self._loop.call_later(channel.relink_s, self._relink, channel)

    def _relink(self, channel: _Channel) -> None:
        """Make a failed link anew, and go on after what the other side has accepted."""
        member = channel.member
        if self._channels.get(member.segment) is channel:
            self._end(channel)
            self._connect(
                member, channel.routes, channel.cursor - channel.link.unaccepted,
                min(2 * channel.relink_s, RELINK_LONGEST_S))

    def _end(self, channel: _Channel) -> None:
        """Close a link beside everything else."""
        if channel.task is not None:
            channel.task.cancel()
        channel.moved.set()
        self._beside(channel.link.close())

    def _beside(self, work: Coroutine[object, object, object]) -> None:
        task = self._loop.create_task(work)
        self._endings.add(task)
        task.add_done_callback(self._endings.discard)

    async def send(self, frame: Frame) -> None:
        """Log a frame for its target's holder; waits while that one is far behind.

        Raises:
            HomespunError: INTERNAL when the plan has no such neighbour.
        """
        if not are_partners(self._segment, frame.target, with_lead=self._with_lead):
            raise HomespunError(
                Code.INTERNAL,
                f"a {frame.title()} is for segment {frame.target}, which is no neighbour of "
                f"segment {self._segment.index}")
        self._log.append(frame)
        self._appended.set()
        self._appended = asyncio.Event()
        if self._log.is_spill_due:
            await self._log.spill()
        while (channel := self._channels.get(frame.target)) is not None:
            if not channel.is_behind(self._log):
                return
            channel.moved.clear()
            await channel.moved.wait()

    async def _feed(self, channel: _Channel) -> None:
        """Send the log to one member, from its cursor on, as fast as its link takes it."""
        while True:
            try:
                await self._feed_one(channel)
            except HomespunError as error:
                if channel.link.is_failed or not self._is_current(channel):
                    return  # it is made anew, or replaced
                self._on_lost(channel.member, error)
                if error.code is Code.CONFLICT:
                    return  # the log was cut: all segments go back
            except Exception as error:  # a defect must not become a silent stall
                log.exception("feed_failed", peer_id=channel.member.peer_id)
                self._on_lost(channel.member, HomespunError(
                    Code.INTERNAL, f"the log on {self._local_id} was not sent: {error!r}"))
                self._loop.call_later(channel.relink_s, self._relink, channel)
                return

    async def _feed_one(self, channel: _Channel) -> None:
        segment = channel.member.segment
        while channel.cursor >= self._log.end(segment):
            await self._appended.wait()
        position = channel.member.position
        channel.cursor = self._log.next_from(segment, channel.cursor, position)
        if channel.cursor < self._log.end(segment):
            await channel.link.send(await self._log.read(segment, channel.cursor))
            channel.cursor += 1
        channel.moved.set()

    def _is_current(self, channel: _Channel) -> bool:
        return self._channels.get(channel.member.segment) is channel

    def forget_before(self, position: int) -> None:
        """Drop what was logged for earlier positions."""
        self._log.forget_before(position)
        self._beside(self._log.sweep())

    def link_with(self, peer_id: str, token: int) -> Link | None:
        """The link to a neighbour's lease, for the server that its stream arrives at."""
        for channel in self._channels.values():
            if (channel.member.peer_id, channel.member.token) == (peer_id, token):
                return channel.link
        return None

    def holder_of(self, segment: int) -> str:
        """The peer that holds a neighbouring segment now; "" for none."""
        channel = self._channels.get(segment)
        return "" if channel is None else channel.member.peer_id

    def traffic(self) -> dict[str, Traffic]:
        """Payload bytes by neighbour, so far."""
        return {
            channel.member.peer_id: channel.link.traffic for channel in self._channels.values()}

    def goodput_reports(self) -> dict[str, float]:
        """Bandwidth of what was sent, by neighbour, where there is news of it."""
        found = {channel.member.peer_id: channel.link.goodput_report()
                 for channel in self._channels.values()}
        return {peer_id: rate for peer_id, rate in found.items() if rate is not None}

    async def close(self) -> None:
        """End all links, and the log."""
        channels = list(self._channels.values())
        self._channels.clear()
        for channel in channels:
            self._end(channel)
        if self._endings:
            await asyncio.wait(self._endings)
        await self._log.close()
