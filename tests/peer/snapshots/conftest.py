"""Keepers on loopback with mutual TLS, and a relay that breaks streams."""

from __future__ import annotations

import asyncio
import contextlib
import random
from datetime import UTC, datetime

import grpc
import pytest

from broker.identity.authority import create_authority
from homespun.identity.certificates import new_private_key, private_key_pem, signing_request
from homespun.identity.channels import SERVER_OPTIONS, open_aio_channel, server_credentials
from homespun.identity.directory import Credentials
from homespun.identity.guard import PEER_PERMISSIONS, Guard
from peer.core.events import Holder
from peer.snapshots import SnapshotKeeper

A, B, C, D = "peer_a", "peer_b", "peer_c", "peer_d"
MEMBERS = [*((name, "peer") for name in (A, B, C, D, "peer_e")), ("client_1", "submitter")]
JOB = "job_1"
MIB = 1 << 20
DEADLINE_S = 120


def run(scenario):
    async def bounded():
        async with asyncio.timeout(DEADLINE_S):
            await scenario
    asyncio.run(bounded())


@pytest.fixture(scope="session")
def members(tmp_path_factory):
    now = datetime.now(UTC)
    authority = create_authority(
        tmp_path_factory.mktemp("network") / "broker", broker_address="127.0.0.1:1", now=now)
    credentials = {}
    for member, role in MEMBERS:
        key = new_private_key()
        issued = authority.issue(signing_request(key), member, role, now)
        credentials[member] = Credentials(
            broker_address="127.0.0.1:1", name=member, key_pem=private_key_pem(key),
            chain_pem=issued.chain_pem, root_pem=authority.root_pem)
    return credentials


class Home:
    """One peer: a keeper, and its server while `serving`."""

    def __init__(self, members, name, root, **options):
        self.name, self.credentials, self.port = name, members[name], 0
        self.root = root / name
        self.keeper = SnapshotKeeper(
            self.root,
            lambda address, peer: open_aio_channel(self.credentials, address, peer), **options)

    @contextlib.asynccontextmanager
    async def serving(self):
        guard = Guard(PEER_PERMISSIONS, self.credentials.network_id)
        server = grpc.aio.server(interceptors=(guard,), options=SERVER_OPTIONS)
        self.keeper.server.add_to(server)
        self.port = server.add_secure_port("127.0.0.1:0", server_credentials(self.credentials))
        await server.start()
        try:
            yield self
        finally:
            await server.stop(None)

    def holder(self, shard=0, port=0):
        return Holder(peer_id=self.name, address=f"127.0.0.1:{port or self.port}", shard=shard)

    async def write(self, data, position=10, segment=0):
        path = self.keeper.path_for(JOB, segment, position)
        path.write_bytes(data)
        return await self.keeper.keep(JOB, segment, position, path)

    async def give(self, kept, *holders, data_shards=1):
        """Codes of the refusals, in order of holders; "" for a success."""
        given = {}
        async for one in self.keeper.give(kept, holders, data_shards):
            given[one.holder] = one.error.code if one.error else ""
        return [given[holder] for holder in holders]

    @property
    def positions(self):
        return [held.position for held in self.keeper.held()]


@pytest.fixture
def home(members, tmp_path):
    return lambda name, **options: Home(members, name, tmp_path, **options)


@contextlib.asynccontextmanager
async def homes(*all_of_them):
    async with contextlib.AsyncExitStack() as stack:
        for one in all_of_them:
            await stack.enter_async_context(one.serving())
        yield all_of_them


class Relay:
    """A TCP relay that breaks each of its first connections after so many bytes."""

    def __init__(self, target, *budgets):
        self.target, self.budgets = target, list(budgets)
        self.carried = 0
        self.tasks = set()

    @contextlib.asynccontextmanager
    async def running(self):
        server = await asyncio.start_server(self.relay, "127.0.0.1", 0)
        try:
            yield server.sockets[0].getsockname()[1]
        finally:
            server.close()
            await server.wait_closed()
            for task in self.tasks:
                task.cancel()
            await asyncio.gather(*self.tasks, return_exceptions=True)
            await asyncio.sleep(0)

    async def relay(self, reader, writer):
        self.tasks.add(asyncio.current_task())
        budget = [self.budgets.pop(0) if self.budgets else 1 << 40]
        other_reader, other_writer = await asyncio.open_connection("127.0.0.1", self.target)

        async def copy(source, sink):
            with contextlib.suppress(OSError):
                while data := await source.read(65_536):
                    budget[0] -= len(data)
                    if budget[0] < 0:
                        break
                    self.carried += len(data)
                    sink.write(data)
                    await sink.drain()
            for one in (writer, other_writer):
                one.transport.abort()

        try:
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.gather(copy(reader, other_writer), copy(other_reader, writer))
        finally:
            for one in (writer, other_writer):
                one.transport.abort()


def noise(size, seed=1):
    return random.Random(seed).randbytes(size)
