"""The network's certificate authority: a root, an issuing authority, and what they sign.

```
DIR/ca/root.key     signs only the issuing authority; may be kept off the machine
DIR/ca/root.pem     10 years
DIR/ca/issuing.key  signs everybody's certificate
DIR/ca/issuing.pem  2 years; signed anew, for the same key, at two thirds of its life
DIR/operator/       the identity of whoever runs commands on this machine
```
Members keep only the root, so a new issuing authority needs nobody to join again. Certificates are
short-lived instead of revoked; who is shut out is refused at each call (`homespun.identity.guard`).
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import NamedTuple

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from broker.identity.profiles import MEMBER_LIFETIME, sign_issuing, sign_leaf, sign_root
from homespun.errors import Code, HomespunError
from homespun.identity import directory as identity_directory
from homespun.identity.certificates import (
    MAX_PEM_BYTES,
    fingerprint,
    identity_of,
    load_chain,
    load_private_key,
    network_id_of,
    new_private_key,
    private_key_pem,
    renewal_time,
    requested_key,
    same_key,
    signing_request,
)
from homespun.identity.directory import Credentials
from homespun.identity.names import Identity, Role
from homespun.identity.private_file import make_private_directory, read_bounded, write_atomically

OPERATOR_ID = "operator_local"


class Issued(NamedTuple):
    """A new certificate: the chain in PEM form, leaf first, and when it expires (UTC)."""

    chain_pem: bytes
    expires: datetime


@dataclass(frozen=True, kw_only=True)
class Authority:
    """Issues certificates. Values only: `load` reads the files.

    Attributes:
        root: the root certificate.
        issuing: the certificate of the issuing authority.
        issuing_key: its private key.
        member_lifetime: how long the certificates of peers, submitters and the broker are valid.
    """

    root: x509.Certificate
    issuing: x509.Certificate
    issuing_key: ec.EllipticCurvePrivateKey = field(repr=False)
    member_lifetime: timedelta = MEMBER_LIFETIME

    @property
    def network_id(self) -> str:
        """The network's id, derived from the root."""
        return network_id_of(self.root)

    @property
    def root_fingerprint(self) -> bytes:
        """SHA-256 of the root certificate, as join keys carry it."""
        return fingerprint(self.root)

    @property
    def root_pem(self) -> bytes:
        """The root certificate, PEM."""
        return _pem(self.root)

    @property
    def issuing_pem(self) -> bytes:
        """The issuing authority's certificate, PEM."""
        return _pem(self.issuing)

    @staticmethod
    def load(directory: Path, now: datetime) -> Authority:
        """Read the authority of a broker's directory; renews an issuing authority that is due.

        Raises:
            HomespunError: BAD_CONFIGURATION when there is none, a file is damaged, or the issuing
                authority has expired and the root key is not there to replace it.
        """
        return _load(directory / "ca", now)

    def member_of(self, certificate_pem: bytes) -> tuple[Identity, x509.Certificate]:
        """Whom a certificate names that this authority has issued, expired or not.

        Args:
            certificate_pem: the certificate; what follows it is ignored.

        Raises:
            HomespunError: NOT_AUTHENTICATED when it is no certificate of a member, or another
                authority's.
        """
        try:
            certificate = load_chain(certificate_pem)[0]
            certificate.verify_directly_issued_by(self.issuing)
            return identity_of(certificate), certificate
        except (ValueError, TypeError, InvalidSignature) as error:
            raise HomespunError(
                Code.NOT_AUTHENTICATED,
                f"The certificate is not one of network {self.network_id}'s members: "
                f"{error or 'its signature is wrong'}. Join again with a new key.") from error

    def issue(self, csr_pem: bytes, identity: str, role: str, now: datetime) -> Issued:
        """Certify the public key of a signing request under a name that the broker chose.

        Args:
            csr_pem: only its key is used, after its self-signature has been verified.
            identity: `peer_...`, `client_...`, `operator_...` or `broker`.
            role: the role that belongs to the id.
            now: the time.

        Raises:
            HomespunError: INVALID_ARGUMENT or LIMIT_EXCEEDED when the request is refused, or when
                id and role do not belong together; BAD_CONFIGURATION when the authority itself
                has expired.
        """
        public_key = requested_key(csr_pem)
        try:
            named = Identity(network_id=self.network_id, role=Role(role), id=identity)
        except ValueError as error:
            raise HomespunError(
                Code.INVALID_ARGUMENT, f"No certificate for {identity[:60]!r}: {error}.") from error
        if now >= self.issuing.not_valid_after_utc:
            raise _expired_authority(self.issuing)
        leaf = sign_leaf(
            self.issuing, self.issuing_key, public_key, named, now, self.member_lifetime)
        return Issued(_pem(leaf) + self.issuing_pem, leaf.not_valid_after_utc)


