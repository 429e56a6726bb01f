"""Channels and servers with mutual TLS: both sides show a certificate of the one trusted root.

A channel verifies the *name* of who answers, not the host it runs on, so that addresses may change
and dialling peer X proves that X answered. A channel keeps the certificate that it was opened with:
after a renewal, calls that are under way go on, and new calls belong on a new channel.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import grpc

from homespun.identity.address import grpc_target
from homespun.identity.certificates import utc_now
from homespun.identity.directory import Credentials
from homespun.identity.names import BROKER_ID, dns_name

MAX_MESSAGE_BYTES = 8 * 1024 * 1024
KEEPALIVE_INTERVAL_MS = 20_000
KEEPALIVE_TIMEOUT_MS = 10_000

_BOTH_SIDES = (
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.keepalive_time_ms", KEEPALIVE_INTERVAL_MS),
    ("grpc.keepalive_timeout_ms", KEEPALIVE_TIMEOUT_MS),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
)
SERVER_OPTIONS = (
    *_BOTH_SIDES,
    # Half a keepalive interval: an honest client is never punished for its pings.
    ("grpc.http2.min_ping_interval_without_data_ms", KEEPALIVE_INTERVAL_MS // 2),
    # Two servers on one port would share it silently; the second must fail instead.
    ("grpc.so_reuseport", 0),
)
"""Options that every server of Homespun passes to `grpc.aio.server`."""

_CHANNEL_OPTIONS = (
    *_BOTH_SIDES,
    ("grpc.enable_http_proxy", 0),  # peers and brokers are on the LAN or dialled directly
    ("grpc.initial_reconnect_backoff_ms", 500),
    ("grpc.max_reconnect_backoff_ms", 5_000),
    # Never reuse another channel's connection: it may have been made with an older certificate.
    ("grpc.use_local_subchannel_pool", 1),
)


@dataclass(frozen=True, slots=True)
class ServerKey:
    """What a server shows: private key and certificate chain, PEM."""

    key_pem: bytes
    chain_pem: bytes


def channel_options(expected: str) -> list[tuple[str, object]]:
    """Options of a channel that accepts only the identity `expected` at the other end."""
    return [*_CHANNEL_OPTIONS, ("grpc.ssl_target_name_override", dns_name(expected))]


def open_channel(
    credentials: Credentials, address: str, expected: str = BROKER_ID,
) -> grpc.Channel:
    """Open a channel to the one identity that may answer. Connects on the first call.

    Args:
        credentials: who this machine is.
        address: `host:port`.
        expected: id of who must answer: `broker`, or a peer's id.

    Raises:
        HomespunError: CERTIFICATE_EXPIRED when this machine's certificate has expired;
            INVALID_ARGUMENT when the address is malformed.
    """
    credentials.require_valid(utc_now())
    return grpc.secure_channel(
        grpc_target(address), _channel_credentials(credentials), channel_options(expected))


def open_aio_channel(
    credentials: Credentials, address: str, expected: str = BROKER_ID,
) -> grpc.aio.Channel:
    """The same as `open_channel`, for asyncio."""
    credentials.require_valid(utc_now())
    return grpc.aio.secure_channel(
        grpc_target(address), _channel_credentials(credentials), channel_options(expected))


def server_credentials(
    credentials: Credentials, refresh: Callable[[], Credentials] | None = None,
) -> grpc.ServerCredentials:
    """Credentials of a peer's server: callers must show a certificate of the same network.

    Args:
        credentials: who this machine is.
        refresh: returns the credentials as they are now; called before each handshake, from a
            thread of gRPC's, so that a renewed certificate is shown without a restart.
    """
    source = refresh or (lambda: credentials)

    def current() -> ServerKey:
        now = source()
        return ServerKey(now.key_pem, now.chain_pem)

    return rotating_server_credentials(current, client_root_pem=credentials.root_pem)


def rotating_server_credentials(
    current: Callable[[], ServerKey], *, client_root_pem: bytes | None,
) -> grpc.ServerCredentials:
    """Server credentials that follow a certificate as it is renewed; open connections stay.

    Args:
        current: what to show now; called before each handshake, from any thread. When it raises,
            that handshake goes on with what was shown last.
        client_root_pem: callers must show a certificate of this root; None asks for none.
    """
    shown = current()

    def fetch() -> Any:
        nonlocal shown
        latest = current()
        if latest == shown:
            return None  # nothing new
        shown = latest
        return _configuration(latest, client_root_pem)

    return grpc.dynamic_ssl_server_credentials(
        _configuration(shown, client_root_pem), fetch,
        require_client_authentication=client_root_pem is not None)


def _configuration(
    key: ServerKey, client_root_pem: bytes | None,
) -> grpc.ServerCertificateConfiguration:
    return grpc.ssl_server_certificate_configuration(
        [(key.key_pem, key.chain_pem)], client_root_pem)


def _channel_credentials(credentials: Credentials) -> grpc.ChannelCredentials:
    return grpc.ssl_channel_credentials(
        credentials.root_pem, credentials.key_pem, credentials.chain_pem)
