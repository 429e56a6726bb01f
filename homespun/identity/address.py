"""`host:port` as people write it."""

from __future__ import annotations

import re
import socket

from homespun.errors import Code, HomespunError

_MAX_HOST_CHARACTERS = 253
_ADDRESS = re.compile(r"(?:\[([0-9A-Fa-f:.%a-z]+)\]|([A-Za-z0-9._-]+)):([0-9]{1,5})")


def split_address(address: str) -> tuple[str, int]:
    """Split `host:port`; an IPv6 address stands in brackets (`[fe80::1]:7700`).

    Raises:
        HomespunError: INVALID_ARGUMENT when it is not of this form.
    """
    match = _ADDRESS.fullmatch(address.strip()) if len(address) < 300 else None
    if match is not None:
        host, port = match[1] or match[2], int(match[3])
        if 1 <= port <= 65_535 and len(host) <= _MAX_HOST_CHARACTERS:
            return host, port
    raise HomespunError(
        Code.INVALID_ARGUMENT,
        f"{address[:80]!r} is not an address; expected host:port, such as nas.local:7700.")


def join_address(host: str, port: int) -> str:
    """Write a host and a port as one address."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def with_port(host: str, port: int) -> str:
    """A host with a port: its own where it names one, `port` else."""
    return host if _ADDRESS.fullmatch(host) else join_address(host, port)


def grpc_target(address: str) -> str:
    """The address as a gRPC target that can mean nothing but a host: no `unix:` and the like.

    Raises:
        HomespunError: INVALID_ARGUMENT when it is no address.
    """
    return "dns:///" + join_address(*split_address(address))


def outward_host(towards: str = "192.0.2.1:9") -> str:
    """This machine's address that packets leave from; loopback when there is no network.

    Connecting a datagram socket sends nothing: it only asks the routing table.

    Args:
        towards: `host:port` that the packets would go to; the default (TEST-NET-1, RFC 5737) asks
            for the default route.
    """
    host, port = split_address(towards)
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_DGRAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.connect(address)
            return str(probe.getsockname()[0])
    except OSError:
        return "127.0.0.1"
