"""Snapshots over slow lines and under low rates: slower, but they arrive, at the first attempt.

The deadline for silence is cut down with the sizes, so that seconds stand for minutes: what was one
message of 1 MiB before would outlast it in each case.
"""

import asyncio
import itertools

import grpc
import pytest

from homespun.identity.channels import open_aio_channel
from homespun.v1 import snapshots_pb2 as pb
from homespun.v1 import snapshots_pb2_grpc
from peer.metering import Meter, Rates, Urgency
from peer.metering.nearness import Nearness
from peer.snapshots import client as clients
from tests.chaos.proxy import ChaosProxy, Condition
from tests.peer.snapshots.conftest import JOB, MIB, A, B, homes, noise, run

HALF_MBIT = 62_500
HEARTBEAT_S = 0.25
LEASE_TTL_S = 8.0
"""Silence after which a broker takes a peer for lost, as operators have it."""


class Far(Nearness):
    """Loopback is beyond the local network."""

    async def is_near(self, address):
        return False


def limited(**rates):
    return Meter(lambda: Rates(**rates), Far())


@pytest.fixture(autouse=True)
def once(monkeypatch):
    """A transfer that fails is not tried again."""
    monkeypatch.setattr(clients, "PUT_PASSING", frozenset())


async def longest_answer_s(channel, stop):
    """Small calls over a connection of their own, as heartbeats have one; the slowest."""
    now, longest_s = asyncio.get_running_loop().time, 0.0
    while not stop.is_set():
        began_s = now()
        call = snapshots_pb2_grpc.SnapshotServiceStub(channel).Get()
        await call.write(pb.FromSnapshotReceiver(request=pb.SnapshotRequest(
            key=pb.SnapshotKey(job_id=JOB, segment=9, position=1, data_shards=1))))
        assert await call.code() is grpc.StatusCode.NOT_FOUND
        longest_s = max(longest_s, now() - began_s)
        await asyncio.sleep(HEARTBEAT_S)
    return longest_s


def test_a_snapshot_crosses_a_line_of_half_a_megabit(home):
    async def scenario():
        size, timeout_s = 600_000, 4.0
        a, b = home(A, timeout_s=timeout_s), home(B, timeout_s=timeout_s)
        b.keeper.permit(JOB, 0, A, 64 * MIB)
        async with homes(a, b):
            with ChaosProxy(lambda port: "a") as line:
                front = line.front("b", b.holder().address)
                line.impose("a", "b", Condition(bytes_per_s=HALF_MBIT))
                kept, stop = await a.write(noise(size)), asyncio.Event()
                began_s = asyncio.get_running_loop().time()
                async with open_aio_channel(a.credentials, front, B) as channel:
                    beating = asyncio.create_task(longest_answer_s(channel, stop))
                    port = int(front.rpartition(":")[2])
                    assert await a.give(kept, b.holder(port=port)) == [""]
                    took_s = asyncio.get_running_loop().time() - began_s
                    stop.set()
                    assert await beating < LEASE_TTL_S / 2
                assert took_s > 2 * timeout_s, "too short to tell anything"
                assert a.keeper.client.tally.sent_bytes == size
                assert b.positions == [10]
    run(scenario())


@pytest.mark.parametrize("side", ["sending", "receiving"])
def test_an_owners_rate_ends_no_transfer(home, side):
    async def scenario():
        timeout_s, meter = 2.0, limited(**{side: 4 * HALF_MBIT})
        a = home(A, timeout_s=timeout_s, meter=meter if side == "sending" else None)
        b = home(B, timeout_s=timeout_s, meter=meter if side == "receiving" else None)
        b.keeper.permit(JOB, 0, A, 64 * MIB)
        async with homes(a, b):
            # Who has a message of 1 MiB waits 4 s for the next one.
            kept = await a.write(noise(MIB + 1))
            assert await a.give(kept, b.holder()) == [""]
            assert b.positions == [10]
    run(scenario())


@pytest.mark.parametrize("side", ["sending", "receiving"])
def test_who_waits_longer_than_the_deadline_for_a_rate_says_so(home, side):
    async def scenario():
        timeout_s, meter = 1.5, limited(**{side: HALF_MBIT})
        a = home(A, timeout_s=timeout_s, meter=meter if side == "sending" else None)
        b = home(B, timeout_s=timeout_s, meter=meter if side == "receiving" else None)
        b.keeper.permit(JOB, 0, A, 64 * MIB)
        route = await meter.route("somewhere:1")
        async with homes(a, b):
            kept = await a.write(noise(64 << 10))
            owe = route.sent if side == "sending" else route.received
            await owe(3 * HALF_MBIT)
            began_s = asyncio.get_running_loop().time()
            assert await a.give(kept, b.holder()) == [""]
            assert asyncio.get_running_loop().time() - began_s > timeout_s
    run(scenario())


def test_a_snapshot_arrives_while_tensors_fill_the_line(home):
    async def scenario():
        timeout_s, meter = 2.0, limited(sending=16 * HALF_MBIT)
        a, b = home(A, timeout_s=timeout_s, meter=meter), home(B, timeout_s=timeout_s)
        b.keeper.permit(JOB, 0, A, 64 * MIB)
        route = await meter.route("somewhere:1", JOB, Urgency.TENSOR)

        async def tensors():
            for _ in itertools.count():
                await route.sent(64 << 10)

        async with homes(a, b):
            filling = [asyncio.create_task(tensors()) for _ in range(2)]
            kept = await a.write(noise(MIB // 2))
            assert await a.give(kept, b.holder()) == [""]
            for task in filling:
                task.cancel()
            await asyncio.gather(*filling, return_exceptions=True)
            whole = meter.total.sent_bytes
            assert whole > 4 * (MIB // 2), "the tensors did not fill the line"
    run(scenario())


def test_a_receiver_that_takes_whole_chunks_only_gets_them(home):
    """One of a version before parts."""
    async def scenario():
        a, b = home(A), home(B)
        async with homes(a, b):
            kept = await b.write(noise(2 * MIB))
            async with open_aio_channel(a.credentials, b.holder().address, B) as channel:
                call = snapshots_pb2_grpc.SnapshotServiceStub(channel).Get()
                key = pb.SnapshotKey(job_id=JOB, segment=0, position=10, data_shards=1)
                await call.write(pb.FromSnapshotReceiver(
                    request=pb.SnapshotRequest(key=key, digest=kept.digest)))
                await call.read()
                await call.write(pb.FromSnapshotReceiver(
                    wanted=pb.SnapshotWanted(chunks=bytes([0b11]))))
                assert [len((await call.read()).chunk.data) for _ in range(2)] == [MIB, MIB]
                await call.write(pb.FromSnapshotReceiver(kept=pb.SnapshotKept()))
                assert await call.code() is grpc.StatusCode.OK
    run(scenario())
