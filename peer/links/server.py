"""The accepting side: who may open which stream, decided before a byte of it is read."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import grpc

from homespun.errors import Code, HomespunError
from homespun.identity.caller import identify
from homespun.identity.names import Role
from homespun.ids import JobId, PeerId, is_id
from homespun.rpc_errors import abort
from peer.links.link import Link
from peer.links.messages import (
    JOB_METADATA,
    LEASE_METADATA,
    PROTOCOL_METADATA,
    SERVICE,
    Messages,
)
from peer.links.probe import ProbeServer
from peer.links.settings import PROTOCOL_VERSION
from peer.metering import Meter, Urgency, route_of

TOKENS_LENGTH_MAX = 41
"""Two 64-bit numbers and a colon."""

Context = grpc.aio.ServicerContext[Any, Any]


class LinkServer:
    """`TensorService` of a peer. Register `handler()` with a `grpc.aio.server` that has mTLS."""

    def __init__(
        self,
        accept: Callable[[JobId, PeerId, int], Link | None],
        accept_probe: Callable[[PeerId], bool] = lambda peer_id: True,
        meter: Meter | None = None,
    ) -> None:
        """Make the service.

        Args:
            accept: the link for a job, the peer that calls and the token of its lease, or None when
                the job is unknown or that lease is no neighbour in it: the caller is refused, and
                not told which.
            accept_probe: whether a peer may measure its path to this one.
            meter: counts and holds what goes and comes; None for neither.
        """
        self._accept = accept
        self._meter = meter
        self._probes = ProbeServer(accept_probe)

    def handler(self) -> grpc.GenericRpcHandler[bytes, bytes]:
        """The methods, with raw bytes for messages."""
        return grpc.method_handlers_generic_handler(SERVICE, {
            "Exchange": grpc.stream_stream_rpc_method_handler(self._exchange),
            "Probe": grpc.stream_stream_rpc_method_handler(self._probe),
        })

    async def _exchange(self, requests: object, context: Context) -> None:
        try:
            peer_id = _calling_peer(context)
            link = self._link(context, peer_id)
        except HomespunError as error:
            await abort(context, error)
        route = await route_of(self._meter, context.peer(), link.job_id, Urgency.TENSOR)
        await link.run(Messages(context, peer_id, route))

    async def _probe(self, requests: object, context: Context) -> None:
        try:
            peer_id = _calling_peer(context)
            route = await route_of(self._meter, context.peer(), urgency=Urgency.TENSOR)
            messages = Messages(context, peer_id, route)
            await self._probes.serve(messages, peer_id)
        except HomespunError as error:
            await abort(context, error)

    def _link(self, context: Context, peer_id: PeerId) -> Link:
        metadata = {key: value for key, value in context.invocation_metadata() or ()}
        version, job_id = metadata.get(PROTOCOL_METADATA), metadata.get(JOB_METADATA)
        if version != str(PROTOCOL_VERSION):
            raise HomespunError(
                Code.INCOMPATIBLE_VERSION,
                f"The caller speaks tensor stream version {str(version)[:20]}; this peer speaks "
                f"{PROTOCOL_VERSION}.")
        link = None
        tokens = _tokens(metadata.get(LEASE_METADATA))
        if isinstance(job_id, str) and is_id(job_id, "job") and tokens is not None:
            link = self._accept(JobId(job_id), peer_id, tokens[0])
        if link is None or link.remote_id != peer_id or link.tokens[::-1] != tokens:
            raise HomespunError(
                Code.NOT_ALLOWED, f"{peer_id} has no link with this peer in that job.",
                peer=peer_id)
        return link


def _tokens(said: object) -> tuple[int, int] | None:
    """The leases that a caller names, its own first; None for what is no pair of tokens."""
    parts = said.split(":") if isinstance(said, str) and len(said) <= TOKENS_LENGTH_MAX else []
    if len(parts) != 2 or not all(part.isascii() and part.isdigit() for part in parts):
        return None
    return int(parts[0]), int(parts[1])


def _calling_peer(context: Context) -> PeerId:
    caller = identify(context)
    if caller.role is not Role.PEER:
        raise HomespunError(
            Code.NOT_ALLOWED, f"{caller.id} is no peer; tensors go from peer to peer only.")
    return PeerId(caller.id)
