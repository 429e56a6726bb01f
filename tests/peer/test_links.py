"""Real links over real mutual TLS on loopback, through a proxy that cuts connections."""

import asyncio
import dataclasses
import random
from datetime import UTC, datetime

import grpc
import numpy as np
import pytest

from broker.identity.authority import create_authority
from homespun.errors import Code, HomespunError
from homespun.identity.certificates import new_private_key, private_key_pem, signing_request
from homespun.identity.channels import open_aio_channel
from homespun.identity.directory import Credentials
from peer.frames import Kind, array_of, encode_header, opaque_frame, tensor_frame, with_digest
from peer.links import LinkSettings, LinkState, dial, measure
from peer.links.control import Hello, hello_message
from peer.links.messages import (
    EXCHANGE,
    JOB_METADATA,
    LEASE_METADATA,
    PROTOCOL_METADATA,
    open_stream,
)
from peer.links.settings import PROTOCOL_VERSION
from tests.chaos.proxy import ChaosProxy, Condition
from tests.peer.linked import (
    DEADLINE_S,
    JOB,
    QUICK,
    STRANGER,
    A,
    B,
    Owner,
    Proxy,
    assert_same,
    link_of,
    linked,
    run,
    serving,
    tensor,
)


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    now = datetime.now(UTC)
    authority = create_authority(
        tmp_path_factory.mktemp("network") / "broker", broker_address="127.0.0.1:1", now=now)
    credentials = {}
    for member, role in ((A, "peer"), (B, "peer"), (STRANGER, "peer"), ("client_1", "submitter")):
        key = new_private_key()
        issued = authority.issue(signing_request(key), member, role, now)
        credentials[member] = Credentials(
            broker_address="127.0.0.1:1", name=member, key_pem=private_key_pem(key),
            chain_pem=issued.chain_pem, root_pem=authority.root_pem)
    return credentials


def test_frames_arrive_complete_and_in_order_both_ways(network):
    async def scenario():
        rng = random.Random(1)
        ours = [tensor(rng, rng.choice((0, 1, 1000, 300_000)), n) for n in range(60)]
        theirs = [tensor(rng, rng.choice((0, 7, 5000, 600_000)), n) for n in range(60)]

        async def send_all(link, frames):
            for frame in frames:
                await link.send(frame)

        async with linked(network) as (to_b, at_a, to_a, at_b):
            await asyncio.gather(send_all(to_b, ours), send_all(to_a, theirs))
            await at_b.until(lambda owner: len(owner.frames) == 60)
            await at_a.until(lambda owner: len(owner.frames) == 60)
            assert to_b.state is to_a.state is LinkState.UP
            assert await to_b.close(drain_s=10) == 0
            assert_same(ours, at_b.frames)
            assert_same(theirs, at_a.frames)
            assert to_b.traffic.sent_bytes == sum(frame.payload_bytes for frame in ours)
            assert to_a.traffic.received_bytes == to_b.traffic.sent_bytes
            assert at_a.errors == at_b.errors == []
            assert to_b.state is LinkState.CLOSED
            with pytest.raises(HomespunError) as caught:
                await to_b.send(ours[0])
            assert caught.value.code is Code.CONFLICT
    run(scenario())


def test_a_tensor_larger_than_the_window_arrives(network):
    async def scenario():
        frame = tensor(random.Random(2), 16 << 20, 0)
        assert frame.payload_bytes == 64 << 20
        async with linked(network) as (to_b, _, _, at_b):
            await to_b.send(frame)
            await to_b.send(opaque_frame(Kind.NORMS, b"after"))
            await at_b.until(lambda owner: len(owner.frames) == 2)
            np.testing.assert_array_equal(array_of(at_b.frames[0]), array_of(frame))
            assert bytes(at_b.frames[1].payload) == b"after"
    run(scenario())


