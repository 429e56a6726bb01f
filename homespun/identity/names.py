"""The name in a certificate: network, role and id, as a SPIFFE URI and as a DNS name.

The URI (`spiffe://<network_id>/<role>/<id>`) is what servers read to know their caller. The DNS
name (`peer-7f3a.homespun.internal`) is what a client asks TLS to verify, so that dialling peer X
proves that X answered. It resolves nowhere and need not.
Source of the URI form: SPIFFE-ID specification, section 2.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

from homespun.ids import is_id

BROKER_ID = "broker"
"""A network has one broker identity, so its name is known before anything else is."""

_NETWORK_ID = re.compile(r"[a-z2-7]{16}")
_URI = re.compile(r"spiffe://([^/]+)/([^/]+)/([^/]+)")
_MAX_URI_CHARACTERS = 200


class Role(StrEnum):
    """What a certificate lets its holder do."""

    PEER = "peer"
    SUBMITTER = "submitter"
    OPERATOR = "operator"
    BROKER = "broker"


_PREFIXES = {Role.PEER: "peer", Role.SUBMITTER: "client", Role.OPERATOR: "operator"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """A member of a network. Construction checks that the three parts fit together.

    Attributes:
        network_id: 16 characters derived from the network's root certificate.
        role: what it may do.
        id: `peer_...`, `client_...`, `operator_...` by the role, or `broker`.

    Raises:
        ValueError: when a part is malformed or the id does not belong to the role.
    """

    network_id: str
    role: Role
    id: str

    def __post_init__(self) -> None:
        if _NETWORK_ID.fullmatch(self.network_id) is None:
            raise ValueError(f"network id {self.network_id[:40]!r} is malformed")
        if not _belongs(self.id, self.role):
            raise ValueError(f"id {self.id[:60]!r} does not belong to role {self.role}")

    @property
    def uri(self) -> str:
        """The SPIFFE URI of this identity."""
        return f"spiffe://{self.network_id}/{self.role}/{self.id}"

    @property
    def dns_name(self) -> str:
        """The DNS name of this identity in its certificate."""
        return dns_name(self.id)


def parse_uri(text: str) -> Identity:
    """Read a SPIFFE URI.

    Raises:
        ValueError: when it is not one of ours.
    """
    match = _URI.fullmatch(text) if len(text) <= _MAX_URI_CHARACTERS else None
    if match is None:
        raise ValueError(f"{text[:60]!r} is not spiffe://<network>/<role>/<id>")
    return Identity(network_id=match[1], role=Role(match[2]), id=match[3])


def dns_name(identity_id: str) -> str:
    """DNS name of the identity with this id; an underscore may not stand in a host name."""
    return identity_id.replace("_", "-") + ".homespun.internal"


def _belongs(identity_id: str, role: Role) -> bool:
    if role is Role.BROKER:
        return identity_id == BROKER_ID
    return is_id(identity_id, _PREFIXES[role])
