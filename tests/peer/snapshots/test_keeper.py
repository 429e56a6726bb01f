"""Whole copies from peer to peer: real gRPC, mutual TLS, real files."""

import asyncio

import grpc
import pytest

from homespun.blobs.store import digest_of
from homespun.errors import Code, HomespunError
from homespun.identity.channels import open_aio_channel
from homespun.v1 import snapshots_pb2 as pb
from homespun.v1 import snapshots_pb2_grpc
from peer.core.events import SnapshotSource
from peer.snapshots import client as clients
from tests.peer.snapshots.conftest import JOB, MIB, A, B, C, D, Home, Relay, homes, noise, run


def source_of(kept, *holders, data_shards=1):
    return SnapshotSource(
        digest=kept.digest, size_bytes=kept.size_bytes, data_shards=data_shards, holders=holders)


@pytest.fixture
def pair(home):
    a, b = home(A), home(B)
    b.keeper.permit(JOB, 0, A, 64 * MIB)
    return a, b


@pytest.mark.parametrize("size", [0, 1, MIB, 3 * MIB + 17])
def test_a_snapshot_is_kept_given_and_fetched_by_another(home, pair, size):
    async def scenario():
        a, b = pair
        c, data = home(C), noise(size)
        async with homes(a, b, c):
            kept = await a.write(data)
            assert (kept.digest, kept.size_bytes) == (digest_of(data), size)
            assert await a.give(kept, b.holder()) == [""]
            (held,) = b.keeper.held()
            assert (held.position, held.digest, held.shard, held.data_shards) == (
                10, kept.digest, 0, 1)
            path = await c.keeper.fetch(JOB, 0, 10, source_of(kept, b.holder()))
            assert path.read_bytes() == data
            # Now it is on its own disk: nobody is asked.
            assert await c.keeper.fetch(JOB, 0, 10, source_of(kept)) == path
    run(scenario())


def test_only_what_changed_is_sent(pair):
    async def scenario():
        a, b = pair
        first = bytearray(noise(8 * MIB))
        async with homes(a, b):
            assert await a.give(await a.write(bytes(first)), b.holder()) == [""]
            sent = a.keeper.client.tally
            assert sent.sent_bytes == 8 * MIB
            first[3 * MIB + 5] ^= 1
            kept = await a.write(bytes(first), 20)
            assert await a.give(kept, b.holder()) == [""]
            assert sent.sent_bytes == 9 * MIB
            assert await a.give(kept, b.holder()) == [""]  # again: nothing
            assert sent.sent_bytes == 9 * MIB
            # Moments of an optimizer that begin at zero: one chunk goes at most once.
            repeated = noise(MIB, 7) * 5 + bytes(6 * MIB)
            assert await a.give(await a.write(repeated, 30), b.holder()) == [""]
            assert sent.sent_bytes == 10 * MIB
            assert b.keeper.server.tally.received_bytes == sent.sent_bytes
            path = await b.keeper.fetch(JOB, 0, 20, source_of(kept))
            assert path.read_bytes() == bytes(first)
    run(scenario())


def test_what_arrived_before_a_stream_broke_is_not_sent_again(pair, monkeypatch):
    monkeypatch.setattr("homespun.blobs.transfer.FIRST_BACKOFF_S", 0.01)

    async def scenario():
        a, b = pair
        data = noise(12 * MIB)
        async with homes(a, b):
            relay = Relay(b.port, 4 * MIB, 3 * MIB, 2 * MIB)
            async with relay.running() as port:
                kept = await a.write(data)
                assert await a.give(kept, b.holder(port=port)) == [""]
            assert not relay.budgets
            # What had arrived whole stays; at a break, one chunk may be between wire and disk.
            assert 12 * MIB <= b.keeper.server.tally.received_bytes <= 15 * MIB
            assert relay.carried < 17 * MIB
            path = await b.keeper.fetch(JOB, 0, 10, source_of(kept))
            assert path.read_bytes() == data
    run(scenario())


def test_a_broken_fetch_goes_on_from_another_holder(home, pair):
    async def scenario():
        a, b = pair
        c, d = home(C), home(D)
        c.keeper.permit(JOB, 0, A, 64 * MIB)
        data = noise(9 * MIB)
        async with homes(a, b, c, d):
            kept = await a.write(data)
            assert await a.give(kept, b.holder(), c.holder()) == ["", ""]
            relay = Relay(b.port, 5 * MIB)
            async with relay.running() as port:
                path = await d.keeper.fetch(
                    JOB, 0, 10, source_of(kept, b.holder(port=port), c.holder()))
            assert path.read_bytes() == data
            assert 9 * MIB <= d.keeper.client.tally.received_bytes <= 10 * MIB
            assert 0 < c.keeper.server.tally.sent_bytes < 9 * MIB
    run(scenario())


