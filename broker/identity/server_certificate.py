"""The certificate that the broker itself shows: made at each start, renewed while it runs.

Its private key exists only in memory. Nothing has to run for the renewal: the certificate matters
only when somebody connects, so it is looked at then.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import datetime

import grpc

from broker.identity.authority import Authority
from homespun.identity.certificates import (
    load_chain,
    new_private_key,
    private_key_pem,
    renewal_time,
    signing_request,
    utc_now,
)
from homespun.identity.channels import ServerKey, rotating_server_credentials
from homespun.identity.names import BROKER_ID, Role


class ServerCertificate:
    """Hands out a certificate that has at least a third of its life left. Thread-safe.

    Args:
        authority: signs it.
        clock: the time.
    """

    def __init__(self, authority: Authority, clock: Callable[[], datetime] = utc_now) -> None:
        self._authority = authority
        self._clock = clock
        self._lock = threading.Lock()
        self._key = new_private_key()
        self._shown, self._renew_at = self._issue()

    def current(self) -> ServerKey:
        """The key and chain to show now; a new one when two thirds of its life are over."""
        with self._lock:
            if self._clock() >= self._renew_at:
                self._shown, self._renew_at = self._issue()
            return self._shown

    def main_credentials(self) -> grpc.ServerCredentials:
        """For the main port: callers must show a certificate of this network."""
        return rotating_server_credentials(
            self.current, client_root_pem=self._authority.root_pem)

    def enrolment_credentials(self) -> grpc.ServerCredentials:
        """For the enrolment port: callers have no certificate yet."""
        return rotating_server_credentials(self.current, client_root_pem=None)

    def _issue(self) -> tuple[ServerKey, datetime]:
        issued = self._authority.issue(
            signing_request(self._key), BROKER_ID, Role.BROKER, self._clock())
        renew_at = renewal_time(load_chain(issued.chain_pem)[0])
        return ServerKey(private_key_pem(self._key), issued.chain_pem), renew_at
