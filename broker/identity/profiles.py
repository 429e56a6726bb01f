"""What each kind of certificate contains. Pure: keys and the time come in, certificates go out.

Source: RFC 5280, sections 4.1.2.5 (validity) and 4.2.1 (extensions).
"""

from __future__ import annotations

from datetime import datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from homespun.identity.certificates import network_id_of
from homespun.identity.names import Identity, Role

ROOT_LIFETIME = timedelta(days=3_652)
ISSUING_LIFETIME = timedelta(days=730)
CLOCK_SKEW = timedelta(minutes=5)
"""Certificates are valid from this long ago, for machines whose clock is behind."""

MEMBER_LIFETIME = timedelta(hours=24)
"""Life of the certificates of peers, submitters and the broker, unless the operator sets another.

They are renewed long before: by a daemon that runs, and by a client that is used."""
OPERATOR_LIFETIME = timedelta(days=365)
"""Its key lies beside the authority's own, so a short life would protect nothing, while an operator
who comes once a month would find a dead certificate."""

_SERVERS = frozenset({Role.PEER, Role.BROKER})


def sign_root(key: ec.EllipticCurvePrivateKey, now: datetime) -> x509.Certificate:
    """Sign a network's root certificate with its own key."""
    # The number makes the name unique: verifiers look for an issuer by its name, and the roots of
    # two networks must not be taken for each other.
    name = f"Homespun root {x509.random_serial_number():x}"[:64]
    return (
        _builder(name, _common_name(name), key.public_key(), now, now + ROOT_LIFETIME)
        .add_extension(x509.BasicConstraints(ca=True, path_length=1), critical=True)
        .add_extension(_key_usage(authority=True), critical=True)
        .sign(key, hashes.SHA256()))


def sign_issuing(
    root: x509.Certificate, root_key: ec.EllipticCurvePrivateKey,
    public_key: ec.EllipticCurvePublicKey, now: datetime,
) -> x509.Certificate:
    """Sign an issuing authority; it does not outlive the root."""
    expires = min(now + ISSUING_LIFETIME, root.not_valid_after_utc)
    name = f"Homespun issuing authority {network_id_of(root)}"
    return (
        _builder(name, root.subject, public_key, now, expires)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(authority=True), critical=True)
        .add_extension(_authority_key(root), critical=False)
        .sign(root_key, hashes.SHA256()))


def sign_leaf(
    issuing: x509.Certificate, issuing_key: ec.EllipticCurvePrivateKey,
    public_key: ec.EllipticCurvePublicKey, identity: Identity, now: datetime,
    lifetime: timedelta = MEMBER_LIFETIME,
) -> x509.Certificate:
    """Sign a member's certificate; it does not outlive the issuing authority.

    `lifetime` is not the operator's: that one is `OPERATOR_LIFETIME` in any case.
    """
    if identity.role is Role.OPERATOR:
        lifetime = OPERATOR_LIFETIME
    expires = min(now + lifetime, issuing.not_valid_after_utc)
    return (
        _builder(identity.id, issuing.subject, public_key, now, expires)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(authority=False), critical=True)
        .add_extension(_extended_key_usage(identity.role), critical=False)
        .add_extension(_names(identity), critical=False)
        .add_extension(_authority_key(issuing), critical=False)
        .sign(issuing_key, hashes.SHA256()))


def _builder(
    name: str, issuer: x509.Name, key: ec.EllipticCurvePublicKey, now: datetime,
    expires: datetime,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(_common_name(name))
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        # A short life must not lie in the past: it is renewed at two thirds, counted from here.
        .not_valid_before(now - min(CLOCK_SKEW, (expires - now) / 10))
        .not_valid_after(expires)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False))


def _common_name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _key_usage(*, authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not authority, key_cert_sign=authority, crl_sign=authority,
        content_commitment=False, key_encipherment=False, data_encipherment=False,
        key_agreement=False, encipher_only=False, decipher_only=False)


def _extended_key_usage(role: Role) -> x509.ExtendedKeyUsage:
    """Everybody may call; only peers and the broker may be called."""
    usages = [ExtendedKeyUsageOID.CLIENT_AUTH]
    if role in _SERVERS:
        usages.append(ExtendedKeyUsageOID.SERVER_AUTH)
    return x509.ExtendedKeyUsage(usages)


def _names(identity: Identity) -> x509.SubjectAlternativeName:
    return x509.SubjectAlternativeName(
        [x509.UniformResourceIdentifier(identity.uri), x509.DNSName(identity.dns_name)])


def _authority_key(issuer: x509.Certificate) -> x509.AuthorityKeyIdentifier:
    key_id = issuer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(key_id)
