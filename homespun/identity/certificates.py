"""Keys, signing requests and certificates: the few operations that Homespun needs of X.509.

Everything is ECDSA on P-256: the one curve that BoringSSL, OpenSSL and hardware all offer.
"""

from __future__ import annotations

import base64
from datetime import UTC, datetime

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from homespun.errors import Code, HomespunError
from homespun.identity.names import Identity, parse_uri

MAX_CSR_BYTES = 4_096
MAX_PEM_BYTES = 65_536
MAX_CHAIN_CERTIFICATES = 4


def utc_now() -> datetime:
    """The time now. Everything else takes it as an argument."""
    return datetime.now(UTC)


def new_private_key() -> ec.EllipticCurvePrivateKey:
    """Make a private key."""
    return ec.generate_private_key(ec.SECP256R1())


def private_key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    """PKCS #8 PEM of a private key, not encrypted: the file's permissions protect it."""
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption())


def load_private_key(pem: bytes) -> ec.EllipticCurvePrivateKey:
    """Read a private key.

    Raises:
        ValueError: when it is no P-256 key in PEM form.
    """
    try:
        key = serialization.load_pem_private_key(pem, password=None)
    except (TypeError, UnsupportedAlgorithm) as error:
        raise ValueError(str(error)) from error
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not _is_p256(key.curve):
        raise ValueError("it is not a P-256 key")
    return key


def signing_request(key: ec.EllipticCurvePrivateKey) -> bytes:
    """PEM of a request to certify a key. It asks for no name: the authority decides that."""
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def requested_key(csr_pem: bytes) -> ec.EllipticCurvePublicKey:
    """The public key of a signing request; all else in the request is ignored.

    Raises:
        HomespunError: LIMIT_EXCEEDED when it is too large; INVALID_ARGUMENT when it is no request,
            its self-signature is wrong (the sender does not hold the key), or its key is not P-256.
    """
    if len(csr_pem) > MAX_CSR_BYTES:
        raise HomespunError(
            Code.LIMIT_EXCEEDED,
            f"The signing request has {len(csr_pem)} bytes; the limit is {MAX_CSR_BYTES}.",
            wanted_bytes=len(csr_pem), limit_bytes=MAX_CSR_BYTES)
    try:
        request = x509.load_pem_x509_csr(csr_pem)
        key = request.public_key()
        if isinstance(key, ec.EllipticCurvePublicKey) and _is_p256(key.curve):
            if request.is_signature_valid:
                return key
            reason = "its signature does not match its key"
        else:
            reason = "its key is not an ECDSA key on P-256"
    except (ValueError, TypeError, UnsupportedAlgorithm, InvalidSignature) as error:
        reason = f"it is no PEM signing request ({error})"
    raise HomespunError(Code.INVALID_ARGUMENT, f"The signing request is refused: {reason}.")


def load_chain(pem: bytes) -> list[x509.Certificate]:
    """Read a certificate chain, leaf first.

    Raises:
        ValueError: when it holds no certificate, too many or something else, or is too large.
    """
    if len(pem) > MAX_PEM_BYTES:
        raise ValueError(f"it is larger than {MAX_PEM_BYTES} bytes")
    if pem.count(b"-----BEGIN") > MAX_CHAIN_CERTIFICATES:
        raise ValueError(f"it holds more than {MAX_CHAIN_CERTIFICATES} certificates")
    return x509.load_pem_x509_certificates(pem)


def identity_of(certificate: x509.Certificate) -> Identity:
    """Whom a certificate names: its one URI name.

    Raises:
        ValueError: when it has none, several, or one that is not ours.
    """
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        raise ValueError("it names nobody") from None
    uris = names.get_values_for_type(x509.UniformResourceIdentifier)
    if len(uris) != 1:
        raise ValueError(f"it has {len(uris)} URI names instead of one")
    return parse_uri(uris[0])


def same_key(certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> bool:
    """Tell whether a certificate is for this private key."""
    return certificate.public_key() == key.public_key()


def fingerprint(certificate: x509.Certificate) -> bytes:
    """SHA-256 of the DER form, 32 bytes."""
    return certificate.fingerprint(hashes.SHA256())


def network_id_of(root: x509.Certificate) -> str:
    """Name of the network with this root: 80 bits of its fingerprint, for people and URIs.

    Trust never rests on it: channels trust the root certificate itself.
    """
    return base64.b32encode(fingerprint(root)[:10]).decode().lower()


def renewal_time(certificate: x509.Certificate) -> datetime:
    """When to renew: two thirds through the life, so that a third is left for failures."""
    start, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    return start + (end - start) * 2 / 3


def _is_p256(curve: ec.EllipticCurve) -> bool:
    return isinstance(curve, ec.SECP256R1)
