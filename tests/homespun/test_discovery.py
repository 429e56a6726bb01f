"""Announcing and finding a broker by multicast DNS; skipped where multicast does not work."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import secrets
import socket
import subprocess
import sys
import time

import pytest

from homespun.discovery import announced, find
from homespun.errors import Code, HomespunError
from homespun.identity.address import outward_host

SEARCH_TIMEOUT_S = 30.0
PATIENCE_S = 60.0


@pytest.fixture(scope="module", autouse=True)
def _multicast():
    """Send a datagram to oneself by multicast, on the group that mDNS uses but another port."""
    group = socket.inet_aton("224.0.0.251")
    with contextlib.closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as ear:
        try:
            ear.bind(("", 0))
            ear.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, group + bytes(4))
            ear.settimeout(2.0)
            ear.sendto(b"?", ("224.0.0.251", ear.getsockname()[1]))
            ear.recv(1)
        except OSError as error:
            pytest.skip(f"multicast does not work on this machine: {error}")


@pytest.fixture
def network_id():
    return f"net_{secrets.token_hex(6)}"

def test_what_is_announced_is_found(network_id):
    async def announce_and_find():
        async with announced(network_id, "127.0.0.1:7711"):
            return await asyncio.to_thread(find, SEARCH_TIMEOUT_S, network_id)

    found = asyncio.run(announce_and_find())
    assert found.network_id == network_id
    assert found.addresses == ("127.0.0.1:7711",)


def test_only_the_network_asked_for_is_found(network_id):
    async def announce_and_miss():
        async with announced(f"{network_id}x", "127.0.0.1:7712"):
            await asyncio.to_thread(find, SEARCH_TIMEOUT_S, f"{network_id}x")
            await asyncio.to_thread(find, 1.0, network_id)

    with pytest.raises(HomespunError) as caught:
        asyncio.run(announce_and_miss())
    assert caught.value.code is Code.UNREACHABLE
    assert "give its address" in caught.value.message


def test_a_broker_serves_while_it_announces_itself(network_id):
    """The library blocks an event loop that it finds running; here that loop goes on."""

    async def turns_of_the_loop() -> int:
        turns, resting = 0, asyncio.Event()
        async with announced(network_id, "127.0.0.1:7713"):
            found = asyncio.create_task(asyncio.to_thread(find, SEARCH_TIMEOUT_S, network_id))
            found.add_done_callback(lambda _: resting.set())
            while not resting.is_set():
                await asyncio.wait({found}, timeout=0.01)
                turns += 1
        return turns

    assert asyncio.run(turns_of_the_loop()) > 1


def test_a_name_that_means_nothing_here_is_announced_as_this_machine(network_id):
    async def announce_and_find():
        async with announced(network_id, "no-such-host.invalid:7714"):
            return await asyncio.to_thread(find, SEARCH_TIMEOUT_S, network_id)

    assert asyncio.run(announce_and_find()).addresses == (f"{outward_host()}:7714",)


@pytest.mark.e2e
def test_a_peer_joins_without_being_told_an_address(tmp_path):
    """`peer join --key KEY`: the broker is heard, the key proves that it is the right one."""
    broker, peer = tmp_path / "broker", tmp_path / "peer"
    port, enrolment_port = _free_ports()
    _run("broker", "init", str(broker), "--listen", f"127.0.0.1:{port}",
         "--enrolment-port", str(enrolment_port))
    with (tmp_path / "broker.log").open("w") as log:
        serving = subprocess.Popen(
            [sys.executable, "-P", "-m", "broker", "serve", str(broker)], stdout=log, stderr=log)
    try:
        _wait_for(port, serving)
        made = _run("broker", "keys", "create", "--role", "peer", "--json", "--dir", str(broker))
        key = json.loads(made)["key"]
        joined = json.loads(_run(
            "peer", "join", "--key", "-", "--device", "cpu", "--dir", str(peer), "--json",
            secret=key))
        assert joined["role"] == "peer"
        identity = json.loads((peer / "identity" / "identity.json").read_text())
        assert identity["broker_address"] == f"127.0.0.1:{port}"
        if os.name == "posix":
            assert peer.stat().st_mode & 0o777 == 0o700, "other accounts may read jobs' tensors"
    finally:
        serving.terminate()
        serving.wait(PATIENCE_S)


def _run(*command: str, secret: str = "") -> str:
    done = subprocess.run(
        [sys.executable, "-P", "-m", *command], input=secret, capture_output=True, text=True,
        timeout=PATIENCE_S, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def _wait_for(port: int, process: subprocess.Popen) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while process.poll() is None and time.monotonic() < deadline:
        with contextlib.closing(socket.socket()) as probe:
            probe.settimeout(0.1)
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
    pytest.fail(f"the broker does not answer: {process.poll()}")


def _free_ports() -> tuple[int, int]:
    with contextlib.ExitStack() as stack:
        held = [stack.enter_context(contextlib.closing(socket.socket())) for _ in range(2)]
        for each in held:
            each.bind(("127.0.0.1", 0))
        return held[0].getsockname()[1], held[1].getsockname()[1]
