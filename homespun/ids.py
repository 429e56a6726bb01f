"""Identifiers, one type per thing that has one, so that a peer id cannot pass for a job id.

Ids are text with a typed prefix (`peer_7f3a...`). They are minted in one place per kind: peer ids
by the broker at enrolment, job ids by the broker core from a counter, so nothing here is random.
"""

from __future__ import annotations

import re
from typing import NewType

PeerId = NewType("PeerId", str)
JobId = NewType("JobId", str)
KeyId = NewType("KeyId", str)
Digest = NewType("Digest", str)
"""BLAKE3-256 of a blob's bytes: 64 lower-case hexadecimal characters."""

_DIGEST = re.compile(r"[0-9a-f]{64}")
_ID = re.compile(r"(peer|job|key|client|operator|broker)_[0-9a-z]{1,40}")


def is_digest(text: str) -> bool:
    """Tell whether `text` has the form of a blob digest."""
    return _DIGEST.fullmatch(text) is not None


def is_id(text: str, prefix: str) -> bool:
    """Tell whether `text` is an id of the kind that `prefix` names (`peer`, `job`, ...)."""
    return text.startswith(prefix + "_") and _ID.fullmatch(text) is not None
