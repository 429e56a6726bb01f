"""A real network on loopback: an authority, members with certificates, servers in a thread."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime, timedelta
from pathlib import Path

import grpc
import pytest

from broker.identity.authority import Authority, create_authority
from homespun.identity.certificates import (
    new_private_key,
    private_key_pem,
    signing_request,
    utc_now,
)
from homespun.identity.channels import SERVER_OPTIONS
from homespun.identity.directory import Credentials

LIMIT_S = 20.0
IDS = {"peer": "peer_1", "submitter": "client_1", "operator": "operator_1"}


class Network:
    """One network's authority, and members that need no enrolment."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.authority: Authority = create_authority(
            directory, broker_address="127.0.0.1:7700", now=utc_now())

    def member(
        self, role: str, identity: str = "", *, address: str = "127.0.0.1:1",
        age: timedelta = timedelta(0),
    ) -> Credentials:
        key = new_private_key()
        issued = self.authority.issue(
            signing_request(key), identity or IDS[role], role, utc_now() - age)
        return Credentials(
            broker_address=address, name="test", key_pem=private_key_pem(key),
            chain_pem=issued.chain_pem, root_pem=self.authority.root_pem)


@contextmanager
def serving(
    add: Callable[[grpc.aio.Server], None], credentials: grpc.ServerCredentials,
    *interceptors: grpc.aio.ServerInterceptor,
) -> Iterator[int]:
    """An aio server in a thread of its own; yields its port."""
    ready, port, stop = threading.Event(), [0], asyncio.Event()
    loop = asyncio.new_event_loop()

    async def run() -> None:
        server = grpc.aio.server(interceptors=interceptors, options=SERVER_OPTIONS)
        add(server)
        port[0] = server.add_secure_port("127.0.0.1:0", credentials)
        await server.start()
        ready.set()
        await stop.wait()
        await server.stop(0)

    thread = threading.Thread(target=lambda: loop.run_until_complete(run()), daemon=True)
    thread.start()
    assert ready.wait(LIMIT_S)
    try:
        yield port[0]
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(LIMIT_S)
        assert not thread.is_alive()
        loop.close()


class Clock:
    """Time that a test moves."""

    def __init__(self) -> None:
        self.now: datetime = utc_now()

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def network(tmp_path: Path) -> Network:
    return Network(tmp_path / "broker")


@pytest.fixture
def foreign_network(tmp_path: Path) -> Network:
    return Network(tmp_path / "foreign")


@pytest.fixture
def serve() -> Iterator[Callable[..., int]]:
    """`serve(add, credentials, *interceptors) -> port`; stopped after the test."""
    with ExitStack() as stack:
        yield lambda *arguments: stack.enter_context(serving(*arguments))