def test_a_holder_without_it_or_with_a_damaged_one_is_passed_over(home, pair):
    async def scenario():
        a, b = pair
        c, d = home(C), home(D)
        b_file = b.root / f"{JOB}-0-10"
        c.keeper.permit(JOB, 0, A, 64 * MIB)
        async with homes(a, b, c, d):
            kept = await a.write(noise(4 * MIB))
            assert await a.give(kept, b.holder(), c.holder()) == ["", ""]
            damaged = bytearray(b_file.read_bytes())
            damaged[2 * MIB] ^= 1
            b_file.write_bytes(damaged)
            path = await d.keeper.fetch(
                JOB, 0, 10, source_of(kept, a.holder(port=1), b.holder(), c.holder()))
            assert digest_of(path) == kept.digest
            assert b.positions == []  # it no longer says that it has it
            nowhere = source_of(kept, b.holder())
            await d.keeper.drop(JOB, 0)
            with pytest.raises(HomespunError) as caught:
                await d.keeper.fetch(JOB, 0, 10, nowhere)
            assert caught.value.code is Code.NOT_FOUND
    run(scenario())


def test_without_the_digest_nothing_is_given(home, pair):
    async def scenario():
        a, b = pair
        c = home(C)
        async with homes(a, b, c):
            kept = await a.write(noise(100))
            guess = SnapshotSource(digest=digest_of(b"guess"), size_bytes=kept.size_bytes,
                                   data_shards=1, holders=(a.holder(),))
            with pytest.raises(HomespunError) as caught:
                await c.keeper.fetch(JOB, 0, 10, guess)
            assert caught.value.code is Code.NOT_FOUND
    run(scenario())


def test_only_the_permitted_peer_may_put_and_only_so_much(home, pair, monkeypatch):
    monkeypatch.setattr(clients, "PUT_PASSING", frozenset())

    async def scenario():
        a, b = pair
        c = home(C)
        async with homes(a, b, c):
            for_a, for_c = await a.write(noise(3 * MIB)), await c.write(noise(3 * MIB))
            assert await c.give(for_c, b.holder()) == [Code.NOT_ALLOWED]
            other_segment = await a.write(noise(10), segment=1)
            assert await a.give(other_segment, b.holder()) == [Code.NOT_ALLOWED]
            b.keeper.permit(JOB, 0, A, 3 * MIB - 1)
            assert await a.give(for_a, b.holder()) == [Code.LIMIT_EXCEEDED]
            b.keeper.permit(JOB, 0, A, 3 * MIB)
            assert await a.give(for_a, b.holder()) == [""]
            b.keeper.revoke(JOB, 0)
            assert await a.give(await a.write(b"x", 20), b.holder()) == [Code.NOT_ALLOWED]
            assert b.positions == [10]
            assert b.keeper.server.tally.received_bytes == 3 * MIB
    run(scenario())


def test_a_permit_that_comes_a_moment_later_is_waited_for(home):
    async def scenario():
        a, b = home(A), home(B)
        async with homes(a, b):
            kept = await a.write(noise(10))
            giving = asyncio.create_task(a.give(kept, b.holder()))
            await asyncio.sleep(0)
            b.keeper.permit(JOB, 0, A, 100)
            assert await giving == [""]
    run(scenario())


async def put_by_hand(sender: Home, holder: Home, offer, *chunks):
    """What a peer that does not follow the protocol is told."""
    channel = open_aio_channel(sender.credentials, holder.holder().address, holder.name)
    async with channel:
        call = snapshots_pb2_grpc.SnapshotServiceStub(channel).Put()
        await call.write(pb.FromSnapshotSender(offer=offer))
        try:
            answer = await call.read()
            for chunk in chunks:
                await call.write(pb.FromSnapshotSender(chunk=chunk))
            if chunks:
                answer = await call.read()
        except grpc.aio.AioRpcError:
            return dict(await call.trailing_metadata()).get("homespun-code")
        call.cancel()
        return answer


def offer_of(data, **changes):
    offer = pb.SnapshotOffer(
        key=pb.SnapshotKey(job_id=JOB, segment=0, position=10, data_shards=1),
        digest=digest_of(data), size_bytes=len(data), content_digest=digest_of(data),
        content_bytes=len(data),
        chunk_digests=b"".join(
            bytes.fromhex(digest_of(data[at:at + MIB])) for at in range(0, len(data), MIB)))
    for name, value in changes.items():
        setattr(offer, name, value)
    return offer


