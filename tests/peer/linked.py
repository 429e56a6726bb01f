"""Both ends of a link over real mutual TLS on loopback, and a proxy that cuts connections."""

import asyncio
import contextlib
import dataclasses

import grpc
import numpy as np

from homespun.identity.channels import SERVER_OPTIONS, open_aio_channel, server_credentials
from homespun.ids import JobId, PeerId
from peer.frames import Kind, array_of, tensor_frame
from peer.links import Link, LinkServer, LinkSettings, dial

A, B, STRANGER = PeerId("peer_a"), PeerId("peer_b"), PeerId("peer_c")
JOB = JobId("job_1")
QUICK = LinkSettings(
    heartbeat_s=0.2, backoff_min_s=0.01, backoff_max_s=0.05, broken_timeout_s=60.0,
    hello_timeout_s=20.0, window_bytes=4 << 20)
DEADLINE_S = 120


class Owner:
    """What a daemon does with a link, reduced to a list."""

    def __init__(self):
        self.frames = []
        self.errors = []
        self.changed = asyncio.Condition()
        self.gate = asyncio.Event()
        self.gate.set()

    async def take(self, frame):
        await self.gate.wait()
        async with self.changed:
            self.frames.append(frame)
            self.changed.notify_all()

    def broke(self, error):
        self.errors.append(error)
        asyncio.get_running_loop().create_task(self._tell())

    async def _tell(self):
        async with self.changed:
            self.changed.notify_all()

    async def until(self, condition):
        async with asyncio.timeout(DEADLINE_S), self.changed:
            await self.changed.wait_for(lambda: condition(self))


def link_of(owner, local, remote, settings=QUICK, limit=lambda frame: 128 << 20):
    return Link(JOB, local, remote, on_frame=owner.take, on_broken=owner.broke,
                payload_limit=limit, settings=settings)


@contextlib.asynccontextmanager
async def serving(credentials, accept):
    server = grpc.aio.server(options=SERVER_OPTIONS)
    server.add_generic_rpc_handlers((LinkServer(accept).handler(),))
    port = server.add_secure_port("127.0.0.1:0", server_credentials(credentials))
    await server.start()
    try:
        yield port
    finally:
        await server.stop(None)


class Proxy:
    """A TCP relay that closes each connection after a random number of bytes."""

    def __init__(self, port, rng, longest_bytes):
        self.target, self.rng, self.longest_bytes = port, rng, longest_bytes
        self.cuts = 0
        self.is_cutting = True
        self.deaf = 0  # connections numbered below this swallow what they are given
        self.connections = 0
        self.relays = set()

    @contextlib.asynccontextmanager
    async def running(self):
        server = await asyncio.start_server(self.relay, "127.0.0.1", 0)
        try:
            yield server.sockets[0].getsockname()[1]
        finally:
            server.close()
            await server.wait_closed()
            for relay in self.relays:
                relay.cancel()
            await asyncio.gather(*self.relays, return_exceptions=True)
            await asyncio.sleep(0)  # lets aborted transports close their sockets

    async def relay(self, reader, writer):
        self.relays.add(asyncio.current_task())
        number, self.connections = self.connections, self.connections + 1
        there_reader, there_writer = await asyncio.open_connection("127.0.0.1", self.target)
        budget = [self.rng.randrange(20_000, self.longest_bytes)]

        async def copy(source, sink):
            with contextlib.suppress(OSError):
                while data := await source.read(65_536):
                    budget[0] -= len(data)
                    if budget[0] < 0 and self.is_cutting:
                        self.cuts += 1
                        break
                    if number >= self.deaf:
                        sink.write(data)
                        await sink.drain()
            for one in (writer, there_writer):
                one.transport.abort()

        try:
            await asyncio.gather(copy(reader, there_writer), copy(there_reader, writer))
        finally:
            for one in (writer, there_writer):
                one.transport.abort()


@contextlib.asynccontextmanager
async def linked(network, settings=QUICK, proxy=None, **limits):
    """Both ends of one link, connected; gives (link at A, owner, link at B, owner)."""
    at_a, at_b = Owner(), Owner()
    to_b, to_a = link_of(at_a, A, B, settings), link_of(at_b, B, A, settings, **limits)
    async with contextlib.AsyncExitStack() as stack:
        port = await stack.enter_async_context(serving(
            network[B], lambda job, peer, token: to_a if (job, peer) == (JOB, A) else None))
        if proxy is not None:
            proxy.target = port
            port = await stack.enter_async_context(proxy.running())
        dial(to_b, lambda: open_aio_channel(network[A], f"127.0.0.1:{port}", B))
        try:
            yield to_b, at_a, to_a, at_b
        finally:
            await asyncio.gather(to_b.close(), to_a.close())


def run(test):
    async def bounded():
        async with asyncio.timeout(DEADLINE_S):
            await test
    asyncio.run(bounded())


def tensor(rng, size, number):
    array = np.frombuffer(rng.randbytes(4 * size), np.uint32)
    return tensor_frame(Kind.ACTIVATION, array, edge=1, microbatch=number)


def assert_same(sent, received):
    assert [frame.microbatch for frame in received] == [frame.microbatch for frame in sent]
    assert [frame.sequence for frame in received] == list(range(1, len(sent) + 1))
    for one, other in zip(sent, received, strict=True):
        assert dataclasses.replace(
            other, sequence=0, digest=one.digest) == one
        np.testing.assert_array_equal(array_of(one), array_of(other))