def test_a_slow_consumer_holds_the_sender_back(network):
    async def scenario():
        rng = random.Random(3)
        frames = [tensor(rng, 100_000, number) for number in range(40)]  # 16 MB, window 4 MiB
        async with linked(network) as (to_b, _, _, at_b):
            at_b.gate.clear()
            held, is_full = [], asyncio.Event()
            fits = QUICK.window_bytes // (frames[0].payload_bytes + 64)

            async def send_all():
                for frame in frames:
                    await to_b.send(frame)
                    held.append(to_b.held_bytes)
                    if len(held) == fits:
                        is_full.set()

            sending = asyncio.create_task(send_all())
            await is_full.wait()
            assert await to_b.drain(0.3) == fits  # nothing more is taken while the gate is shut
            assert len(held) == fits
            assert not at_b.frames
            at_b.gate.set()
            await sending
            await at_b.until(lambda owner: len(owner.frames) == len(frames))
            assert max(held) <= QUICK.window_bytes
            assert_same(frames, at_b.frames)
    run(scenario())


def test_send_gives_up_after_its_deadline(network):
    async def scenario():
        settings = dataclasses.replace(QUICK, send_timeout_s=0.3, window_bytes=1000)
        async with linked(network, settings) as (to_b, _, _, at_b):
            at_b.gate.clear()
            await to_b.send(opaque_frame(Kind.NORMS, bytes(800)))
            with pytest.raises(HomespunError, match="peer_b to accept 1 earlier") as caught:
                await to_b.send(opaque_frame(Kind.NORMS, bytes(800)))
            assert caught.value.code is Code.STALLED
            at_b.gate.set()
            await at_b.until(lambda owner: owner.frames)
    run(scenario())


def test_tensors_cross_a_slow_line_on_one_stream(network):
    """The wait for room is longer than the deadline for nothing moving."""
    async def scenario():
        settings = dataclasses.replace(QUICK, send_timeout_s=2.5, window_bytes=320_000)
        rng, at_a, at_b = random.Random(4), Owner(), Owner()
        to_b, to_a = link_of(at_a, A, B, settings), link_of(at_b, B, A, settings)
        sizes = (18_000,) * 4 + (75_000,)
        frames = [tensor(rng, size, number) for number, size in enumerate(sizes)]
        async with serving(network[B], lambda job, peer, token: to_a) as port:
            with ChaosProxy(lambda port: "a") as line:
                front = line.front("b", f"127.0.0.1:{port}")
                line.impose("a", "b", Condition(bytes_per_s=62_500))
                dial(to_b, lambda: open_aio_channel(network[A], front, B))
                for frame in frames[:4]:
                    await to_b.send(frame)
                began_s = asyncio.get_running_loop().time()
                await to_b.send(frames[4])
                assert asyncio.get_running_loop().time() - began_s > settings.send_timeout_s
                await at_b.until(lambda owner: len(owner.frames) == 5)
                assert_same(frames, at_b.frames)
                assert line.dialled("a", "b") == 1
                assert at_a.errors == at_b.errors == []
                await asyncio.gather(to_b.close(), to_a.close())
    run(scenario())


def test_a_slow_path_is_measured_by_one_short_burst(network):
    async def scenario():
        async with serving(network[B], lambda job, peer, token: None) as port:
            with ChaosProxy(lambda port: "a") as line:
                front = line.front("b", f"127.0.0.1:{port}")
                async with open_aio_channel(network[A], front, B) as channel:
                    line.impose("a", "b", Condition(bytes_per_s=12_500))
                    measured = await measure(channel, B)
                assert 3_000 < measured.bandwidth_bytes_per_s < 13_000
                assert line.moved("a", "b") < 90_000
    run(scenario())


@pytest.mark.parametrize("seed", [11, 12, 13])
def test_nothing_is_lost_repeated_or_reordered_when_streams_are_cut(network, seed):
    async def scenario():
        rng = random.Random(seed)
        sizes = (1, 50, 5_000, 60_000, 300_000, 700_000)
        ours = [tensor(rng, rng.choice(sizes), number) for number in range(80)]
        theirs = [tensor(rng, rng.choice(sizes), number) for number in range(80)]
        proxy = Proxy(0, rng, 8_000_000)

        async def send_all(link, frames):
            for frame in frames:
                await link.send(frame)

        async with linked(network, proxy=proxy) as (to_b, at_a, to_a, at_b):
            await asyncio.gather(send_all(to_b, ours), send_all(to_a, theirs))
            await at_b.until(lambda owner: len(owner.frames) >= 80)
            await at_a.until(lambda owner: len(owner.frames) >= 80)
            proxy.is_cutting = False
            assert await to_b.drain(30) == await to_a.drain(30) == 0
            print(f"seed {seed}: {proxy.cuts} cuts")
            assert proxy.cuts >= 5
            assert_same(ours, at_b.frames)
            assert_same(theirs, at_a.frames)
            assert at_a.errors == at_b.errors == []
            assert to_b.traffic.sent_bytes == to_a.traffic.received_bytes
    run(scenario())


