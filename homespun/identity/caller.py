"""Who is calling, by the certificate that TLS has verified. Never by anything in a message."""

from __future__ import annotations

from datetime import datetime
from functools import lru_cache
from typing import Any

import grpc

from homespun.errors import Code, HomespunError
from homespun.identity.certificates import identity_of, load_chain, utc_now
from homespun.identity.names import Identity


def identify(
    context: grpc.aio.ServicerContext[Any, Any], now: datetime | None = None,
) -> Identity:
    """The identity in the caller's certificate, as `identify_until` finds it."""
    return identify_until(context, now)[0]


def identify_until(
    context: grpc.aio.ServicerContext[Any, Any], now: datetime | None = None,
) -> tuple[Identity, datetime]:
    """The identity in the caller's certificate, and when that ends.

    TLS has verified the chain when the connection was made; that the certificate is still valid is
    checked here for each call, because a connection may outlive it.

    Args:
        context: of the call.
        now: the time; None reads the clock.

    Raises:
        HomespunError: NOT_AUTHENTICATED without a certificate that names a member;
            CERTIFICATE_EXPIRED.
    """
    shown = tuple(context.auth_context().get("x509_pem_cert", ()))
    if len(shown) != 1:
        raise HomespunError(
            Code.NOT_AUTHENTICATED, "The caller showed no certificate. Join the network first.")
    try:
        identity, expires_at = _read(bytes(shown[0]))
    except ValueError as error:
        raise HomespunError(
            Code.NOT_AUTHENTICATED, f"The caller's certificate names no member: {error}.",
        ) from error
    if (now or utc_now()) >= expires_at:
        raise HomespunError(
            Code.CERTIFICATE_EXPIRED,
            f"The certificate of {identity.id} expired at {expires_at:%Y-%m-%d %H:%M} UTC. After "
            "a renewal, open a new channel.", id=identity.id)
    return identity, expires_at


@lru_cache(maxsize=4_096)
def _read(pem: bytes) -> tuple[Identity, datetime]:
    """Parse a verified certificate once: the same one comes with every call of a connection."""
    certificate = load_chain(pem)[0]
    return identity_of(certificate), certificate.not_valid_after_utc
