"""Where the console is, and by which names browsers may come to it."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from broker.settings import BrokerSettings
from homespun.errors import Code, HomespunError
from homespun.identity.address import join_address, split_address

DEFAULT_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsoleAddress:
    """Where to listen, and what browsers may call it.

    Attributes:
        host: to listen on.
        port: to listen on; 0 for any.
        certificate: PEM file with the chain, "" without TLS.
        key: PEM file of its key.
        outside: origin by which a proxy makes it known, such as `https://broker.home.arpa`; or "".
    """

    host: str
    port: int
    certificate: str = ""
    key: str = ""
    outside: str = ""

    @classmethod
    def of(cls, settings: BrokerSettings) -> ConsoleAddress | None:
        """Where the settings want the console; None if they want none.

        Raises:
            HomespunError: BAD_CONFIGURATION for an address that others reach without TLS, or an
                origin that is none; INVALID_ARGUMENT for what is no address.
        """
        if not settings.console_listen:
            return None
        host, port = split_address(settings.console_listen)
        if bool(settings.console_certificate) != bool(settings.console_key):
            raise HomespunError(
                Code.BAD_CONFIGURATION,
                "console_certificate and console_key belong together: give both or none")
        if not settings.console_certificate and not _is_loopback(host):
            raise HomespunError(
                Code.BAD_CONFIGURATION,
                f"console_listen is {settings.console_listen}, which other machines reach: that "
                "needs TLS (console_certificate and console_key). Or listen on 127.0.0.1 and come "
                "through `ssh -L` or a proxy (console_origin)")
        return cls(
            host=host, port=port, certificate=settings.console_certificate,
            key=settings.console_key, outside=_origin(settings.console_origin))

    @property
    def scheme(self) -> str:
        """`http` or `https`."""
        return "https" if self.certificate else "http"

    @property
    def origin(self) -> str:
        """The origin that people are given."""
        return self.outside or f"{self.scheme}://{self._own_hosts()[0]}"

    def origins(self) -> Mapping[str, str]:
        """What a browser may say in `Host`, each with the origin that such a page has.

        A page of another site can make a browser connect here under that site's name, if it has its
        name server answer with our address; that name is not in here.
        """
        found = {host: f"{self.scheme}://{host}" for host in self._own_hosts()}
        if self.outside:
            found[urlsplit(self.outside).netloc] = self.outside
        return found

    def _own_hosts(self) -> list[str]:
        """Names with the port, where it is not the scheme's own; the preferred one first."""
        wild = self.host in ("0.0.0.0", "::")
        names = [] if wild else [self.host]
        if wild or _is_loopback(self.host):
            names += ["127.0.0.1", "localhost", "::1"]
        short = self.port == DEFAULT_PORTS[self.scheme]
        hosts = [join_address(name, self.port) for name in names]
        if short:
            hosts = [host.rpartition(":")[0] for host in hosts]
        return list(dict.fromkeys(hosts))


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _origin(text: str) -> str:
    if not text:
        return ""
    parts = urlsplit(text)
    whole = f"{parts.scheme}://{parts.netloc}"
    if parts.scheme not in DEFAULT_PORTS or not parts.hostname or whole != text:
        raise HomespunError(
            Code.BAD_CONFIGURATION,
            f"console_origin is {text[:80]!r}; expected an origin such as https://broker.home.arpa")
    return text
