"""The peer's side of the session against a broker that follows a script, over real mTLS."""

import asyncio
import contextlib

import grpc
import pytest

from broker.identity.server_certificate import ServerCertificate
from homespun.errors import Code, HomespunError
from homespun.identity.channels import SERVER_OPTIONS, open_aio_channel
from homespun.rpc_errors import abort
from homespun.v1 import session_pb2, session_pb2_grpc
from homespun.version import PROTOCOL_VERSION
from peer import session as session_module
from peer.session import Session

DEADLINE_S = 60


def welcome(**changes):
    fields = {"protocol_version": PROTOCOL_VERSION, "heartbeat_interval_ms": 50} | changes
    return session_pb2.BrokerMessage(welcome=session_pb2.Welcome(**fields))


def goodbye(code):
    return session_pb2.BrokerMessage(goodbye=session_pb2.Goodbye(code=code, message="bye"))


class Broker(session_pb2_grpc.SessionServiceServicer):
    """Plays one script per stream: `async (messages, context)`; the last one again and again."""

    def __init__(self, *scripts):
        self.scripts = list(scripts)
        self.streams = 0

    async def Connect(self, request_iterator, context):  # noqa: N802
        self.streams += 1
        script = self.scripts.pop(0) if len(self.scripts) > 1 else self.scripts[0]
        await script(request_iterator, context)


class Owner:
    """What a daemon does with its session, reduced to lists."""

    def __init__(self):
        self.connected = asyncio.Event()
        self.ended = 0
        self.reasons, self.waits = [], []
        self.messages = []

    async def register(self):
        return session_pb2.Register(name="a")

    def heartbeat(self):
        return session_pb2.Heartbeat()

    def on_message(self, message):
        self.messages.append(message.WhichOneof("body"))

    def on_connected(self):
        self.connected.set()

    def on_disconnected(self):
        self.connected.clear()
        self.ended += 1

    def on_unreachable(self, reason, retry_in_s):
        self.reasons.append(reason)
        self.waits.append(retry_in_s)


@contextlib.asynccontextmanager
async def session_with(network, broker):
    """A running session; yields it, its owner and its task."""
    server = grpc.aio.server(options=SERVER_OPTIONS)
    session_pb2_grpc.add_SessionServiceServicer_to_server(broker, server)
    port = server.add_secure_port(
        "127.0.0.1:0", ServerCertificate(network.authority).main_credentials())
    await server.start()
    credentials = network.member("peer", "peer_a")
    owner = Owner()
    session = Session(owner, lambda: open_aio_channel(credentials, f"127.0.0.1:{port}"))
    async with asyncio.timeout(DEADLINE_S):
        task = asyncio.create_task(session.run())
        try:
            yield session, owner, task
        finally:
            task.cancel()
            await asyncio.wait((task,))
            await server.stop(0)


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr(session_module, "BACKOFF_FIRST_S", 0.02)
    monkeypatch.setattr(session_module, "BACKOFF_LONGEST_S", 0.1)


async def until(condition, task=None):
    while not condition():
        assert task is None or not task.done(), task
        await asyncio.sleep(0.01)


async def read_until(messages, kind, count=1):
    found = []
    while len(found) < count:
        message = await anext(messages)
        if message.WhichOneof("body") == kind:
            found.append(message)
    return found


def test_it_registers_beats_and_sends_in_order(peer_network):
    seen = asyncio.Event()
    numbers = []

    async def script(messages, context):
        await read_until(messages, "register")
        await context.write(welcome())
        numbers.extend(m.report.number for m in await read_until(messages, "report", 100))
        await read_until(messages, "heartbeat", 3)
        seen.set()
        async for _ in messages:
            pass

    async def scenario():
        async with session_with(peer_network, Broker(script)) as (session, owner, _):
            session.send(session_pb2.PeerMessage(report=session_pb2.Report(number=-1)))
            await owner.connected.wait()
            for number in range(100):
                session.send(session_pb2.PeerMessage(report=session_pb2.Report(number=number)))
            await seen.wait()
        assert numbers == list(range(100))
        assert owner.messages == ["welcome"]

    asyncio.run(scenario())


async def ends_well(messages, context):
    await read_until(messages, "register")
    await context.write(welcome())


async def says_goodbye(messages, context):
    await ends_well(messages, context)
    await context.write(goodbye(Code.TIMED_OUT))


async def says_goodbye_of_the_future(messages, context):
    await ends_well(messages, context)
    await context.write(goodbye("A_CODE_OF_A_NEWER_BROKER"))


async def resets(messages, context):
    await ends_well(messages, context)
    await context.abort(grpc.StatusCode.CANCELLED, "reset")


