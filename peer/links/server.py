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
from peer.links.messages import JOB_METADATA, PROTOCOL_METADATA, SERVICE, Messages
from peer.links.probe import ProbeServer
from peer.links.settings import PROTOCOL_VERSION

Context = grpc.aio.ServicerContext[Any, Any]


class LinkServer:
    """`TensorService` of a peer. Register `handler()` with a `grpc.aio.server` that has mTLS."""

    def __init__(
        self,
        accept: Callable[[JobId, PeerId], Link | None],
        accept_probe: Callable[[PeerId], bool] = lambda peer_id: True,
    ) -> None:
        """Make the service.

        Args:
            accept: the link for a job and the peer that calls, or None when the job is unknown or
                the peer is no neighbour in it: the caller is refused, and not told which.
            accept_probe: whether a peer may measure its path to this one.
        """
        self._accept = accept
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
        await link.run(Messages(context, peer_id))

    async def _probe(self, requests: object, context: Context) -> None:
        try:
            peer_id = _calling_peer(context)
            await self._probes.serve(Messages(context, peer_id), peer_id)
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
        if isinstance(job_id, str) and is_id(job_id, "job"):
            link = self._accept(JobId(job_id), peer_id)
        if link is None or link.remote_id != peer_id:
            raise HomespunError(
                Code.NOT_ALLOWED, f"{peer_id} has no link with this peer in that job.",
                peer=peer_id)
        return link


def _calling_peer(context: Context) -> PeerId:
    caller = identify(context)
    if caller.role is not Role.PEER:
        raise HomespunError(
            Code.NOT_ALLOWED, f"{caller.id} is no peer; tensors go from peer to peer only.")
    return PeerId(caller.id)