async def refusal_of(credentials, port, job=JOB, version=PROTOCOL_VERSION):
    """How a server answers a stream, as gRPC's status; nothing is sent on it."""
    async with open_aio_channel(credentials, f"127.0.0.1:{port}", B) as channel:
        call = open_stream(channel, EXCHANGE, (
            (JOB_METADATA, job), (PROTOCOL_METADATA, str(version)), (LEASE_METADATA, "0:0")))
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call.read()
        return caught.value.code()


def test_strangers_and_unknown_jobs_are_refused_before_they_send(network):
    async def scenario():
        owner = Owner()
        link = link_of(owner, B, A)
        async with serving(
                network[B], lambda job, peer, token: link if job == JOB else None) as port:
            denied = grpc.StatusCode.PERMISSION_DENIED
            assert await refusal_of(network[STRANGER], port) is denied
            assert await refusal_of(network["client_1"], port) is denied
            assert await refusal_of(network[A], port, job="job_2") is denied
            assert await refusal_of(network[A], port, job="../etc") is denied
            assert await refusal_of(
                network[A], port, version=99) is grpc.StatusCode.FAILED_PRECONDITION
        assert link.state is LinkState.CONNECTING
        assert owner.frames == owner.errors == []
        await link.close()
    run(scenario())


def test_a_refused_link_is_reported_when_the_refusal_lasts(network):
    async def scenario():
        owner = Owner()
        settings = dataclasses.replace(QUICK, broken_timeout_s=0.5)
        link = link_of(owner, STRANGER, B, settings)
        async with serving(network[B], lambda job, peer, token: None) as port:
            dial(link, lambda: open_aio_channel(network[STRANGER], f"127.0.0.1:{port}", B))
            await owner.until(lambda owner: owner.errors)
            (error,) = owner.errors
            assert error.code is Code.UNREACHABLE
            assert error.details["peer"] == B
            assert "no link with this peer in that job" in error.message
            await link.close()
    run(scenario())


def test_a_link_without_its_peer_is_reported_and_recovers(network):
    async def scenario():
        at_a, at_b = Owner(), Owner()
        to_b = link_of(at_a, A, B, dataclasses.replace(QUICK, broken_timeout_s=0.3))
        to_a = link_of(at_b, B, A)
        ports = []
        dial(to_b, lambda: open_aio_channel(
            network[A], f"127.0.0.1:{ports[0] if ports else 1}", B))
        await to_b.send(opaque_frame(Kind.NORMS, b"early"))
        await at_a.until(lambda owner: owner.errors)
        assert at_a.errors[0].code is Code.UNREACHABLE
        async with serving(network[B], lambda job, peer, token: to_a) as port:
            ports.append(port)
            await at_b.until(lambda owner: owner.frames)
            assert bytes(at_b.frames[0].payload) == b"early"
            assert await to_b.drain(10) == 0
            assert len(at_a.errors) == 1
            await asyncio.gather(to_b.close(), to_a.close())
    run(scenario())


async def speak(credentials, port, *messages):
    """Send raw messages as peer A; gives the frames' bytes that come back until the end."""
    async with open_aio_channel(credentials, f"127.0.0.1:{port}", B) as channel:
        call = open_stream(channel, EXCHANGE, (
            (JOB_METADATA, JOB), (PROTOCOL_METADATA, str(PROTOCOL_VERSION)),
            (LEASE_METADATA, "0:0")))
        answers = []
        for message in messages:
            await call.write(message)
        while isinstance(answer := await call.read(), bytes):
            answers.append(answer)
            if b"MISMATCH" in answer or b"INVALID" in answer or b"LIMIT" in answer:
                break
        call.cancel()
        return b"".join(answers)


HELLO = hello_message(
    Hello(link=5, known_link=0, received=0, window_bytes=1 << 20, window_frames=10))


def corrupted():
    good = with_digest(opaque_frame(Kind.ACTIVATION, b"payload", sequence=1, edge=4))
    return encode_header(good) + b"pAyload"


