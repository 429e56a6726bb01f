"""A running segment's links: what goes out along the plan, and what may come in."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import grpc

from homespun.errors import HomespunError
from homespun.ids import JobId, PeerId
from peer.frames import Frame
from peer.links import Link, Traffic, dial
from peer.routes import Routes


class Neighbours:
    """One link to each peer that holds a segment next to this one. Make it in an event loop."""

    def __init__(
        self,
        job_id: str,
        local_id: str,
        routes: Routes,
        *,
        with_lead: bool,
        open_channel: Callable[[str, str], grpc.aio.Channel],
        on_frame: Callable[[Frame], Awaitable[None]],
        on_broken: Callable[[str, HomespunError], None],
    ) -> None:
        """Make the links; of two peers the one with the smaller id dials.

        Args:
            job_id: the job.
            local_id: this peer.
            routes: the plan as this segment sees it.
            with_lead: whether sums over segments are needed.
            open_channel: opens an mTLS channel to (address, peer id).
            on_frame: takes frames that the routes have accepted, in order.
            on_broken: told which neighbour's link broke and why.
        """
        self._routes = routes
        self._links: dict[str, Link] = {}
        for member in routes.neighbours(with_lead=with_lead):
            peer_id, address = member.peer_id, member.tensor_address
            if peer_id in self._links:
                continue
            self._links[peer_id] = link = Link(
                JobId(job_id),
                PeerId(local_id),
                PeerId(peer_id),
                on_frame=on_frame,
                on_broken=lambda error, peer_id=peer_id: on_broken(peer_id, error),
                payload_limit=lambda frame, sender=peer_id: routes.payload_limit(sender, frame),
            )
            if local_id < peer_id:
                dial(link, lambda address=address, peer_id=peer_id: open_channel(address, peer_id))

    def link_with(self, peer_id: str) -> Link | None:
        """The link to a neighbour, for the server that its stream arrives at."""
        return self._links.get(peer_id)

    def link_of(self, frame: Frame) -> Link:
        """The link that a frame goes out by: to the holder of its target segment.

        Raises:
            HomespunError: INTERNAL when the plan has no such neighbour.
        """
        peer_id = self._routes.peer_of(frame.target)
        if peer_id not in self._links:
            raise self._routes.no_neighbour(frame)
        return self._links[peer_id]

    def traffic(self) -> dict[str, Traffic]:
        """Payload bytes by neighbour, so far."""
        return {peer_id: link.traffic for peer_id, link in self._links.items()}

    def goodput_reports(self) -> dict[str, float]:
        """Bandwidth of what was sent, by neighbour, where there is news of it."""
        found = {peer_id: link.goodput_report() for peer_id, link in self._links.items()}
        return {peer_id: rate for peer_id, rate in found.items() if rate is not None}

    async def close(self, drain_s: float) -> None:
        """End all links, each after what was sent has been taken, or `drain_s` at most."""
        await asyncio.gather(*(link.close(drain_s) for link in self._links.values()))
