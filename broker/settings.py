"""What the operator decided, and where the broker keeps things. Written by `broker init`."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import msgspec

from broker.core.policy import Policy
from homespun.errors import Code, HomespunError

SETTINGS_BYTES_MAX = 64 * 1024
CERTIFICATE_LIFETIME_S = 24 * 3600
"""Long enough for a night without the broker, short enough to stand in for revocation."""

RENEW_EXPIRED_WITHIN_S = 90 * 24 * 3600
"""A holiday or a term abroad; a machine that was away for longer is looked at by its operator."""

CONSOLE_LISTEN = "127.0.0.1:7702"


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokerSettings:
    """One broker's settings.

    Attributes:
        listen: `host:port` of the main port (mTLS).
        enrolment_port: port beside it, for first contact only.
        address: `host:port` that others dial; peers and clients remember it.
        announce: whether to tell the local network by zeroconf where the broker is.
        blob_quota_bytes: most bytes of blobs on disk; 0 for no limit but the disk.
        certificate_lifetime_s: how long the certificates of peers, submitters and the broker are
            valid, >= 10; they are renewed at about two thirds of it.
        renew_expired_within_s: how long after its end a member's certificate can still be
            renewed, with its key, at the enrolment port; 0: not at all.
        console_listen: `host:port` of the operator's console; "" serves none. Other machines may
            reach it only with TLS.
        console_certificate: PEM file with the certificate chain of the console; "" for no TLS.
        console_key: PEM file of its key.
        console_origin: origin under which a proxy makes the console known; "" for none.
        trace_endpoint: URL of a collector of OpenTelemetry's traces (OTLP over HTTP); "" for none.
            Needs `homespun[otel]`.
        policy: the core's numbers.
    """

    listen: str
    enrolment_port: int
    address: str
    announce: bool = True
    blob_quota_bytes: int = 0
    certificate_lifetime_s: Annotated[int, msgspec.Meta(ge=10)] = CERTIFICATE_LIFETIME_S
    renew_expired_within_s: Annotated[int, msgspec.Meta(ge=0)] = RENEW_EXPIRED_WITHIN_S
    console_listen: str = CONSOLE_LISTEN
    console_certificate: str = ""
    console_key: str = ""
    console_origin: str = ""
    trace_endpoint: str = ""
    policy: Policy = field(default_factory=Policy)


@dataclass(frozen=True, slots=True)
class BrokerDirectory:
    """A broker's directory: `ca/`, `operator/`, journal, blobs and settings."""

    root: Path

    @property
    def journal(self) -> Path:
        """The truth."""
        return self.root / "journal.sqlite"

    @property
    def blobs(self) -> Path:
        """Graphs, weights, datasets, results."""
        return self.root / "blobs"

    @property
    def operator(self) -> Path:
        """The operator's identity, for the commands run on this machine."""
        return self.root / "operator"

    @property
    def settings(self) -> Path:
        """`broker.json`."""
        return self.root / "broker.json"

    def load_settings(self) -> BrokerSettings:
        """Read the settings.

        Raises:
            HomespunError: BAD_CONFIGURATION if there are none, or they cannot be read.
        """
        try:
            with self.settings.open("rb") as file:
                return msgspec.json.decode(file.read(SETTINGS_BYTES_MAX), type=BrokerSettings)
        except FileNotFoundError:
            raise HomespunError(
                Code.BAD_CONFIGURATION,
                f"{self.root} is not a broker's directory: run `broker init {self.root}` first",
            ) from None
        except (OSError, msgspec.DecodeError) as error:
            raise HomespunError(
                Code.BAD_CONFIGURATION, f"{self.settings} cannot be read: {error}"
            ) from error

    def save_settings(self, settings: BrokerSettings) -> None:
        """Write the settings."""
        self.root.mkdir(parents=True, exist_ok=True)
        self.settings.write_bytes(
            msgspec.json.format(msgspec.json.encode(settings), indent=2) + b"\n"
        )
