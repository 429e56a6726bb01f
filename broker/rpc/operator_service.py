"""`OperatorService`: what operators see and do from the command line."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from typing import TYPE_CHECKING, Any

import grpc
import structlog

from broker.clock import unix_ms
from broker.copying import Copying
from broker.core import operator_views, views
from broker.core.event_log import LineFilter, LogLine
from broker.core.limits import EVENT_LOG_LINES
from broker.driver import Driver
from broker.operator_actions import Actor, OperatorActions
from broker.rpc.blob_service import CHUNK_BYTES, IDLE_TIMEOUT_S
from broker.rpc.bounds import check_texts, check_whole
from broker.rpc.member_codec import members_parts
from broker.rpc.operator_codec import (
    audit_line,
    backups_parts,
    event_line,
    newcomer,
    peer_status,
    timeline_of,
)
from broker.rpc.placement_codec import peer_details, placement_parts
from broker.sightings import Sightings
from broker.telemetry import Telemetry
from homespun.identity.caller import identify
from homespun.v1 import operator_pb2, operator_pb2_grpc

if TYPE_CHECKING:
    from broker.console.sign_in import Door

log = structlog.get_logger(__name__)

LINES_USUAL = 100
"""Lines of a log where the caller names no number."""
AUDIT_LINES_MAX = 1_000
LINES_PER_PART = 1_000
"""At most about 2 MB."""
FOLLOW_KEEPALIVE_S = 10.0
"""Who follows the events hears from the broker at least so often."""

Context = grpc.aio.ServicerContext[Any, Any]


class OperatorService(operator_pb2_grpc.OperatorServiceServicer):
    """Serves operators."""

    def __init__(
        self, driver: Driver, actions: OperatorActions, door: Callable[[], Door],
        copying: Copying, telemetry: Telemetry, sightings: Sightings,
    ) -> None:
        """Serve with the broker's parts.

        Args:
            driver: of the broker.
            actions: what operators can do.
            door: the console's; raises `HomespunError` where no console is served.
            copying: makes copies of the journal.
            telemetry: what peers tell besides.
            sightings: when members were last seen.
        """
        self._copying = copying
        self._telemetry = telemetry
        self._sightings = sightings
        self._driver = driver
        self._actions = actions
        self._door = door

    async def ListPeers(  # noqa: N802
        self, request: operator_pb2.ListPeersRequest, context: Context
    ) -> operator_pb2.ListPeersResponse:
        """Every peer that ever connected."""
        peers = views.peers(self._driver.core)
        newcomers = operator_views.newcomers(self._driver.core)
        return operator_pb2.ListPeersResponse(
            peers=[peer_status(peer) for peer in peers],
            newcomers=[newcomer(one) for one in newcomers])

    async def ListMembers(  # noqa: N802
        self, request: operator_pb2.ListMembersRequest, context: Context
    ) -> AsyncIterator[operator_pb2.MembersPart]:
        """Everybody who has joined."""
        for part in members_parts(self._driver.core, self._sightings):
            yield part

    async def ForgetPeer(  # noqa: N802
        self, request: operator_pb2.ForgetPeerRequest, context: Context
    ) -> operator_pb2.ForgetPeerResponse:
        """Remove a peer that is gone."""
        peer_id = await self._actions.forget_peer(_actor(context, request.reason), request.peer)
        return operator_pb2.ForgetPeerResponse(peer_id=peer_id)

    async def CreateKey(  # noqa: N802
        self, request: operator_pb2.CreateKeyRequest, context: Context
    ) -> operator_pb2.CreateKeyResponse:
        """Make a join key; its secret is in the answer and nowhere else."""
        made = await self._actions.create_key(
            _actor(context, request.reason), request.role,
            lifetime_ms=request.lifetime_ms, reusable=request.reusable,
            needs_admission=request.needs_admission)
        return operator_pb2.CreateKeyResponse(
            key=made.text, key_id=made.key_id, expires_unix_ms=unix_ms(made.expires_at_ns))

    async def ListKeys(  # noqa: N802
        self, request: operator_pb2.ListKeysRequest, context: Context
    ) -> operator_pb2.ListKeysResponse:
        """Every key, without its secret."""
        keys = [
            operator_pb2.KeyStatus(
                key_id=key.key_id,
                role=key.role,
                reusable=key.reusable,
                expires_unix_ms=unix_ms(key.expires_at_ns),
                uses=key.uses,
                revoked=key.revoked,
                needs_admission=key.needs_admission,
            )
            for key in views.keys(self._driver.core)
        ]
        return operator_pb2.ListKeysResponse(keys=keys)

    async def RevokeKey(  # noqa: N802
        self, request: operator_pb2.RevokeKeyRequest, context: Context
    ) -> operator_pb2.RevokeKeyResponse:
        """Make a key useless. Who has joined with it stays."""
        key_id = await self._actions.revoke_key(_actor(context, request.reason), request.key_id)
        return operator_pb2.RevokeKeyResponse(key_id=key_id)

    async def DrainPeer(  # noqa: N802
        self, request: operator_pb2.DrainPeerRequest, context: Context
    ) -> operator_pb2.DrainPeerResponse:
        """Have a peer emptied, or used again."""
        peer_id = await self._actions.drain_peer(
            _actor(context, request.reason), request.peer,
            deadline_ms=request.deadline_ms, undo=request.undo)
        return operator_pb2.DrainPeerResponse(peer=self._peer(peer_id))

    async def GetBackups(  # noqa: N802
        self, request: operator_pb2.GetBackupsRequest, context: Context
    ) -> AsyncIterator[operator_pb2.BackupsPart]:
        """Who could go on with each segment of every started job."""
        for part in backups_parts(self._driver.core):
            yield part

    async def AdmitPeer(  # noqa: N802
        self, request: operator_pb2.AdmitPeerRequest, context: Context
    ) -> operator_pb2.AdmitPeerResponse:
        """Let a pending peer take part."""
        peer_id = await self._actions.admit_peer(_actor(context, request.reason), request.peer)
        return operator_pb2.AdmitPeerResponse(peer_id=peer_id)

    async def BanMember(  # noqa: N802
        self, request: operator_pb2.BanMemberRequest, context: Context
    ) -> operator_pb2.BanMemberResponse:
        """Shut a member out, or in again."""
        member_id = await self._actions.ban_member(
            _actor(context, request.reason), request.member, undo=request.undo)
        return operator_pb2.BanMemberResponse(member_id=member_id)

    async def LabelPeer(  # noqa: N802
        self, request: operator_pb2.LabelPeerRequest, context: Context
    ) -> operator_pb2.LabelPeerResponse:
        """Say what a peer is to people."""
        peer_id = await self._actions.label_peer(
            _actor(context, request.reason), request.peer, request.label)
        return operator_pb2.LabelPeerResponse(peer_id=peer_id)

    async def GetEvents(  # noqa: N802
        self, request: operator_pb2.GetEventsRequest, context: Context
    ) -> AsyncIterator[operator_pb2.EventsPart]:
        """Lines of the event log; with `follow` those to come, too."""
        check_texts(subject=request.subject, kind=request.kind, text=request.text)
        check_whole("limit", request.limit, 0, EVENT_LOG_LINES)
        wanted = LineFilter(
            subject=request.subject, kind=request.kind, text=request.text,
            since_ns=request.since_unix_ms * 1_000_000)
        core = self._driver.core
        last = core.events.last_number
        found = operator_views.newest_events(core, wanted, request.limit or LINES_USUAL)
        for part in _parts(found[::-1]):
            yield part
        while request.follow:
            seen = self._driver.changes
            lines = operator_views.events_after(core, last, wanted, LINES_PER_PART)
            last = lines[-1].number if len(lines) == LINES_PER_PART else core.events.last_number
            if lines:
                yield operator_pb2.EventsPart(lines=map(event_line, lines))
            elif seen == self._driver.changes:
                await self._driver.wait_change(seen, FOLLOW_KEEPALIVE_S)
                if seen == self._driver.changes:
                    yield operator_pb2.EventsPart()

    async def GetAudit(  # noqa: N802
        self, request: operator_pb2.GetAuditRequest, context: Context
    ) -> operator_pb2.GetAuditResponse:
        """What operators did."""
        check_whole("limit", request.limit, 0, AUDIT_LINES_MAX)
        entries = operator_views.audit(self._driver.core, request.limit or LINES_USUAL)
        return operator_pb2.GetAuditResponse(entries=map(audit_line, entries))

    async def GetTimeline(  # noqa: N802
        self, request: operator_pb2.GetTimelineRequest, context: Context
    ) -> operator_pb2.Timeline:
        """Who had which segment of a job, and when."""
        return timeline_of(self._driver.core, self._actions.find_job(request.job))

    async def CopyJournal(  # noqa: N802
        self, request: operator_pb2.CopyJournalRequest, context: Context
    ) -> None:
        """A sealed copy of the journal, in parts."""
        async with self._copying.copied() as path:
            log.info("journal_copied", by=identify(context).id, size_bytes=path.stat().st_size)
            with await asyncio.to_thread(path.open, "rb") as file:
                while data := await asyncio.to_thread(file.read, CHUNK_BYTES):
                    async with asyncio.timeout(IDLE_TIMEOUT_S):
                        await context.write(operator_pb2.JournalPart(data=data))

    async def CreateConsoleLink(  # noqa: N802
        self, request: operator_pb2.CreateConsoleLinkRequest, context: Context
    ) -> operator_pb2.CreateConsoleLinkResponse:
        """Make a one-time link into the console."""
        link = await self._door().make_link(
            identify(context).id, request.role, request.lifetime_ms)
        return operator_pb2.CreateConsoleLinkResponse(
            url=link.url, expires_unix_ms=unix_ms(link.expires_at_ns))

    async def EndConsoleSession(  # noqa: N802
        self, request: operator_pb2.EndConsoleSessionRequest, context: Context
    ) -> operator_pb2.EndConsoleSessionResponse:
        """End a browser's session in the console."""
        return operator_pb2.EndConsoleSessionResponse(
            session_id=await self._door().end(identify(context).id, request.session))

    async def GetPeer(  # noqa: N802
        self, request: operator_pb2.GetPeerRequest, context: Context
    ) -> operator_pb2.PeerDetails:
        """Everything about one peer."""
        return peer_details(self._driver.core, self._actions.find_peer(request.peer))

    async def GetPlacement(  # noqa: N802
        self, request: operator_pb2.GetPlacementRequest, context: Context
    ) -> AsyncIterator[operator_pb2.PlacementPart]:
        """Where jobs run, or one does."""
        job_id = self._actions.find_job(request.job) if request.job else ""
        for part in placement_parts(self._driver.core, self._telemetry, job_id):
            yield part

    def _peer(self, peer_id: str) -> operator_pb2.PeerStatus:
        peer = views.peer(self._driver.core, peer_id)
        assert peer is not None, "peers are never forgotten"
        return peer_status(peer)


def _parts(lines: tuple[LogLine, ...]) -> Iterator[operator_pb2.EventsPart]:
    for first in range(0, len(lines), LINES_PER_PART):
        some = lines[first:first + LINES_PER_PART]
        yield operator_pb2.EventsPart(lines=map(event_line, some))


def _actor(context: Context, reason: str) -> Actor:
    return Actor(by=identify(context).id, reason=reason)
