"""The exchange itself: answers that are lost, receivers that work long, messages out of turn."""

import threading

import pytest

from homespun.errors import Code
from homespun.identity.channels import open_aio_channel
from homespun.v1 import snapshots_pb2 as pb
from homespun.v1 import snapshots_pb2_grpc
from peer.snapshots import client as clients
from peer.snapshots import line as lines
from peer.snapshots.assembly import Assembly
from tests.peer.snapshots.conftest import JOB, MIB, A, B, C, homes, noise, run


@pytest.fixture
def pair(home):
    a, b = home(A), home(B)
    b.keeper.permit(JOB, 0, A, 64 * MIB)
    return a, b


def test_a_sender_whose_answer_was_lost_sends_nothing_again(pair):
    async def scenario():
        a, b = pair
        async with homes(a, b):
            kept = await a.write(noise(2 * MIB))
            assert await a.give(kept, b.holder()) == [""]
            (before,) = b.keeper.held()
            written_at = (b.root / f"{JOB}-0-10").stat().st_mtime_ns
            assert await a.give(kept, b.holder()) == [""]
            assert b.keeper.held() == [before]
            assert (b.root / f"{JOB}-0-10").stat().st_mtime_ns == written_at
            assert a.keeper.client.tally.sent_bytes == 2 * MIB
    run(scenario())


def test_a_copy_that_rotted_at_its_holder_is_replaced(pair):
    async def scenario():
        a, b = pair
        async with homes(a, b):
            kept = await a.write(noise(3 * MIB))
            assert await a.give(kept, b.holder()) == [""]
            file = b.root / f"{JOB}-0-10"
            file.write_bytes(bytes(MIB) + file.read_bytes()[MIB:])
            assert await a.give(kept, b.holder()) == [""]
            assert file.read_bytes() == noise(3 * MIB)
    run(scenario())


def test_a_receiver_that_works_long_says_so(home, pair, monkeypatch):
    monkeypatch.setattr(lines, "SIGN_INTERVAL_S", 0.0)

    async def scenario():
        a, b = pair
        c = home(C)
        async with homes(a, b, c):
            kept = await a.write(noise(3 * MIB))
            channel = open_aio_channel(c.credentials, b.holder().address, B)
            assert await a.give(kept, b.holder()) == [""]
            async with channel:
                call = snapshots_pb2_grpc.SnapshotServiceStub(channel).Get()
                key = pb.SnapshotKey(job_id=JOB, segment=0, position=10, data_shards=1)
                await call.write(pb.FromSnapshotReceiver(
                    request=pb.SnapshotRequest(key=key, digest=kept.digest)))
                assert (await call.read()).offer.content_bytes == 3 * MIB
                for _ in range(20):
                    await call.write(pb.FromSnapshotReceiver(working=pb.SnapshotWorking()))
                await call.write(pb.FromSnapshotReceiver(
                    wanted=pb.SnapshotWanted(chunks=bytes([0b100]))))
                chunk = (await call.read()).chunk
                assert (chunk.index, chunk.data) == (2, noise(3 * MIB)[2 * MIB:])
    run(scenario())


@pytest.mark.parametrize(("message", "code"), [
    (pb.FromSnapshotReceiver(wanted=pb.SnapshotWanted(chunks=b"")), Code.INVALID_ARGUMENT),
    (pb.FromSnapshotReceiver(wanted=pb.SnapshotWanted(chunks=bytes(2))), Code.INVALID_ARGUMENT),
    (pb.FromSnapshotReceiver(kept=pb.SnapshotKept()), Code.INVALID_ARGUMENT),
    (pb.FromSnapshotReceiver(), Code.INVALID_ARGUMENT),
], ids=["short", "long", "early", "empty"])
def test_answers_out_of_turn_end_the_call(pair, message, code):
    async def scenario():
        a, b = pair
        async with homes(a, b):
            kept = await b.write(noise(100))
            channel = open_aio_channel(a.credentials, b.holder().address, B)
            async with channel:
                call = snapshots_pb2_grpc.SnapshotServiceStub(channel).Get()
                key = pb.SnapshotKey(job_id=JOB, segment=0, position=10, data_shards=1)
                await call.write(pb.FromSnapshotReceiver(
                    request=pb.SnapshotRequest(key=key, digest=kept.digest)))
                await call.read()
                await call.write(message)
                assert dict(await call.trailing_metadata())["homespun-code"] == code
    run(scenario())


def test_bytes_that_are_no_message_are_refused(pair):
    async def scenario():
        a, b = pair
        async with homes(b):
            channel = open_aio_channel(a.credentials, b.holder().address, B)
            async with channel:
                call = channel.stream_stream("/homespun.v1.SnapshotService/Put")()
                await call.write(b"\xff\xff no protobuf")
                metadata = dict(await call.trailing_metadata())
                assert metadata["homespun-code"] == Code.INVALID_ARGUMENT
    run(scenario())


def test_a_receiver_that_does_not_read_holds_the_sender_up(home, monkeypatch):
    monkeypatch.setattr(clients, "PUT_PASSING", frozenset())
    may_store = threading.Event()
    store_chunk = Assembly.add

    def add(self, index, data):
        may_store.wait()
        store_chunk(self, index, data)
    monkeypatch.setattr(Assembly, "add", add)

    async def scenario():
        a, b = home(A, timeout_s=0.5), home(B)
        b.keeper.permit(JOB, 0, A, 64 * MIB)
        async with homes(a, b):
            try:
                kept = await a.write(noise(64 * MIB))
                assert await a.give(kept, b.holder()) == [Code.TIMED_OUT]
            finally:
                may_store.set()
            # What was sent lies in gRPC's and the system's buffers: memory of both sides.
            assert a.keeper.client.tally.sent_bytes < 32 * MIB
    run(scenario())


def test_a_source_that_was_replaced_while_it_sent_is_refused(pair, monkeypatch):
    monkeypatch.setattr(clients, "PUT_PASSING", frozenset())

    async def scenario():
        a, b = pair
        store_chunk = Assembly.add

        def add(self, index, data):
            store_chunk(self, index, data)
            b.keeper.permit(JOB, 0, C, 64 * MIB)
        monkeypatch.setattr(Assembly, "add", add)
        async with homes(a, b):
            kept = await a.write(noise(MIB))
            assert await a.give(kept, b.holder()) == [Code.NOT_ALLOWED]
            assert b.keeper.held() == []
    run(scenario())
