"""`OperatorService`: the operator's view of peers and keys."""

from __future__ import annotations

import secrets
import uuid
from collections.abc import AsyncIterator
from typing import Any

import grpc

from broker.clock import unix_ms
from broker.core import events as ev
from broker.core import views
from broker.core.limits import DRAIN_MAX_MS
from broker.driver import Driver
from broker.rpc.bounds import check_whole, shown
from broker.rpc.operator_codec import backups_parts, peer_status
from homespun.errors import Code, HomespunError
from homespun.identity import join_key
from homespun.identity.caller import identify
from homespun.v1 import operator_pb2, operator_pb2_grpc

KEY_LIFETIME_MS_MAX = 366 * 86_400_000
KEY_ROLES = ("peer", "submitter")

Context = grpc.aio.ServicerContext[Any, Any]


class OperatorService(operator_pb2_grpc.OperatorServiceServicer):
    """Serves operators."""

    def __init__(self, driver: Driver, root_fingerprint: bytes, enrolment_port: int) -> None:
        """Serve with the broker's parts; the last two go into join keys."""
        self._driver = driver
        self._root_fingerprint = root_fingerprint
        self._enrolment_port = enrolment_port

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
        if request.role not in KEY_ROLES:
            raise HomespunError(
                Code.INVALID_ARGUMENT, f"a key is for one of {KEY_ROLES}, not {request.role!r}"
            )
        if not 0 < request.lifetime_ms <= KEY_LIFETIME_MS_MAX:
            raise HomespunError(
                Code.INVALID_ARGUMENT,
                f"a key lives 1 ms to 366 days; {request.lifetime_ms} ms were asked for",
            )
        key = join_key.mint(
            secrets.token_bytes,
            enrolment_port=self._enrolment_port,
            root_fingerprint=self._root_fingerprint,
        )
        request_id = uuid.uuid4().hex
        expires_at_ns = self._driver.now_ns() + request.lifetime_ms * 1_000_000
        event = ev.KeyCreated(
            at_ns=0,
            request_id=request_id,
            key_id=key.key_id,
            secret_hash=join_key.secret_hash(key.secret),
            role=request.role,
            reusable=request.reusable,
            expires_at_ns=expires_at_ns,
        )
        await self._driver.ask(event)
        return operator_pb2.CreateKeyResponse(
            key=key.text, key_id=key.key_id, expires_unix_ms=unix_ms(expires_at_ns)
        )

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
        request_id = uuid.uuid4().hex
        event = ev.KeyRevoked(at_ns=0, request_id=request_id, key_id=request.key_id)
        await self._driver.ask(event)
        return operator_pb2.RevokeKeyResponse()

    async def DrainPeer(  # noqa: N802
        self, request: operator_pb2.DrainPeerRequest, context: Context
    ) -> operator_pb2.DrainPeerResponse:
        """Have a peer emptied, or used again."""
        check_whole("deadline_ms", request.deadline_ms, 0, DRAIN_MAX_MS)
        peer_id = self._find(request.peer)
        event = ev.DrainRequested(
            at_ns=0,
            request_id=uuid.uuid4().hex,
            peer_id=peer_id,
            by=identify(context).id,
            deadline_ms=request.deadline_ms,
            undo=request.undo,
        )
        await self._driver.ask(event)
        peer = views.peer(self._driver.core, peer_id)
        assert peer is not None, "peers are never forgotten"
        return operator_pb2.DrainPeerResponse(peer=peer_status(peer))

    async def GetBackups(  # noqa: N802
        self, request: operator_pb2.GetBackupsRequest, context: Context
    ) -> AsyncIterator[operator_pb2.BackupsPart]:
        """Who could go on with each segment of every started job."""
        for part in backups_parts(self._driver.core):
            yield part

    def _find(self, text: str) -> str:
        """The one peer that an operator means."""
        found = views.matching_peers(self._driver.core, text)
        if len(found) == 1:
            return found[0]
        if found:
            some = ", ".join(found[:5])
            raise HomespunError(
                Code.CONFLICT,
                f"{shown(text, 40)!r} may mean {len(found)} peers ({some}); give more of the id")
        raise HomespunError(
            Code.NOT_FOUND, f"there is no peer {shown(text, 40)!r}: `broker peers` lists them")
