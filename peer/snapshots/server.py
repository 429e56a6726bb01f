"""`SnapshotService` of a peer: who may put what here, and who gets what.

Put is for the peer that the broker named as a segment's holder. Get is for any peer that knows the
digest: only the broker, the holder and those it gave the snapshot to know it.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import grpc

from homespun.errors import Code, HomespunError
from homespun.identity.caller import identify
from homespun.v1 import snapshots_pb2 as pb
from homespun.v1 import snapshots_pb2_grpc
from peer.metering import Meter, route_of
from peer.snapshots.line import PROGRESS_TIMEOUT_S, Line
from peer.snapshots.record import SnapshotRecord
from peer.snapshots.store import SnapshotStore
from peer.snapshots.transfer import Tally, key_of, receive, send

TRANSFERS_MAX = 8
"""Transfers served at once."""

Context = grpc.aio.ServicerContext[Any, Any]


@dataclass(frozen=True, slots=True)
class Permit:
    """Who may put snapshots of a segment here, and how large a file may be, bytes.

    `first_serial`: segments of earlier cuts of its job.
    """

    source: str
    bytes_max: int
    first_serial: int = 0


class SnapshotServer(snapshots_pb2_grpc.SnapshotServiceServicer):
    """Register with `add_to` on a server that has mutual TLS and a `Guard`."""

    def __init__(
        self, store: SnapshotStore, timeout_s: float = PROGRESS_TIMEOUT_S,
        meter: Meter | None = None,
    ) -> None:
        """Serve a store; a transfer that does not move for `timeout_s` ends.

        A meter counts and holds what goes and comes.
        """
        self._meter = meter
        self.permits: dict[tuple[str, int], Permit] = {}
        self.tally = Tally()
        self._store = store
        self._timeout_s = timeout_s
        self._running = 0

    def add_to(self, server: grpc.aio.Server) -> None:
        """Register the service."""
        snapshots_pb2_grpc.add_SnapshotServiceServicer_to_server(self, server)

    async def Put(self, requests: object, context: Context) -> None:  # noqa: N802 (gRPC's name)
        """Take a snapshot from its source."""
        caller = identify(context).id
        line: Line[pb.FromSnapshotSender, pb.FromSnapshotReceiver]
        route = await route_of(self._meter, context.peer())
        line = Line(context, caller, self._timeout_s, route)
        with self._counted():
            await receive(
                line, self._store, lambda *offer: self._admit(caller, *offer), caller, self.tally)

    async def Get(self, requests: object, context: Context) -> None:  # noqa: N802 (gRPC's name)
        """Give a snapshot to who knows its digest."""
        line: Line[pb.FromSnapshotReceiver, pb.FromSnapshotSender]
        route = await route_of(self._meter, context.peer())
        line = Line(context, identify(context).id, self._timeout_s, route)
        with self._counted():
            request = (await line.read()).request
            key = key_of(request.key)
            record = await asyncio.to_thread(self._store.record, key)
            if record is None or record.digest != request.digest:
                raise HomespunError(
                    Code.NOT_FOUND, f"{key.title} with that digest is not here.")
            await send(line, self._store, record, self.tally)

    def _admit(self, caller: str, offered: SnapshotRecord, complete: int) -> None:
        """Let a permitted offer in.

        Raises:
            HomespunError: NOT_ALLOWED, not telling whether another peer may; LIMIT_EXCEEDED.
        """
        key = offered.key
        permit = self.permits.get((key.job_id, key.segment))
        if permit is None or permit.source != caller:
            raise HomespunError(
                Code.NOT_ALLOWED,
                f"{caller} may not put snapshots of {key.job_id}, segment {key.segment}, here.")
        if offered.content_bytes > permit.bytes_max:
            raise HomespunError(
                Code.LIMIT_EXCEEDED,
                f"{key.title} has {offered.content_bytes} bytes; {permit.bytes_max} are permitted.",
                wanted_bytes=offered.content_bytes, had_bytes=permit.bytes_max, limit="bytes_max")
        self._store.forget_before(
            key.job_id, key.segment, min(complete, key.position), permit.first_serial)

    @contextlib.contextmanager
    def _counted(self) -> Iterator[None]:
        if self._running >= TRANSFERS_MAX:
            raise HomespunError(
                Code.OVERLOADED, f"{TRANSFERS_MAX} transfers of snapshots run here already.")
        self._running += 1
        try:
            yield
        finally:
            self._running -= 1
