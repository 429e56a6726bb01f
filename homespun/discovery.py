"""Finding a broker on the local network by zeroconf: addresses only.

What is announced proves nothing: a join key pins the root certificate, so a false announcement can
at worst make a join fail. Where multicast does not work, a typed address always does.
"""

from __future__ import annotations

import contextlib
import queue
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from homespun.errors import Code, HomespunError
from homespun.identity.address import join_address

SERVICE_TYPE = "_homespun._tcp.local."
SEARCH_TIMEOUT_S = 5.0
RESOLVE_TIMEOUT_MS = 2_000
FOUND_MAX = 16


@dataclass(frozen=True, slots=True)
class Announcement:
    """A broker that was heard of.

    Attributes:
        network_id: the network that it says it serves.
        addresses: `host:port` of its main port, most usable first.
    """

    network_id: str
    addresses: tuple[str, ...]


@contextlib.contextmanager
def announced(network_id: str, port: int, host: str) -> Iterator[None]:
    """Announce a broker for as long as the context lasts; without multicast, silently not."""
    from zeroconf import ServiceInfo, Zeroconf

    info = ServiceInfo(
        SERVICE_TYPE,
        f"{network_id}.{SERVICE_TYPE}",
        port=port,
        addresses=[socket.inet_aton(address) for address in _own_addresses(host)],
        properties={"network": network_id},
        server=f"homespun-{network_id}.local.",
    )
    with contextlib.ExitStack() as stack:
        try:
            zeroconf = Zeroconf()
            stack.callback(zeroconf.close)
            zeroconf.register_service(info, allow_name_change=True)
            stack.callback(zeroconf.unregister_service, info)
        except OSError:
            pass  # no network, or no permission for multicast: a typed address still works
        yield


def find(timeout_s: float = SEARCH_TIMEOUT_S, network_id: str = "") -> Announcement:
    """Find a broker.

    Args:
        timeout_s: how long to listen.
        network_id: accept only this network; "" for the first that is heard.

    Raises:
        HomespunError: UNREACHABLE when none is heard in time.
    """
    from zeroconf import ServiceBrowser, ServiceStateChange, Zeroconf

    names: queue.Queue[str] = queue.Queue(FOUND_MAX)

    def on_change(name: str, state_change: ServiceStateChange, **_: Any) -> None:
        if state_change is ServiceStateChange.Added:
            with contextlib.suppress(queue.Full):
                names.put_nowait(name)

    with contextlib.closing(Zeroconf()) as zeroconf:
        browser = ServiceBrowser(zeroconf, SERVICE_TYPE, handlers=[on_change])
        try:
            while True:
                name = names.get(timeout=timeout_s)
                found = _resolve(zeroconf, name)
                if found is not None and network_id in ("", found.network_id):
                    return found
        except queue.Empty:
            raise HomespunError(
                Code.UNREACHABLE,
                f"no broker was heard on this network in {timeout_s:.0f} s; "
                "give its address: peer join HOST:PORT --key KEY",
            ) from None
        finally:
            browser.cancel()


def _resolve(zeroconf: Any, name: str) -> Announcement | None:
    info = zeroconf.get_service_info(SERVICE_TYPE, name, timeout=RESOLVE_TIMEOUT_MS)
    if info is None or info.port is None:
        return None
    network = (info.properties or {}).get(b"network") or b""
    addresses = tuple(join_address(host, info.port) for host in info.parsed_addresses())
    return Announcement(network.decode("ascii", "replace"), addresses) if addresses else None


def _own_addresses(host: str) -> list[str]:
    """IPv4 addresses to announce: the one listened on, or all of this machine's."""
    if host not in ("0.0.0.0", "::"):
        with contextlib.suppress(OSError):
            return [socket.gethostbyname(host)]
    import psutil

    return [
        address.address
        for interface in psutil.net_if_addrs().values()
        for address in interface
        if address.family == socket.AF_INET
    ]