async def fails(messages, context):
    await ends_well(messages, context)
    await abort(context, HomespunError(Code.OVERLOADED, "later"))


async def refuses_at_once(messages, context):
    await context.abort(grpc.StatusCode.CANCELLED, "reset")


async def says_nonsense_first(messages, context):
    await context.write(session_pb2.BrokerMessage(revoke=session_pb2.RevokeSegment()))


@pytest.mark.parametrize("ending", [
    ends_well, says_goodbye, says_goodbye_of_the_future, resets, fails, refuses_at_once,
    says_nonsense_first])
def test_whatever_ends_a_stream_another_one_follows(peer_network, ending):
    async def stays(messages, context):
        await ends_well(messages, context)
        async for _ in messages:
            pass

    async def scenario():
        broker = Broker(ending, ending, stays)
        async with session_with(peer_network, broker) as (_, owner, task):
            await until(lambda: broker.streams == 3 and owner.connected.is_set(), task)
            assert owner.ended in (0, 2)
            assert len(owner.reasons) == 2
            assert all(owner.reasons)

    asyncio.run(scenario())


@pytest.mark.parametrize("code", [
    Code.NOT_ALLOWED, Code.CERTIFICATE_EXPIRED, Code.INCOMPATIBLE_VERSION])
def test_what_trying_again_does_not_cure_ends_the_session(peer_network, code):
    async def refuses(messages, context):
        await abort(context, HomespunError(code, "no"))

    async def bids_farewell(messages, context):
        await context.write(goodbye(code))

    async def scenario(script):
        async with session_with(peer_network, Broker(script)) as (_, _, task):
            with pytest.raises(HomespunError) as caught:
                await task
            assert caught.value.code is code

    asyncio.run(scenario(refuses))
    asyncio.run(scenario(bids_farewell))


def test_a_broker_of_another_version_ends_the_session(peer_network):
    async def script(messages, context):
        await context.write(welcome(protocol_version=PROTOCOL_VERSION + 1_000))

    async def scenario():
        async with session_with(peer_network, Broker(script)) as (_, _, task):
            with pytest.raises(HomespunError) as caught:
                await task
            assert caught.value.code is Code.INCOMPATIBLE_VERSION

    asyncio.run(scenario())


def test_a_broker_that_says_nothing_is_not_waited_for(peer_network, monkeypatch):
    monkeypatch.setattr(session_module, "WELCOME_TIMEOUT_S", 0.3)

    async def silent(messages, context):
        async for _ in messages:
            pass

    async def scenario():
        broker = Broker(silent)
        async with session_with(peer_network, broker):
            await until(lambda: broker.streams >= 3)

    asyncio.run(scenario())


def test_streams_that_end_at_once_are_not_reopened_in_a_storm(peer_network, monkeypatch):
    waits = []
    real_sleep = asyncio.sleep

    async def sleep(seconds):
        waits.append(seconds)
        await real_sleep(0)

    monkeypatch.setattr(session_module.random, "uniform", lambda low, high: 1.0)
    monkeypatch.setattr(session_module.asyncio, "sleep", sleep)

    async def scenario():
        broker = Broker(says_goodbye)
        async with session_with(peer_network, broker):
            while broker.streams < 6:
                await real_sleep(0.01)

    asyncio.run(scenario())
    assert waits[:5] == [0.02, 0.04, 0.08, 0.1, 0.1]


def test_an_outbox_that_overflows_ends_the_stream_and_drops_nothing_silently(
    peer_network, monkeypatch
):
    monkeypatch.setattr(session_module, "OUTBOX_MESSAGES_MAX", 10)

    async def stays(messages, context):
        await ends_well(messages, context)
        async for _ in messages:
            pass

    async def scenario():
        broker = Broker(stays)
        async with session_with(peer_network, broker) as (session, owner, _):
            await owner.connected.wait()
            for _ in range(11):
                session.send(session_pb2.PeerMessage(report=session_pb2.Report()))
            await until(lambda: broker.streams == 2)
            assert owner.ended == 1

    asyncio.run(scenario())


def test_a_broker_that_cannot_be_reached_is_tried_again(peer_network):
    async def scenario():
        owner = Owner()
        credentials = peer_network.member("peer", "peer_a")
        attempts = []

        def open_channel():
            attempts.append(1)
            return open_aio_channel(credentials, "no-such-host.invalid:1")

        async with asyncio.timeout(DEADLINE_S):
            task = asyncio.create_task(Session(owner, open_channel).run())
            await until(lambda: len(attempts) >= 3, task)
            task.cancel()
            await asyncio.wait((task,))
        assert owner.ended == 0
        assert len(owner.reasons) >= 2
        assert all(0 < wait_s <= 0.15 for wait_s in owner.waits)

    asyncio.run(scenario())
