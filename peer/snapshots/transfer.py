"""The exchange of a transfer, from either side: offer, what is wanted, the chunks.

Whether the sender called (Put) or was called (Get) makes no difference here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

from homespun.errors import Code, HomespunError
from homespun.pieces import Pieces
from homespun.v1 import snapshots_pb2 as pb
from peer.snapshots.assembly import Assembly
from peer.snapshots.line import Line
from peer.snapshots.record import SnapshotKey, SnapshotRecord, chunk_count
from peer.snapshots.store import SnapshotStore

PART_BYTES = 64 << 10
"""Most of a chunk in one message: 20 s at 26 kbit/s. The system's buffers take a megabyte before
they tell that a line is slow, so parts are small from the start."""
SIGNS_MAX = 720
"""Signs of life in a row without anything else having moved: one hour."""

WORKING = pb.FromSnapshotReceiver(working=pb.SnapshotWorking())
WAITING = pb.FromSnapshotSender(waiting=pb.SnapshotWaiting())

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
    pieces = Pieces(PART_BYTES) if wanted.takes_parts else None
    # Signs of life are heard while chunks go out: they tell that those arrive.
    kept = asyncio.create_task(_answer(line, "kept"))
    try:
        for index in _set_bits(line, wanted.chunks, chunk_count(record.content_bytes)):
            if kept.done():
                break
            data = await asyncio.to_thread(store.read_chunk, record, index)
            await _send_chunk(line, index, data, pieces)
            tally.sent(len(data))
        await kept
    except HomespunError as error:
        if error.code is Code.UNREACHABLE and kept.done():
            await kept  # what the other side said before the stream ended tells more
        raise
    finally:
        kept.cancel()
        await asyncio.gather(kept, return_exceptions=True)


async def _send_chunk(line: Sending, index: int, data: bytes, pieces: Pieces | None) -> None:
    """Send a chunk, in parts that fit the line where the other side takes them."""
    if pieces is None:
        await line.write(pb.FromSnapshotSender(chunk=pb.SnapshotChunk(index=index, data=data)))
        return
    now, begin = asyncio.get_running_loop().time, 0
    while begin < len(data):
        part, began_s = data[begin:begin + pieces.size_bytes], now()
        await line.write(pb.FromSnapshotSender(
            chunk=pb.SnapshotChunk(index=index, data=part, offset=begin)), WAITING)
        pieces.took(len(part), now() - began_s)
        begin += len(part)


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
    await line.write(pb.FromSnapshotReceiver(
        wanted=pb.SnapshotWanted(chunks=wanted, takes_parts=True)))
    while assembly.missing:
        index, data = await _chunk(line, record)
        tally.received(len(data))
        await asyncio.to_thread(assembly.add, index, data)

    def finished() -> None:
        admit(record, complete_position)  # another peer may be the source by now
        assembly.finish()

    await _working(line, finished)
    await line.write(pb.FromSnapshotReceiver(kept=pb.SnapshotKept()))


async def _chunk(line: Receiving, record: SnapshotRecord) -> tuple[int, bytes]:
    """The next chunk and its number, put together from its parts as they come."""
    first = await _part(line)
    if first.offset or not 0 <= first.index < chunk_count(record.content_bytes):
        raise _out_of_turn(line)
    parts, size, length = [first.data], len(first.data), record.chunk_length(first.index)
    while size < length:
        part = await _part(line)
        if (part.index, part.offset) != (first.index, size):
            raise _out_of_turn(line)
        parts.append(part.data)
        size += len(part.data)
    return first.index, b"".join(parts)


async def _part(line: Receiving) -> pb.SnapshotChunk:
    """The next chunk or part of one; who sends it hears now and then that they arrive."""
    for _ in range(SIGNS_MAX):
        message = await line.read(WORKING)
        body = message.WhichOneof("body")
        if body == "chunk" and message.chunk.data:
            await line.say(WORKING)
            return message.chunk
        if body != "waiting":
            raise _out_of_turn(line)
    raise HomespunError(
        Code.TIMED_OUT, f"{line.remote} waited for its owner's rate for too long.",
        peer=line.remote)


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
    signs, written = 0, line.written
    while signs < SIGNS_MAX:
        message = await line.read()
        if (body := message.WhichOneof("body")) == kind:
            return message
        if body != "working":
            raise _out_of_turn(line)
        signs = signs + 1 if line.written == written else 0
        written = line.written
    raise HomespunError(
        Code.TIMED_OUT, f"{line.remote} was at work too long.", peer=line.remote)


async def _working(line: Receiving, work: Callable[[], Done]) -> Done:
    """Do blocking work in a thread, and tell the sender meanwhile that it goes on."""
    task = asyncio.create_task(asyncio.to_thread(work))
    try:
        while not (await asyncio.wait({task}, timeout=line.sign_s))[0]:
            await line.write(WORKING)
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
