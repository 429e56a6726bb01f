"""The exchange of a transfer, from either side: offer, what is wanted, the chunks.

Whether the sender called (Put) or was called (Get) makes no difference here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

from homespun.errors import Code, HomespunError
from homespun.v1 import snapshots_pb2 as pb
from peer.snapshots.assembly import Assembly
from peer.snapshots.line import Line
from peer.snapshots.record import SnapshotKey, SnapshotRecord, chunk_count
from peer.snapshots.store import SnapshotStore

WORKING_INTERVAL_S = 5.0
WORKING_MAX = 720
"""Signs of work in a row: one hour."""

Sending = Line[pb.FromSnapshotReceiver, pb.FromSnapshotSender]
Receiving = Line[pb.FromSnapshotSender, pb.FromSnapshotReceiver]
Done = TypeVar("Done")


@dataclass(slots=True)
class Tally:
    """Bytes of chunks that really moved; `total` counts them too."""

    total: Tally | None = None
    sent_bytes: int = 0
    received_bytes: int = 0

    def sent(self, size_bytes: int) -> None:
        """A chunk went out."""
        self.sent_bytes += size_bytes
        if self.total is not None:
            self.total.sent(size_bytes)

    def received(self, size_bytes: int) -> None:
        """A chunk came in."""
        self.received_bytes += size_bytes
        if self.total is not None:
            self.total.received(size_bytes)


async def send(
    line: Sending, store: SnapshotStore, record: SnapshotRecord, tally: Tally,
) -> None:
    """Offer a file, send what the other side lacks, and wait until it has the whole durably.

    Raises:
        HomespunError: of the line; NOT_FOUND or DIGEST_MISMATCH of our own file; INVALID_ARGUMENT
            when the other side wants what was not offered.
    """
    await line.write(pb.FromSnapshotSender(offer=_offer_message(store, record)))
    wanted = (await _answer(line, "wanted")).wanted
    for index in _set_bits(line, wanted.chunks, chunk_count(record.content_bytes)):
        data = await asyncio.to_thread(store.read_chunk, record, index)
        await line.write(pb.FromSnapshotSender(chunk=pb.SnapshotChunk(index=index, data=data)))
        tally.sent(len(data))
    await _answer(line, "kept")


async def receive(
    line: Receiving, store: SnapshotStore, admit: Callable[[SnapshotRecord, int], None],
    source: str, tally: Tally,
) -> None:
    """Take an offer, ask for what is missing, and keep the file durably.

    Args:
        line: to the sender.
        store: where to.
        admit: called in a thread with what is offered, and the position that the sender knows to
            be complete, before room is made for it and before it is kept; raises to refuse.
        source: whom the file is kept for; "" for this peer itself.
        tally: counts what arrives.

    Raises:
        HomespunError: of the line, of `admit`, of the store; DIGEST_MISMATCH for damaged bytes,
            where chunks that arrived whole are kept for the next try.
    """
    message = await line.read()
    if message.WhichOneof("body") != "offer":
        raise _out_of_turn(line)
    record = _record_of(message.offer, source)
    complete_position = message.offer.complete_position

    def admitted() -> Assembly:
        admit(record, complete_position)
        return Assembly(store, record)

    assembly = await _working(line, admitted)
    wanted = _bits(assembly.missing, chunk_count(record.content_bytes))
    await line.write(pb.FromSnapshotReceiver(wanted=pb.SnapshotWanted(chunks=wanted)))
    while assembly.missing:
        message = await line.read()
        if message.WhichOneof("body") != "chunk":
            raise _out_of_turn(line)
        tally.received(len(message.chunk.data))
        await asyncio.to_thread(assembly.add, message.chunk.index, message.chunk.data)

    def finished() -> None:
        admit(record, complete_position)  # another peer may be the source by now
        assembly.finish()

    await _working(line, finished)
    await line.write(pb.FromSnapshotReceiver(kept=pb.SnapshotKept()))


def key_message(key: SnapshotKey) -> pb.SnapshotKey:
    """A key for the wire."""
    return pb.SnapshotKey(
        job_id=key.job_id, segment=key.segment, position=key.position, shard=key.shard,
        data_shards=key.data_shards)


def key_of(message: pb.SnapshotKey) -> SnapshotKey:
    """A key from the wire.

    Raises:
        HomespunError: INVALID_ARGUMENT for one that no snapshot can have.
    """
    return SnapshotKey(
        message.job_id, message.segment, message.position, message.shard, message.data_shards,
    ).checked()


async def _answer(line: Sending, kind: str) -> pb.FromSnapshotReceiver:
    """The receiver's next message that says more than that it is at work."""
    for _ in range(WORKING_MAX):
        message = await line.read()
        if (body := message.WhichOneof("body")) == kind:
            return message
        if body != "working":
            raise _out_of_turn(line)
    raise HomespunError(
        Code.TIMED_OUT, f"{line.remote} was at work too long.", peer=line.remote)


async def _working(line: Receiving, work: Callable[[], Done]) -> Done:
    """Do blocking work in a thread, and tell the sender meanwhile that it goes on."""
    task = asyncio.create_task(asyncio.to_thread(work))
    try:
        while not (await asyncio.wait({task}, timeout=WORKING_INTERVAL_S))[0]:
            await line.write(pb.FromSnapshotReceiver(working=pb.SnapshotWorking()))
        return task.result()
    finally:
        task.cancel()  # nobody waits for it any more


def _offer_message(store: SnapshotStore, record: SnapshotRecord) -> pb.SnapshotOffer:
    key = record.key
    return pb.SnapshotOffer(
        key=key_message(key), digest=record.digest, size_bytes=record.size_bytes,
        content_digest=record.content_digest, content_bytes=record.content_bytes,
        chunk_digests=record.chunk_digests,
        complete_position=store.complete_position(key.job_id, key.segment))


def _record_of(offer: pb.SnapshotOffer, source: str) -> SnapshotRecord:
    return SnapshotRecord(
        key_of(offer.key), offer.digest, offer.size_bytes, offer.content_digest,
        offer.content_bytes, offer.chunk_digests, source).checked()


def _bits(indexes: set[int], count: int) -> bytes:
    bits = bytearray(-(-count // 8))
    for index in indexes:
        bits[index // 8] |= 1 << index % 8
    return bytes(bits)


def _set_bits(line: Sending, bits: bytes, count: int) -> Iterator[int]:
    if len(bits) != -(-count // 8):
        raise HomespunError(
            Code.INVALID_ARGUMENT, f"{line.remote} wants chunks that were not offered.")
    return (index for index in range(count) if bits[index // 8] >> index % 8 & 1)


def _out_of_turn(line: Sending | Receiving) -> HomespunError:
    return HomespunError(
        Code.INVALID_ARGUMENT, f"{line.remote} sent a message out of its turn.", peer=line.remote)
