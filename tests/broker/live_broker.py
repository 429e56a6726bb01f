"""A whole broker in this process, and peers that say what a test lets them say."""

import asyncio
import contextlib
import socket

import grpc

from broker.core.policy import Policy
from broker.server import BrokerServer
from broker.settings import BrokerDirectory, BrokerSettings
from homespun.identity.channels import open_aio_channel
from homespun.rpc_errors import error_of
from homespun.v1 import session_pb2, session_pb2_grpc
from homespun.version import PROTOCOL_VERSION

DEADLINE_S = 120


def free_ports(count):
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def make_place(network, *, console="", **policy):
    """A broker's directory with settings, on ports that are free now; without a console."""
    main, enrolment = free_ports(2)
    directory = BrokerDirectory(network.directory)
    directory.save_settings(BrokerSettings(
        listen=f"127.0.0.1:{main}", enrolment_port=enrolment, address=f"127.0.0.1:{main}",
        announce=False, console_listen=console, policy=Policy(**policy)))
    return directory


@contextlib.asynccontextmanager
async def serving(place, deadline_s=DEADLINE_S):
    """The broker of a directory, running."""
    broker = BrokerServer.open(place)
    async with asyncio.timeout(deadline_s):
        task = asyncio.create_task(broker.serve())
        try:
            while broker.driver.changes == 0:
                assert not task.done(), task
                await asyncio.sleep(0.01)
            yield broker
        finally:
            task.cancel()
            await asyncio.wait((task,))
            assert task.cancelled(), task


def register(**changes):
    fields = {
        "protocol_version": PROTOCOL_VERSION, "software_version": "1", "name": "a",
        "tensor_address": "127.0.0.1:9",
        "hardware": session_pb2.Hardware(
            device="cpu", device_name="x", memory_bytes=1 << 30, matmul_flops_per_s=1e9,
            attention_flops_per_s=1e9, memory_bytes_per_s=1e9, executor="null", threads=1)}
    return session_pb2.PeerMessage(register=session_pb2.Register(**(fields | changes)))


@contextlib.asynccontextmanager
async def stream(network, broker, identity="peer_a", first=None):
    """A stream of a peer that has said `first`, and whatever the broker answers."""
    credentials = network.member("peer", identity)
    async with open_aio_channel(credentials, broker.settings.address) as channel:
        call = session_pb2_grpc.SessionServiceStub(channel).Connect()
        with contextlib.suppress(grpc.RpcError):  # refused already: who reads is told
            await call.write(register() if first is None else first)
        yield call
        call.cancel()


async def failure(call):
    """The error that a stream ends with."""
    try:
        while await call.read() is not grpc.aio.EOF:
            pass
    except grpc.RpcError as error:
        return error_of(error, "the broker")
    return None


async def until(condition):
    """Return when something has become so; the test's deadline is the limit."""
    while not condition():  # noqa: ASYNC110
        await asyncio.sleep(0.01)
