"""The calling side of a transfer: one call after the other until it is through or given up."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable

import grpc

from homespun.blobs.transfer import PASSING, Attempts
from homespun.errors import Code, HomespunError
from homespun.v1 import snapshots_pb2 as pb
from homespun.v1 import snapshots_pb2_grpc
from peer.core.events import Holder
from peer.metering import Meter, route_of
from peer.snapshots.line import PROGRESS_TIMEOUT_S, Line
from peer.snapshots.record import SnapshotKey, SnapshotRecord
from peer.snapshots.store import SnapshotStore
from peer.snapshots.transfer import Tally, key_message, receive, send

PUT_PASSING = PASSING | {Code.NOT_ALLOWED}
"""The broker tells source and holder at the same time: the holder may learn it a moment later."""

OpenChannel = Callable[[str, str], grpc.aio.Channel]
"""(address, peer id) -> a fresh channel that only that peer can answer."""


class SnapshotClient:
    """Puts to holders and gets from them.

    Attributes:
        tally: bytes of chunks that moved by its calls.
    """

    def __init__(
        self, store: SnapshotStore, open_channel: OpenChannel,
        timeout_s: float = PROGRESS_TIMEOUT_S, meter: Meter | None = None,
    ) -> None:
        """Use a store's files; a call that does not move for `timeout_s` ends.

        A meter counts and holds what goes and comes.
        """
        self._meter = meter
        self.tally = Tally()
        self._store = store
        self._open_channel = open_channel
        self._timeout_s = timeout_s

    async def put(self, record: SnapshotRecord, holder: Holder) -> None:
        """Send a stored file to a holder, as often as it takes.

        Raises:
            HomespunError: what the holder refused it with, or what failed eight times in a row
                without a chunk having moved.
        """
        attempts, tally = Attempts(PUT_PASSING), Tally(self.tally)
        while True:
            try:
                await self._put_once(record, holder, tally)
                return
            except HomespunError as error:
                attempts.reached(tally.sent_bytes)
                await asyncio.sleep(attempts.backoff_s(error))

    async def get(
        self, key: SnapshotKey, digest: str, size_bytes: int, holder: Holder, tally: Tally,
    ) -> None:
        """Get a file from a holder into the store. One call; a later one goes on where it ended.

        Args:
            key: which file.
            digest: of the whole snapshot; nothing else is accepted.
            size_bytes: of the whole snapshot.
            holder: whom to ask.
            tally: counts what arrives.

        Raises:
            HomespunError: NOT_FOUND, DIGEST_MISMATCH, UNREACHABLE, TIMED_OUT and others.
        """
        def expected(offered: SnapshotRecord, complete: int) -> None:
            if (offered.key, offered.digest, offered.size_bytes) != (key, digest, size_bytes):
                raise HomespunError(
                    Code.DIGEST_MISMATCH,
                    f"{holder.peer_id} offered something else than {key.title}.")

        async with self._stub(holder) as stub:
            line: Line[pb.FromSnapshotSender, pb.FromSnapshotReceiver]
            route = await route_of(self._meter, holder.address, key.job_id)
            line = Line(stub.Get(), holder.peer_id, self._timeout_s, route)
            request = pb.SnapshotRequest(key=key_message(key), digest=digest)
            await line.write(pb.FromSnapshotReceiver(request=request))
            await receive(line, self._store, expected, "", tally)

    async def _put_once(self, record: SnapshotRecord, holder: Holder, tally: Tally) -> None:
        async with self._stub(holder) as stub:
            line: Line[pb.FromSnapshotReceiver, pb.FromSnapshotSender]
            route = await route_of(self._meter, holder.address, record.key.job_id)
            line = Line(stub.Put(), holder.peer_id, self._timeout_s, route)
            await send(line, self._store, record, tally)

    @contextlib.asynccontextmanager
    async def _stub(
        self, holder: Holder,
    ) -> AsyncIterator[snapshots_pb2_grpc.SnapshotServiceStub]:
        channel = self._open_channel(holder.address, holder.peer_id)
        try:
            yield snapshots_pb2_grpc.SnapshotServiceStub(channel)
        finally:
            await channel.close(None)
