"""Finding a broker on the local network by zeroconf: addresses only.

What is announced proves nothing: a join key pins the root certificate, so a false announcement can
at worst make a join fail. Where multicast does not work, a typed address always does.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import socket
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

from homespun.errors import Code, HomespunError
from homespun.identity.address import join_address, outward_host, split_address

SERVICE_TYPE = "_homespun._tcp.local."
SEARCH_TIMEOUT_S = 5.0
RESOLVE_TIMEOUT_MS = 2_000
FOUND_MAX = 16


@dataclass(frozen=True, slots=True)
class Announcement:
    """A broker that was heard of.

    Attributes:
        network_id: the network that it says it serves.
        addresses: `host:port` of its main port, as members dial it.
    """

    network_id: str
    addresses: tuple[str, ...]


@contextlib.asynccontextmanager
async def announced(network_id: str, address: str) -> AsyncIterator[None]:
    """Announce a broker for as long as the context lasts; without multicast, silently not.

    Entering does not wait for the announcement, which takes about 2 s: names are probed first.

    Args:
        network_id: the network that it serves.
        address: `host:port` that members dial.
    """
    ending = contextlib.ExitStack()
    # In a thread: the library would take the running event loop for itself, and then block it.
    announcing = asyncio.create_task(asyncio.to_thread(_announce, ending, network_id, address))
    try:
        yield
    finally:
        await announcing
        await asyncio.to_thread(ending.close)


def _announce(ending: contextlib.ExitStack, network_id: str, address: str) -> None:
    """Register the service; what takes it back goes on `ending`."""
    from zeroconf import Error, ServiceInfo, Zeroconf

    host, port = split_address(address)
    info = ServiceInfo(
        SERVICE_TYPE,
        f"{network_id}.{SERVICE_TYPE}",
        port=port,
        parsed_addresses=[_numeric(host)],
        properties={"network": network_id},
        server=f"homespun-{network_id}.local.",
    )
    # No network, or no permission for multicast: a typed address still works.
    with contextlib.suppress(OSError, Error):
        zeroconf = Zeroconf()
        ending.callback(zeroconf.close)
        zeroconf.register_service(info, allow_name_change=True)
        ending.callback(zeroconf.unregister_service, info)


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
    deadline = time.monotonic() + timeout_s

    def on_change(name: str, state_change: ServiceStateChange, **_: Any) -> None:
        if state_change is ServiceStateChange.Added:
            with contextlib.suppress(queue.Full):
                names.put_nowait(name)

    with contextlib.closing(Zeroconf()) as zeroconf:
        browser = ServiceBrowser(zeroconf, SERVICE_TYPE, handlers=[on_change])
        try:
            while True:
                name = names.get(timeout=max(0.0, deadline - time.monotonic()))
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


def _numeric(host: str) -> str:
    """The address of a host; this machine's own when the name means nothing here."""
    try:
        return str(socket.getaddrinfo(host, None)[0][4][0])
    except OSError:
        return outward_host()
