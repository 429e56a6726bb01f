"""`OperatorService`: what operators see and do from the command line."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING, Any

import grpc

from broker.clock import unix_ms
from broker.core import views
from broker.driver import Driver
from broker.operator_actions import Actor, OperatorActions
from broker.rpc.operator_codec import backups_parts, peer_status
from homespun.identity.caller import identify
from homespun.v1 import operator_pb2, operator_pb2_grpc

if TYPE_CHECKING:
    from broker.console.sign_in import Door

Context = grpc.aio.ServicerContext[Any, Any]


class OperatorService(operator_pb2_grpc.OperatorServiceServicer):
    """Serves operators."""

    def __init__(
        self, driver: Driver, actions: OperatorActions, door: Callable[[], Door]
    ) -> None:
        """Serve with the broker's parts.

        Args:
            driver: of the broker.
            actions: what operators can do.
            door: the console's; raises `HomespunError` where no console is served.
        """
        self._driver = driver
        self._actions = actions
        self._door = door

    async def ListPeers(  # noqa: N802
        self, request: operator_pb2.ListPeersRequest, context: Context
    ) -> operator_pb2.ListPeersResponse:
        """Every peer that ever connected."""
        peers = views.peers(self._driver.core)
        return operator_pb2.ListPeersResponse(peers=[peer_status(peer) for peer in peers])

    async def CreateKey(  # noqa: N802
        self, request: operator_pb2.CreateKeyRequest, context: Context
    ) -> operator_pb2.CreateKeyResponse:
        """Make a join key; its secret is in the answer and nowhere else."""
        made = await self._actions.create_key(
            _actor(context, request.reason), request.role,
            lifetime_ms=request.lifetime_ms, reusable=request.reusable)
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
            )
            for key in views.keys(self._driver.core)
        ]
        return operator_pb2.ListKeysResponse(keys=keys)

    async def RevokeKey(  # noqa: N802
        self, request: operator_pb2.RevokeKeyRequest, context: Context
    ) -> operator_pb2.RevokeKeyResponse:
        """Make a key useless. Who has joined with it stays."""
        await self._actions.revoke_key(_actor(context, request.reason), request.key_id)
        return operator_pb2.RevokeKeyResponse()

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

    async def CreateConsoleLink(  # noqa: N802
        self, request: operator_pb2.CreateConsoleLinkRequest, context: Context
    ) -> operator_pb2.CreateConsoleLinkResponse:
        """Make a one-time link into the console."""
        link = await self._door().make_link(
            identify(context).id, request.role, request.lifetime_ms)
        return operator_pb2.CreateConsoleLinkResponse(
            url=link.url, expires_unix_ms=unix_ms(link.expires_at_ns))

    def _peer(self, peer_id: str) -> operator_pb2.PeerStatus:
        peer = views.peer(self._driver.core, peer_id)
        assert peer is not None, "peers are never forgotten"
        return peer_status(peer)


def _actor(context: Context, reason: str) -> Actor:
    return Actor(by=identify(context).id, reason=reason)