@pytest.mark.parametrize(("bad", "code"), [
    (corrupted(), Code.DIGEST_MISMATCH),
    (b"no frame at all" * 10, Code.INVALID_ARGUMENT),
    (HELLO, Code.INVALID_ARGUMENT),
    (encode_header(with_digest(opaque_frame(Kind.NORMS, sequence=2))), Code.INVALID_ARGUMENT),
    (encode_header(tensor_frame(Kind.ACTIVATION, np.zeros(1001, np.uint8))), Code.LIMIT_EXCEEDED),
], ids=["digest", "garbage", "second hello", "gap", "too large"])
def test_a_peer_that_breaks_the_protocol_is_refused_and_named(network, bad, code):
    async def scenario():
        owner = Owner()
        link = link_of(owner, B, A, limit=lambda frame: 1000)
        async with serving(network[B], lambda job, peer, token: link) as port:
            answers = await speak(network[A], port, HELLO, bad)
            await owner.until(lambda owner: owner.errors)
            (error,) = owner.errors
            assert error.code is code
            assert link.state is LinkState.FAILED
            assert code.encode() in answers  # the other side is told why
            if code in (Code.DIGEST_MISMATCH, Code.LIMIT_EXCEEDED):
                assert error.details["peer"] == A
            assert owner.frames == []
            with pytest.raises(HomespunError) as caught:
                await link.send(opaque_frame(Kind.NORMS))
            assert caught.value is error
            await link.close()
    run(scenario())


def test_both_ends_learn_of_a_corrupted_payload(network):
    async def scenario():
        async with linked(network) as (to_b, at_a, to_a, at_b):
            payload = bytearray(3 << 20)
            frame = opaque_frame(Kind.ACTIVATION, payload, edge=4)
            await to_b.send(opaque_frame(Kind.NORMS, b"before"))
            await at_b.until(lambda owner: owner.frames)
            at_b.gate.clear()  # the window stays full, so the payload can rot before it is written
            await to_b.send(opaque_frame(Kind.NORMS, bytes(2 << 20)))
            sending = asyncio.create_task(to_b.send(frame))
            await asyncio.sleep(0)  # its digest is taken, and it waits for room
            assert not sending.done()
            payload[5] = 1
            at_b.gate.set()
            await sending
            await at_b.until(lambda owner: owner.errors)
            await at_a.until(lambda owner: owner.errors)
            assert at_b.errors[0].code is at_a.errors[0].code is Code.DIGEST_MISMATCH
            assert at_b.errors[0].details["peer"] == A
            assert at_a.errors[0].details["reported_by"] == B
            assert to_a.state is to_b.state is LinkState.FAILED
    run(scenario())


def test_a_peer_that_was_started_anew_is_noticed(network):
    async def scenario():
        at_a, at_b, again = Owner(), Owner(), Owner()
        to_b, to_a = link_of(at_a, A, B), link_of(at_b, B, A)
        links = [to_a]
        async with serving(network[B], lambda job, peer, token: links[-1]) as port:
            dial(to_b, lambda: open_aio_channel(network[A], f"127.0.0.1:{port}", B))
            await to_b.send(opaque_frame(Kind.NORMS, b"1"))
            await at_b.until(lambda owner: owner.frames)
            links.append(link_of(again, B, A))
            to_a._stream.cancel()  # as if the process had died: no farewell
            await at_a.until(lambda owner: owner.errors)
            assert at_a.errors[0].code is Code.PEER_LOST
            assert again.frames == []
            await asyncio.gather(*(link.close() for link in (to_b, *links)))
    run(scenario())


def test_an_owner_that_cannot_take_a_frame_fails_the_link(network):
    async def scenario():
        async with linked(network) as (to_b, at_a, to_a, at_b):
            async def refuse(frame):
                raise HomespunError(Code.EXECUTOR_DIED, "The executor is gone.")
            to_a._on_frame = refuse
            await to_b.send(opaque_frame(Kind.NORMS, b"1"))
            await at_a.until(lambda owner: owner.errors)
            assert at_a.errors[0].code is Code.EXECUTOR_DIED
            assert at_b.errors[0].code is Code.EXECUTOR_DIED
    run(scenario())