def test_damaged_and_uncalled_for_chunks_are_refused(pair):
    async def scenario():
        a, b = pair
        data = noise(2 * MIB)
        chunk = pb.SnapshotChunk
        good = [chunk(index=0, data=data[:MIB]), chunk(index=1, data=data[MIB:])]
        async with homes(a, b):
            damaged = bytes([data[0] ^ 1]) + data[1:MIB]
            for chunks, code in [
                ([chunk(index=0, data=damaged)], Code.DIGEST_MISMATCH),
                ([chunk(index=0, data=damaged[:5]), chunk(index=0, offset=5, data=data[5:MIB])],
                 Code.DIGEST_MISMATCH),
                ([chunk(index=0, data=data[:MIB + 1])], Code.DIGEST_MISMATCH),
                ([chunk(index=0, data=data[:5]), chunk(index=0, offset=6, data=data[6:])],
                 Code.INVALID_ARGUMENT),
                ([chunk(index=0, data=data[:5]), chunk(index=1, offset=5, data=data[5:])],
                 Code.INVALID_ARGUMENT),
                ([chunk(index=0, offset=5, data=data[5:])], Code.INVALID_ARGUMENT),
                ([chunk(index=0)], Code.INVALID_ARGUMENT),
                ([chunk(index=2, data=data[:MIB])], Code.INVALID_ARGUMENT),
                ([chunk(index=-1, data=data[MIB:])], Code.INVALID_ARGUMENT),
            ]:
                assert await put_by_hand(a, b, offer_of(data), *chunks) == code
            lie = offer_of(data, digest=digest_of(b""), content_digest=digest_of(b""))
            assert await put_by_hand(a, b, lie, *good) == Code.DIGEST_MISMATCH
            assert b.positions == []
    run(scenario())


@pytest.mark.parametrize("changes", [
    {"content_bytes": 2 * MIB + 1}, {"content_bytes": -1}, {"chunk_digests": b"short"},
    {"digest": "../../etc/passwd"}, {"size_bytes": 1},
], ids=str)
def test_an_offer_that_contradicts_itself_is_refused(pair, changes):
    async def scenario():
        a, b = pair
        async with homes(a, b):
            answer = await put_by_hand(a, b, offer_of(noise(2 * MIB), **changes))
            assert answer == Code.INVALID_ARGUMENT
            huge = offer_of(b"", size_bytes=1 << 50, content_bytes=1 << 50)
            assert await put_by_hand(a, b, huge) == Code.LIMIT_EXCEEDED
            outside = offer_of(b"")
            outside.key.job_id = "../x"
            assert await put_by_hand(a, b, outside) == Code.INVALID_ARGUMENT
    run(scenario())


def test_a_submitter_is_refused(members, home, pair, tmp_path):
    async def scenario():
        _, b = pair
        client = Home(members, "client_1", tmp_path)
        async with homes(b):
            assert await put_by_hand(client, b, offer_of(b"x")) == Code.NOT_ALLOWED
    run(scenario())


def test_a_transfer_that_does_not_move_ends(home, members):
    async def scenario():
        a, b = home(A), home(B, timeout_s=0.2)
        b.keeper.permit(JOB, 0, A, 64 * MIB)
        async with homes(a, b):
            channel = open_aio_channel(a.credentials, b.holder().address, B)
            async with channel:
                call = snapshots_pb2_grpc.SnapshotServiceStub(channel).Put()
                await call.write(pb.FromSnapshotSender(offer=offer_of(noise(MIB))))
                await call.read()
                with pytest.raises(grpc.aio.AioRpcError, match="not moved"):
                    await call.read()
    run(scenario())


def test_holders_forget_what_their_source_knows_to_be_superseded(pair):
    async def scenario():
        a, b = pair
        async with homes(a, b):
            for position in (10, 20, 30):
                kept = await a.write(noise(100, position), position)
                assert await a.give(kept, b.holder()) == [""]
            assert b.positions == [10, 20, 30]
            await a.keeper.forget_before(JOB, 0, 30)
            assert a.positions == [20, 30]
            kept = await a.write(noise(100, 40), 40)
            assert await a.give(kept, b.holder()) == [""]
            assert b.positions == [20, 30, 40]
    run(scenario())


def test_when_others_have_no_room_here_what_is_superseded_goes_first(home):
    async def scenario():
        a, b = home(A), home(B, limit_bytes=5 * MIB)
        b.keeper.permit(JOB, 0, A, 64 * MIB)
        own = await b.write(noise(9 * MIB), segment=5)  # its own does not count
        async with homes(a, b):
            for position in (10, 20):
                kept = await a.write(noise(2 * MIB, position), position)
                assert await a.give(kept, b.holder()) == [""]
            third = await a.write(noise(2 * MIB, 30), 30)
            assert await a.give(third, b.holder()) == [Code.DISK_FULL]
            await a.keeper.forget_before(JOB, 0, 20)  # what is complete now: 10 is a spare
            assert await a.give(third, b.holder()) == [""]
            assert [held.position for held in b.keeper.held() if held.segment == 0] == [20, 30]
            assert own.digest in [held.digest for held in b.keeper.held()]
    run(scenario())
