"""A digest of the whole state, to compare two brokers: a replay and the one that lived it."""

from __future__ import annotations

import json
from array import array
from dataclasses import fields, is_dataclass
from hashlib import blake2b
from typing import Any

from broker.core.machine import Broker


def state_digest(broker: Broker) -> str:
    """BLAKE2b-256 of the state as canonical JSON; readings of heartbeats are left out.

    Cost: linear in the state. For tests and for diagnosis.
    """
    text = json.dumps(canonical(broker.state), separators=(",", ":"))
    return blake2b(text.encode(), digest_size=32).hexdigest()


def canonical(value: Any) -> Any:
    """JSON values that are equal exactly when the states are. Order of dicts counts."""
    if is_dataclass(value) and not isinstance(value, type):
        return {
            item.name: canonical(getattr(value, item.name))
            for item in fields(value)
            if not item.metadata.get("soft")
        }
    if isinstance(value, dict):
        return [[canonical(key), canonical(item)] for key, item in value.items()]
    if isinstance(value, frozenset | set):
        return sorted(canonical(item) for item in value)
    if isinstance(value, tuple | list | array):
        return [canonical(item) for item in value]
    return value
