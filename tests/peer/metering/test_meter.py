"""Counting by job, near and far, and one limiter for all that goes one way."""

import asyncio
import ipaddress
import socket

import pytest

from peer.metering import UNMETERED, Meter, Moved, Rates, Urgency, nearness
from peer.metering.nearness import Nearness, host_of, is_in, literal, own_networks

HOME = [ipaddress.ip_network("192.168.1.0/24"), ipaddress.ip_network("fd00:1::/64")]


class Known(Nearness):
    """Near is what begins with it."""

    async def is_near(self, address):
        return address.startswith("near")


@pytest.mark.parametrize(("address", "near"), [
    ("127.0.0.1", True), ("::1", True), ("192.168.1.77", True), ("192.168.2.77", False),
    ("10.0.0.1", False), ("8.8.8.8", False), ("fd00:1::5", True), ("fd00:2::5", False),
    ("fe80::1%eth0", True), ("::ffff:192.168.1.9", True), ("100.64.0.1", False)])
def test_near_is_this_machine_and_its_own_networks(address, near):
    assert is_in(literal(address), HOME) is near


@pytest.mark.parametrize(("address", "host"), [
    ("nas.local:7700", "nas.local"), ("ipv4:192.168.1.5:51234", "192.168.1.5"),
    ("ipv6:[fe80::1]:99", "fe80::1"), ("ipv6:%5B::1%5D:99", "::1"), ("[fd00::1]:80", "fd00::1"),
    ("unix:/tmp/x", ""), ("", "")])
def test_hosts_of_addresses_and_callers(address, host):
    assert host_of(address) == host


def test_this_machine_is_near_and_unknown_names_are_not(monkeypatch):
    asked = []

    def getaddrinfo(host, *rest, **options):
        asked.append(host)
        if host == "here":
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 0))]
        raise OSError("no such name")

    monkeypatch.setattr(nearness.socket, "getaddrinfo", getaddrinfo)

    async def scenario():
        near = Nearness()
        assert await near.is_near("127.0.0.1:1")
        assert await near.is_near("here:1")
        assert await near.is_near("here:2")
        assert not await near.is_near("nowhere.invalid:1")
        assert not await near.is_near("what is that")

    asyncio.run(scenario())
    assert asked == ["here", "nowhere.invalid"], "a name is asked for once"
    assert all(network.num_addresses > 1 for network in own_networks())


def test_bytes_are_counted_by_job_and_by_distance():
    async def scenario():
        meter = Meter(nearness=Known())
        near, far = await meter.route("near:1", "job_000001"), await meter.route("far:1")
        await near.sent(10)
        await near.received(20)
        await far.sent(5)
        await far.received(7)
        assert meter.taken() == {
            "job_000001": Moved(sent_bytes=10, received_bytes=20, far_bytes=0),
            "": Moved(sent_bytes=5, received_bytes=7, far_bytes=12)}
        assert meter.taken() == {}
        meter.put_back("", 5, 7, 12)
        assert meter.taken()[""].far_bytes == 12
        await UNMETERED.sent(1)

    asyncio.run(scenario())


class Clock:
    """A loop whose time goes on only by sleeping."""

    def __init__(self, monkeypatch):
        self.now = 0.0
        loop = asyncio.get_running_loop()
        monkeypatch.setattr(loop, "time", lambda: self.now)

        async def sleep(seconds):
            self.now += seconds

        monkeypatch.setattr("peer.metering.meter.asyncio.sleep", sleep)


def test_all_that_goes_one_way_shares_one_rate_and_the_lan_has_none(monkeypatch):
    async def scenario():
        clock = Clock(monkeypatch)
        meter = Meter(lambda: Rates(sending=100_000, receiving=50_000), Known())
        a, b, near = [await meter.route(name) for name in ("far:1", "far:2", "near:1")]
        for route in (a, b, a, b):
            await route.sent(100_000)
        assert clock.now == pytest.approx(3.0)
        await near.sent(10**9)
        assert clock.now == pytest.approx(3.0)
        await a.received(100_000)
        await b.received(5_000)
        assert clock.now == pytest.approx(3.0 + 2.0)

    asyncio.run(scenario())


def test_small_messages_do_not_wait_but_are_paid_for(monkeypatch):
    async def scenario():
        clock = Clock(monkeypatch)
        meter = Meter(lambda: Rates(sending=10_000), Known())
        route = await meter.route("far:1")
        await route.sent(10_000)
        for _ in range(5):
            await route.sent(2_000)
        assert clock.now == 0.0
        await route.sent(5_000)
        assert clock.now == pytest.approx(2.0)

    asyncio.run(scenario())


def test_a_limit_that_is_lifted_holds_within_a_second(monkeypatch):
    async def scenario():
        rate = 1_000
        clock = Clock(monkeypatch)
        meter = Meter(lambda: Rates(sending=0 if clock.now >= 5.0 else rate), Known())
        route = await meter.route("far:1")
        await route.sent(1_000_000)
        await route.sent(1_000_000)
        assert 5.0 <= clock.now <= 6.0

    asyncio.run(scenario())


def test_a_tensor_goes_before_snapshots_that_have_waited_longer():
    async def scenario():
        meter, order = Meter(lambda: Rates(sending=1_000_000), Known()), []
        bulk = await meter.route("far:1")
        tensor = await meter.route("far:2", "job_000001", Urgency.TENSOR)

        async def send(name, route):
            await route.sent(50_000)
            order.append(name)

        bulks = [asyncio.create_task(send(f"bulk {number}", bulk)) for number in range(4)]
        await asyncio.sleep(0)
        given_up = asyncio.create_task(send("given up", tensor))
        await asyncio.sleep(0)
        given_up.cancel()
        await asyncio.gather(send("tensor", tensor), *bulks)
        assert order == ["bulk 0", "tensor", "bulk 1", "bulk 2", "bulk 3"]

    asyncio.run(scenario())
