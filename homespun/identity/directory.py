"""An identity on disk: who this machine is in which network, and the key that proves it.

```
DIR/identity.json   id, role, network, broker address, name for people
DIR/key.pem         private key, readable by the owner only; never leaves the machine
DIR/chain.pem       certificate and issuing certificate
DIR/root.pem        the only certificate that this machine trusts
```
`identity.json` is written last and removed first: without it the directory holds no identity, so a
crash in between leaves "not joined" and never half an identity. Renewal keeps the key and replaces
only `chain.pem`, in one step.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cached_property
from pathlib import Path

import msgspec
from cryptography import x509

from homespun.errors import Code, HomespunError
from homespun.identity.certificates import (
    MAX_PEM_BYTES,
    identity_of,
    load_chain,
    load_private_key,
    network_id_of,
    renewal_time,
    same_key,
)
from homespun.identity.names import Identity
from homespun.identity.private_file import make_private_directory, read_bounded, write_atomically

_MAX_JSON_BYTES = 4_096


@dataclass(frozen=True, kw_only=True)
class Credentials:
    """Everything that this machine needs to prove who it is and to recognise the others.

    Construction checks that the parts belong together.

    Attributes:
        broker_address: `host:port` of the broker's main port.
        name: what people call this machine or user.
        key_pem: private key.
        chain_pem: certificate, then the issuing certificate.
        root_pem: the network's root certificate.
        enrolment_port: of the broker, where an expired certificate is renewed; 0: the port after
            its main one.

    Raises:
        HomespunError: BAD_CONFIGURATION when a part is malformed or belongs to another.
    """

    broker_address: str
    name: str
    key_pem: bytes = field(repr=False)
    chain_pem: bytes = field(repr=False)
    root_pem: bytes = field(repr=False)
    enrolment_port: int = 0

    def __post_init__(self) -> None:
        try:
            if not same_key(self._chain[0], load_private_key(self.key_pem)):
                raise ValueError("the certificate is for another key")
            if self.identity.network_id != network_id_of(load_chain(self.root_pem)[0]):
                raise ValueError("the certificate is of another network")
        except ValueError as error:
            raise HomespunError(
                Code.BAD_CONFIGURATION, f"This identity is damaged: {error}. Join again.",
            ) from error

    @property
    def identity(self) -> Identity:
        """Whom the certificate names."""
        return self._identity

    @property
    def id(self) -> str:
        """`peer_...`, `client_...` or `operator_...`."""
        return self._identity.id

    @property
    def role(self) -> str:
        """`peer`, `submitter` or `operator`."""
        return self._identity.role

    @property
    def network_id(self) -> str:
        """The network that this identity belongs to."""
        return self._identity.network_id

    @property
    def expires_at(self) -> datetime:
        """When the certificate stops being valid (UTC)."""
        return self._chain[0].not_valid_after_utc

    @property
    def renew_at(self) -> datetime:
        """When to renew the certificate (UTC): at two thirds of its life."""
        return renewal_time(self._chain[0])

    def has_expired(self, now: datetime) -> bool:
        """Tell whether the certificate's life is over."""
        return now >= self.expires_at

    def needs_renewal(self, now: datetime) -> bool:
        """Tell whether two thirds of the certificate's life are over."""
        return now >= self.renew_at

    def require_valid(self, now: datetime) -> None:
        """Check that the certificate has not expired.

        Raises:
            HomespunError: CERTIFICATE_EXPIRED.
        """
        if self.has_expired(now):
            raise HomespunError(
                Code.CERTIFICATE_EXPIRED,
                f"The certificate of {self.id} expired at {self.expires_at:%Y-%m-%d %H:%M} UTC; "
                f"this machine's clock says {now:%Y-%m-%d %H:%M} UTC.",
                id=self.id, expired_at=self.expires_at.isoformat())

    def renewed(self, chain_pem: bytes) -> Credentials:
        """The same identity with a new certificate for the same key.

        Raises:
            HomespunError: BAD_CONFIGURATION when the certificate is for another key or identity.
        """
        credentials = replace(self, chain_pem=chain_pem)
        if credentials.identity != self.identity:
            raise HomespunError(
                Code.BAD_CONFIGURATION,
                f"The new certificate is for {credentials.id}, not for {self.id}.")
        return credentials

    @cached_property
    def _chain(self) -> list[x509.Certificate]:
        return load_chain(self.chain_pem)

    @cached_property
    def _identity(self) -> Identity:
        return identity_of(self._chain[0])


class _Description(msgspec.Struct, frozen=True, forbid_unknown_fields=False):
    """Contents of `identity.json`. Id, role and network repeat the certificate, for people."""

    id: str
    role: str
    network_id: str
    broker_address: str
    name: str
    enrolment_port: int = 0


def exists(directory: Path) -> bool:
    """Tell whether a directory holds an identity."""
    return (directory / "identity.json").is_file()


def load(directory: Path) -> Credentials:
    """Read the identity in a directory. An expired one loads: `enrol.load_valid` renews it.

    Raises:
        HomespunError: BAD_CONFIGURATION when there is none, or a file of it is damaged.
    """
    if not exists(directory):
        raise HomespunError(
            Code.BAD_CONFIGURATION,
            f"{directory} holds no identity. Join a network first, with a key from its operator.",
            directory=directory)
    raw = read_bounded(directory / "identity.json", _MAX_JSON_BYTES)
    try:
        description = msgspec.json.decode(raw, type=_Description)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise HomespunError(
            Code.BAD_CONFIGURATION,
            f"{directory / 'identity.json'} is damaged: {error}. Join again.") from error
    credentials = Credentials(
        broker_address=description.broker_address,
        name=description.name,
        key_pem=read_bounded(directory / "key.pem", MAX_PEM_BYTES),
        chain_pem=read_bounded(directory / "chain.pem", MAX_PEM_BYTES),
        root_pem=read_bounded(directory / "root.pem", MAX_PEM_BYTES),
        enrolment_port=description.enrolment_port)
    if (description.id, description.network_id) != (credentials.id, credentials.network_id):
        raise HomespunError(
            Code.BAD_CONFIGURATION,
            f"{directory} names {description.id}, but its certificate is for {credentials.id}. "
            "Join again.")
    return credentials


def save(directory: Path, credentials: Credentials) -> None:
    """Write an identity into a directory, in place of one that may be there.

    Raises:
        HomespunError: BAD_CONFIGURATION when the directory cannot be written.
    """
    make_private_directory(directory)
    (directory / "identity.json").unlink(missing_ok=True)
    write_atomically(directory / "key.pem", credentials.key_pem, private=True)
    write_atomically(directory / "chain.pem", credentials.chain_pem)
    write_atomically(directory / "root.pem", credentials.root_pem)
    description = _Description(
        id=credentials.id, role=credentials.role, network_id=credentials.network_id,
        broker_address=credentials.broker_address, name=credentials.name,
        enrolment_port=credentials.enrolment_port)
    text = msgspec.json.format(msgspec.json.encode(description), indent=2)
    write_atomically(directory / "identity.json", text + b"\n")


def save_renewed(directory: Path, credentials: Credentials) -> None:
    """Replace only the certificate of the identity in a directory, in one step.

    Raises:
        HomespunError: BAD_CONFIGURATION when it cannot be written.
    """
    write_atomically(directory / "chain.pem", credentials.chain_pem)