def create_authority(directory: Path, *, broker_address: str, now: datetime) -> Authority:
    """Make the authority of a new network, and an operator's identity (`broker init`).

    Args:
        directory: the broker's directory.
        broker_address: `host:port` that the operator's commands will dial.
        now: the time.

    Raises:
        HomespunError: CONFLICT when the directory already has an authority; BAD_CONFIGURATION when
            it cannot be written.
    """
    target = directory / "ca"
    if target.exists():
        raise HomespunError(
            Code.CONFLICT,
            f"{directory} already belongs to a network. Use another directory: making it anew "
            "would shut out everybody who has joined.", directory=directory)
    make_private_directory(directory)
    unfinished = directory / "ca.unfinished"
    shutil.rmtree(unfinished, ignore_errors=True)  # of an earlier attempt that was interrupted
    make_private_directory(unfinished)
    root_key = new_private_key()
    root = sign_root(root_key, now)
    write_atomically(unfinished / "root.key", private_key_pem(root_key), private=True)
    write_atomically(unfinished / "root.pem", _pem(root))
    _replace_issuing(unfinished, root, root_key, now)
    unfinished.replace(target)
    authority = Authority.load(directory, now)
    write_operator(authority, directory, broker_address=broker_address, now=now)
    return authority


def write_operator(
    authority: Authority, directory: Path, *, broker_address: str, now: datetime,
) -> Credentials:
    """Write a fresh operator's identity to `DIR/operator` (at init and at each start).

    Raises:
        HomespunError: BAD_CONFIGURATION when it cannot be written.
    """
    key = new_private_key()
    issued = authority.issue(signing_request(key), OPERATOR_ID, Role.OPERATOR, now)
    credentials = Credentials(
        broker_address=broker_address, name="operator", key_pem=private_key_pem(key),
        chain_pem=issued.chain_pem, root_pem=authority.root_pem)
    identity_directory.save(directory / "operator", credentials)
    return credentials


def renew_operator(directory: Path, now: datetime) -> None:
    """Sign the certificate in `DIR/operator` anew, for the same key, when it is time for that.

    The authority lies beside it, so no broker has to run. For the operator's commands: a broker
    that ran for a year without a start made the identity a year ago.

    Raises:
        HomespunError: BAD_CONFIGURATION when the identity has expired and the authority, or the
            identity itself, cannot be read or written.
    """
    held = identity_directory.load(directory / "operator")
    if not held.needs_renewal(now):
        return
    try:
        issued = Authority.load(directory, now).issue(
            signing_request(load_private_key(held.key_pem)), held.id, held.role, now)
        identity_directory.save_renewed(
            directory / "operator", held.renewed(issued.chain_pem))
    except HomespunError:
        if held.has_expired(now):
            raise


def _load(ca: Path, now: datetime) -> Authority:
    if not ca.is_dir():
        raise HomespunError(
            Code.BAD_CONFIGURATION,
            f"{ca.parent} has no network yet. Make one first: broker init.", directory=ca.parent)
    root = _read_certificate(ca / "root.pem")
    issuing = _read_certificate(ca / "issuing.pem")
    if now >= renewal_time(issuing) and (ca / "root.key").is_file():
        issuing = _replace_issuing(ca, root, _read_key(ca / "root.key"), now)
    if now >= issuing.not_valid_after_utc:
        raise _expired_authority(issuing)
    key = _read_key(ca / "issuing.key")
    if not same_key(issuing, key):
        raise _damaged(ca / "issuing.key", "it does not belong to issuing.pem")
    try:
        issuing.verify_directly_issued_by(root)
    except (ValueError, TypeError, InvalidSignature) as error:
        raise _damaged(ca / "issuing.pem", "it was not issued by root.pem") from error
    return Authority(root=root, issuing=issuing, issuing_key=key)


def _replace_issuing(
    ca: Path, root: x509.Certificate, root_key: ec.EllipticCurvePrivateKey, now: datetime,
) -> x509.Certificate:
    """Sign an issuing authority.

    It keeps the key of the one before it, so that no crash can make the two files disagree.
    """
    if (ca / "issuing.key").is_file():
        key = _read_key(ca / "issuing.key")
    else:
        key = new_private_key()
        write_atomically(ca / "issuing.key", private_key_pem(key), private=True)
    issuing = sign_issuing(root, root_key, key.public_key(), now)
    write_atomically(ca / "issuing.pem", _pem(issuing))
    return issuing


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _read_certificate(path: Path) -> x509.Certificate:
    try:
        return load_chain(read_bounded(path, MAX_PEM_BYTES))[0]
    except ValueError as error:
        raise _damaged(path, str(error)) from error


def _read_key(path: Path) -> ec.EllipticCurvePrivateKey:
    try:
        return load_private_key(read_bounded(path, MAX_PEM_BYTES))
    except ValueError as error:
        raise _damaged(path, str(error)) from error


def _damaged(path: Path, reason: str) -> HomespunError:
    return HomespunError(
        Code.BAD_CONFIGURATION,
        f"{path} is damaged: {reason}. Restore it from a backup.", path=path)


def _expired_authority(issuing: x509.Certificate) -> HomespunError:
    return HomespunError(
        Code.BAD_CONFIGURATION,
        f"The issuing authority expired at {issuing.not_valid_after_utc:%Y-%m-%d %H:%M} UTC, or "
        "this machine's clock is wrong. Put ca/root.key back and start the broker again.")
