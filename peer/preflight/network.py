"""What a peer's network is like: facts gathered from the system, and what follows from them."""

from __future__ import annotations

import ipaddress
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from statistics import median
from typing import Any

from homespun.errors import HomespunError
from homespun.identity.address import outward_host, split_address
from homespun.identity.directory import Credentials
from peer.metering.nearness import literal
from peer.preflight.finding import Finding, Verdict

CONNECTS = 5
CONNECT_TIMEOUT_S = 5.0
CALL_TIMEOUT_S = 10.0
_SHARED = ipaddress.ip_network("100.64.0.0/10")
"""Addresses that providers share among customers (RFC 6598), and some VPNs use."""
REACHABLE = "other peers of a job can connect"
_IPV6_PROBE = "[2001:db8::1]:9"
"""Documentation's address (RFC 3849): asking the routing table sends nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkFacts:
    """What was found.

    Attributes:
        broker: `host:port`.
        trips_s: round trips of connecting to it; empty when it cannot be reached.
        problem: why it could not be reached or spoken to; "" for none.
        own_host: this machine's address that packets to the broker leave from.
        ipv6_host: the same for IPv6; "" without.
        told: what other peers are told to dial, as the running daemon says; "" without one.
        is_told_open: whether that answers from here; None where nobody listens or asks.
        reached_by: peers that have opened a connection to this one since its start.
    """

    broker: str
    trips_s: tuple[float, ...]
    problem: str
    own_host: str
    ipv6_host: str
    told: str
    is_told_open: bool | None
    reached_by: int


def gather(credentials: Credentials, status: dict[str, Any], is_running: bool) -> NetworkFacts:
    """Look; takes up to a minute where nothing answers."""
    broker = credentials.broker_address
    trips_s, problem = _connects(broker)
    if not problem:
        problem = speak_to_broker(credentials)
    told = str(status.get("tensor_address", "")) if is_running else ""
    ipv6 = outward_host(_IPV6_PROBE)
    return NetworkFacts(
        broker=broker, trips_s=trips_s, problem=problem, own_host=outward_host(broker),
        ipv6_host="" if ":" not in ipv6 else ipv6, told=told,
        is_told_open=not _connects(told, 1)[1] if told else None,
        reached_by=len(status.get("reached_by", ())) if is_running else 0)


def findings(facts: NetworkFacts) -> Iterator[Finding]:
    """What follows. Pure."""
    yield _broker(facts)
    yield Finding(
        id="own-address", verdict=Verdict.OK, required="any",
        actual=f"{facts.own_host} ({kind_of(facts.own_host)})")
    yield Finding(
        id="ipv6", verdict=Verdict.OK, actual=facts.ipv6_host or "none", required="not needed")
    yield _told(facts)


def kind_of(host: str) -> str:
    """What kind of address it is, in words."""
    address = literal(host)
    if address is None:
        return "a name"
    if address.is_loopback:
        return "this machine only"
    if address.version == 4 and address in _SHARED:
        return "shared by a provider or a VPN"
    if address.is_link_local:
        return "this cable only"
    return "private" if address.is_private else "public"


def speak_to_broker(credentials: Credentials) -> str:
    """Ask the broker something harmless over the real, authenticated line; "" if it answers."""
    import grpc

    from homespun.identity.channels import open_channel
    from homespun.rpc_errors import error_of
    from homespun.v1 import blobs_pb2, blobs_pb2_grpc

    try:
        with open_channel(credentials, credentials.broker_address) as channel:
            blobs_pb2_grpc.BlobServiceStub(channel).Stat(
                blobs_pb2.StatBlobRequest(), timeout=CALL_TIMEOUT_S)
    except grpc.RpcError as error:
        return error_of(error, "the broker").message
    except HomespunError as error:
        return error.message
    return ""


def _broker(facts: NetworkFacts) -> Finding:
    if facts.problem:
        return Finding(
            id="broker", verdict=Verdict.FAIL, actual=facts.problem,
            required=f"{facts.broker} answers",
            remedy="Check that the broker runs, that its address is still right, and that no "
                   "firewall is between; only outgoing connections are needed.")
    return Finding(
        id="broker", verdict=Verdict.OK,
        actual=f"{facts.broker} answers, round trip {median(facts.trips_s) * 1000:.1f} ms",
        required="answers")


def _told(facts: NetworkFacts) -> Finding:
    """Whether other peers can reach this one, as far as it can be told from here."""
    if not facts.told:
        return Finding(
            id="reachable", verdict=Verdict.WARN, actual="the daemon does not run",
            required=REACHABLE, remedy="Start `peer run`, then look again.")
    host, port = split_address(facts.told)
    kind = kind_of(host)
    if facts.reached_by:
        return Finding(
            id="reachable", verdict=Verdict.OK,
            actual=f"{facts.told} ({kind}) was reached by {facts.reached_by} other peers",
            required=REACHABLE)
    if facts.is_told_open is False:
        return Finding(
            id="reachable", verdict=Verdict.FAIL, actual=f"{facts.told} does not answer from here",
            required=REACHABLE,
            remedy=f"Let your firewall accept port {port}, or correct `peer set advertise`.")
    if kind == "public":
        return Finding(
            id="reachable", verdict=Verdict.OK, actual=f"{facts.told} ({kind}) answers from here",
            required=REACHABLE)
    return Finding(
        id="reachable", verdict=Verdict.WARN, actual=f"{facts.told} ({kind}) answers from here",
        required=REACHABLE,
        remedy=f"Enough for peers in the same network. For others: `peer set port {port}`, "
               f"forward port {port} of your router to {host}, and "
               f"`peer set advertise PUBLIC_HOST:{port}`; or join a VPN with them.")


def _connects(address: str, count: int = CONNECTS) -> tuple[tuple[float, ...], str]:
    """Seconds of so many connects, and what went wrong."""
    host, port = split_address(address)
    trips = []
    try:
        for _ in range(count):
            began_s = time.perf_counter()
            with socket.create_connection((host, port), CONNECT_TIMEOUT_S):
                trips.append(time.perf_counter() - began_s)
    except OSError as error:
        return tuple(trips), f"{address}: {error.strerror or error}"
    return tuple(trips), ""