def test_silence_breaks_a_stream_and_a_new_one_goes_on(network):
    async def scenario():
        settings = dataclasses.replace(QUICK, heartbeat_s=0.05, silence_timeout_s=0.5)
        proxy = Proxy(0, random.Random(4), 1 << 40)
        async with linked(network, settings, proxy=proxy) as (to_b, at_a, _, at_b):
            await to_b.send(opaque_frame(Kind.NORMS, b"1"))
            await at_b.until(lambda owner: owner.frames)
            proxy.deaf = proxy.connections  # the path swallows bytes; nobody says that it is gone
            await to_b.send(opaque_frame(Kind.NORMS, b"2"))
            await at_b.until(lambda owner: len(owner.frames) == 2)
            assert proxy.connections > proxy.deaf
            assert [bytes(frame.payload) for frame in at_b.frames] == [b"1", b"2"]
            assert at_a.errors == at_b.errors == []
    run(scenario())


def test_a_server_that_says_no_hello_is_left_and_dialled_again(network):
    async def scenario():
        settings = dataclasses.replace(QUICK, hello_timeout_s=0.5)
        proxy = Proxy(0, random.Random(5), 1 << 40)
        proxy.deaf = 1
        async with linked(network, settings, proxy=proxy) as (to_b, _, _, at_b):
            await to_b.send(opaque_frame(Kind.NORMS, b"1"))
            await at_b.until(lambda owner: owner.frames)
            assert proxy.connections >= 2
    run(scenario())


def test_closing_with_frames_that_nobody_takes_says_how_many(network):
    async def scenario():
        async with linked(network) as (to_b, _, _, at_b):
            at_b.gate.clear()
            for number in range(3):
                await to_b.send(opaque_frame(Kind.NORMS, b"1", microbatch=number))
            assert await to_b.close(drain_s=0.2) == 3
            at_b.gate.set()
    run(scenario())


def test_the_other_sides_orderly_close_ends_the_wait_for_it(network):
    async def scenario():
        async with linked(network) as (to_b, at_a, to_a, at_b):
            await to_b.send(opaque_frame(Kind.NORMS, b"1"))
            await at_b.until(lambda owner: owner.frames)
            at_b.gate.clear()
            await to_b.send(opaque_frame(Kind.NORMS, b"2"))
            await to_a.close()
            assert await to_b.close(drain_s=DEADLINE_S) == 1
            assert at_a.errors == at_b.errors == []
            at_b.gate.set()
    run(scenario())


def test_a_path_is_measured_within_its_budget(network):
    async def scenario():
        async with (
            serving(network[B], lambda job, peer, token: None) as port,
            open_aio_channel(network[A], f"127.0.0.1:{port}", B) as channel,
        ):
            measured = await measure(channel, B, probe_bytes=8 << 20)
            assert 0 < measured.latency_s < 10
            assert 1e4 < measured.bandwidth_bytes_per_s < 1e12
            tiny = await measure(channel, B, probe_bytes=1)
            assert tiny.bandwidth_bytes_per_s > 0
        with pytest.raises(HomespunError) as caught:
            async with open_aio_channel(network[A], f"127.0.0.1:{port}", B) as channel:
                await measure(channel, B)
        assert caught.value.code in (Code.UNREACHABLE, Code.TIMED_OUT)
    run(scenario())


def test_real_tensors_tell_how_fast_their_link_is(network):
    async def scenario():
        rng = random.Random(2)
        async with linked(network) as (to_b, _, to_a, at_b):
            await to_b.send(tensor(rng, 1, 0))
            await at_b.until(lambda owner: owner.frames)
            assert await to_b.drain(DEADLINE_S) == 0
            assert to_b.goodput_report() is None
            for number in range(1, 7):
                await to_b.send(tensor(rng, 500_000, number))
                assert await to_b.drain(DEADLINE_S) == 0
            # Loopback with TLS: far outside of these, a unit is wrong.
            assert 1e5 < to_b.goodput_report() < 1e11
            assert to_b.goodput_report() is None  # no news
            assert to_a.goodput_report() is None  # it sent nothing

    run(scenario())


@pytest.mark.parametrize(
    "field", [{"chunk_bytes": 0}, {"chunk_bytes": 8 << 20}, {"heartbeat_s": 0}], ids=str)
def test_settings_out_of_range_are_refused(field):
    with pytest.raises(HomespunError) as caught:
        LinkSettings(**field)
    assert caught.value.code is Code.BAD_CONFIGURATION
