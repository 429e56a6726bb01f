"""`OperatorService`: the operator's view of peers and keys."""

from __future__ import annotations

import secrets
import uuid
from typing import Any

import grpc

from broker.clock import unix_ms
from broker.core import events as ev
from broker.core import views
from broker.driver import Driver
from homespun.errors import Code, HomespunError
from homespun.identity import join_key
from homespun.v1 import operator_pb2, operator_pb2_grpc, session_pb2
from homespun.wire import to_message

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
        return operator_pb2.ListPeersResponse(peers=[_peer(peer) for peer in peers])

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


def _peer(peer: views.PeerView) -> operator_pb2.PeerStatus:
    hardware = peer.hardware
    return operator_pb2.PeerStatus(
        peer_id=peer.peer_id,
        name=peer.name,
        state=peer.state,
        hardware=session_pb2.Hardware(
            device=hardware.device,
            device_name=hardware.device_name,
            memory_bytes=hardware.memory_bytes,
            matmul_flops_per_s=hardware.rates.matmul_flops_per_s,
            attention_flops_per_s=hardware.rates.attention_flops_per_s,
            memory_bytes_per_s=hardware.rates.memory_bytes_per_s,
            rates=to_message(hardware.rates, session_pb2.Rates),
            executor=hardware.executor,
            platform=hardware.platform,
            threads=hardware.threads,
            # Without the operators: a list of many peers must stay a message.
            support=session_pb2.ExecutorSupport(
                trainable=hardware.support.trainable,
                opset_min=hardware.support.opset_min,
                opset_max=hardware.support.opset_max,
            ),
        ),
        tensor_address=peer.tensor_address,
        software_version=peer.software_version,
        last_seen_unix_ms=unix_ms(peer.last_seen_ns),
        leases=[
            session_pb2.HeldLease(
                job_id=lease.job_id,
                segment=lease.segment,
                token=lease.token,
                phase=lease.phase,
            )
            for lease in peer.leases
        ],
        links=[
            session_pb2.LinkMeasured(
                to_peer=link.target,
                latency_s=link.latency_s,
                bandwidth_bytes_per_s=link.bandwidth_bytes_per_s,
            )
            for link in peer.links
        ],
    )
