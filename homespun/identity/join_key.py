"""The join key: one line of text that an operator hands to whoever may join.

`hsk1_` and base32 (lower case, no padding) of 64 bytes: version 1, enrolment port 2 (big endian),
key id 5, secret 20, SHA-256 of the root certificate 32, checksum 4. The fingerprint lets the joiner
recognise the broker before it sends the secret; the checksum (first bytes of SHA-256 over the rest)
tells a mistyped key from a wrong one without asking anybody.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import struct
from collections.abc import Callable
from dataclasses import dataclass, field

from homespun.errors import Code, HomespunError

PREFIX = "hsk1_"
SECRET_BYTES = 20
FINGERPRINT_BYTES = 32

_VERSION = 1
_KEY_ID_BYTES = 5  # 8 characters of base32, no padding
_LAYOUT = struct.Struct(f">BH{_KEY_ID_BYTES}s{SECRET_BYTES}s{FINGERPRINT_BYTES}s")
_CHECKSUM_BYTES = 4
_MAX_TEXT_CHARACTERS = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class JoinKey:
    """What a join key says.

    Attributes:
        key_id: `key_...`; names the key to the broker.
        secret: 20 random bytes; never stored by the broker, never printed by `repr`.
        enrolment_port: port of the broker's enrolment service, 1 to 65,535.
        root_fingerprint: SHA-256 of the root certificate's DER form, 32 bytes.
    """

    key_id: str
    secret: bytes = field(repr=False)
    enrolment_port: int
    root_fingerprint: bytes

    @property
    def text(self) -> str:
        """The key as one line of text."""
        packed = _LAYOUT.pack(
            _VERSION, self.enrolment_port, _decode(self.key_id.removeprefix("key_")), self.secret,
            self.root_fingerprint)
        return PREFIX + _encode(packed + _checksum(packed))


def mint(
    random_bytes: Callable[[int], bytes], *, enrolment_port: int, root_fingerprint: bytes,
) -> JoinKey:
    """Make a new key.

    Args:
        random_bytes: source of cryptographic randomness (`secrets.token_bytes`).
        enrolment_port: where the broker enrols.
        root_fingerprint: SHA-256 of the network's root certificate.
    """
    return JoinKey(
        key_id="key_" + _encode(random_bytes(_KEY_ID_BYTES)), secret=random_bytes(SECRET_BYTES),
        enrolment_port=enrolment_port, root_fingerprint=root_fingerprint)


def parse(text: str) -> JoinKey:
    """Read a key that somebody typed or pasted; surrounding space and capitals do not matter.

    Raises:
        HomespunError: WRONG_KEY when it is mistyped or incomplete.
    """
    plain = text.strip().lower() if len(text) <= _MAX_TEXT_CHARACTERS else ""
    if not plain.startswith(PREFIX):
        raise _mistyped(f"a key begins with {PREFIX!r}")
    try:
        data = _decode(plain.removeprefix(PREFIX))
    except (binascii.Error, ValueError):
        raise _mistyped("it has characters that no key has, or is incomplete") from None
    if len(data) != _LAYOUT.size + _CHECKSUM_BYTES:
        raise _mistyped("it is too short or too long")
    packed, checksum = data[:-_CHECKSUM_BYTES], data[-_CHECKSUM_BYTES:]
    if checksum != _checksum(packed):
        raise _mistyped("its checksum does not match")
    version, port, key_id, secret, fingerprint = _LAYOUT.unpack(packed)
    if version != _VERSION or port == 0:
        raise _mistyped("it is of a kind that this release does not know")
    return JoinKey(key_id="key_" + _encode(key_id), secret=secret, enrolment_port=port,
                   root_fingerprint=fingerprint)


def secret_hash(secret: bytes) -> str:
    """What the broker keeps of a secret: SHA-256, 64 hexadecimal characters.

    No slow password hash is needed: the secret has 160 random bits, which nobody guesses.
    """
    return hashlib.sha256(secret).hexdigest()


def _mistyped(reason: str) -> HomespunError:
    return HomespunError(
        Code.WRONG_KEY, f"The join key is mistyped: {reason}. Copy the whole line again.",
        reason="mistyped")


def _checksum(packed: bytes) -> bytes:
    return hashlib.sha256(packed).digest()[:_CHECKSUM_BYTES]


def _encode(data: bytes) -> str:
    return base64.b32encode(data).decode().rstrip("=").lower()


def _decode(text: str) -> bytes:
    data = base64.b32decode(text.upper() + "=" * (-len(text) % 8))
    if _encode(data) != text:  # the last character has spare bits: only one spelling is accepted
        raise ValueError("not the canonical spelling")
    return data
