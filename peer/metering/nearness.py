"""Whether an address is in this machine's own network, where bytes cost nothing."""

from __future__ import annotations

import asyncio
import ipaddress
import re
import socket
import time
import urllib.parse
from collections.abc import Iterable

import psutil

from homespun.errors import HomespunError
from homespun.identity.address import split_address

INTERFACES_LOOK_S = 60.0
RESOLVE_TIMEOUT_S = 5.0
NAMES_MAX = 1_024
_CALLER = re.compile(r"ipv[46]:(.+)")

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class Nearness:
    """Knows this machine's networks; looks again once a minute, as laptops move."""

    def __init__(self) -> None:
        """Nothing is known yet."""
        self._networks: tuple[float, tuple[Network, ...]] | None = None
        self._names: dict[str, Address | None] = {}

    async def is_near(self, address: str) -> bool:
        """Whether an address is on this machine or its local network; not, where it is unknown.

        Args:
            address: `host:port`, or what gRPC says of a caller: `ipv4:192.168.1.5:51234`.
        """
        host = host_of(address)
        found = literal(host) or await self._resolved(host)
        return found is not None and is_in(found, self._own_networks())

    async def _resolved(self, host: str) -> Address | None:
        if not host:
            return None
        if host not in self._names:
            if len(self._names) >= NAMES_MAX:
                self._names.clear()
            try:
                async with asyncio.timeout(RESOLVE_TIMEOUT_S):
                    self._names[host] = await asyncio.to_thread(_resolve, host)
            except TimeoutError:
                return None
        return self._names[host]

    def _own_networks(self) -> tuple[Network, ...]:
        now_s = time.monotonic()
        if self._networks is None or now_s - self._networks[0] > INTERFACES_LOOK_S:
            self._networks = now_s, tuple(own_networks())
        return self._networks[1]


def is_in(address: Address, networks: Iterable[Network]) -> bool:
    """Whether an address is loopback, link-local, or a private one on one of these networks."""
    if address.is_loopback or address.is_link_local:
        return True
    return address.is_private and any(
        address.version == network.version and address in network for network in networks)


def own_networks() -> list[Network]:
    """Networks that this machine's interfaces are on; a single address is no network."""
    found = []
    for addresses in psutil.net_if_addrs().values():
        for each in addresses:
            if each.family in (socket.AF_INET, socket.AF_INET6) and each.netmask:
                network = _network(each.address.partition("%")[0], each.netmask)
                if network is not None and network.num_addresses > 1:
                    found.append(network)
    return found


def _network(address: str, netmask: str) -> Network | None:
    try:
        if ":" in address:
            bits = bin(int(ipaddress.IPv6Address(netmask.partition("/")[0]))).count("1")
            return ipaddress.ip_network(f"{address}/{bits}", strict=False)
        return ipaddress.ip_network(f"{address}/{netmask}", strict=False)
    except ValueError:
        return None


def host_of(address: str) -> str:
    """The host in an address; "" where there is none."""
    caller = _CALLER.fullmatch(urllib.parse.unquote(address))
    try:
        return split_address(caller[1] if caller else address)[0]
    except HomespunError:
        return ""


def literal(host: str) -> Address | None:
    """An IP address as such; of an IPv4 address in an IPv6 one, that."""
    try:
        found = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return None
    inner = getattr(found, "ipv4_mapped", None)
    return inner or found


def _resolve(host: str) -> Address | None:
    try:
        answers = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except OSError:
        return None
    return literal(str(answers[0][4][0])) if answers else None
