"""Whether two brokers know the same: a replay and the one that lived it.

Readings of heartbeats, the fields marked `SOFT`, are left out. The order of dicts counts.
"""

from __future__ import annotations

import json
from array import array
from collections.abc import Iterable
from dataclasses import fields, is_dataclass
from functools import cache
from hashlib import blake2b
from typing import Any

from broker.core.machine import Broker

SHOWN = 200
"""Characters of a value that a difference shows."""


def state_digest(broker: Broker) -> str:
    """BLAKE2b-256 of the state as canonical JSON, to compare states of different processes.

    Cost: linear in the state. For tests and for diagnosis.
    """
    text = json.dumps(canonical(broker.state), separators=(",", ":"))
    return blake2b(text.encode(), digest_size=32).hexdigest()


def canonical(value: Any) -> Any:
    """JSON values that are equal exactly when the states are."""
    if is_dataclass(value) and not isinstance(value, type):
        return {name: canonical(getattr(value, name)) for name in _compared(type(value))}
    if isinstance(value, dict):
        return [[canonical(key), canonical(item)] for key, item in value.items()]
    if isinstance(value, frozenset | set):
        return sorted(canonical(item) for item in value)
    if isinstance(value, tuple | list | array):
        return [canonical(item) for item in value]
    return value


@cache
def _compared(kind: type) -> tuple[str, ...]:
    return tuple(item.name for item in fields(kind) if not item.metadata.get("soft"))


def difference(one: Broker, other: Broker) -> str:
    """Where two states of one process differ first, with both values; "" if nowhere.

    Then their digests are equal too. What both took from the same events is the same object, and is
    not looked into: so this costs much less than two digests, linear in what the state adds.
    """
    path = _difference(one.state, other.state)
    return "" if path is None else f"state{path}"


def _difference(one: Any, other: Any) -> str | None:
    """The path from here to the first difference; None if there is none."""
    if one is other:
        return None
    if type(one) is not type(other):
        return _unlike(one, other)
    if is_dataclass(one) and not isinstance(one, type):
        return _first((f".{name}", getattr(one, name), getattr(other, name))
                      for name in _compared(type(one)))
    if isinstance(one, dict) and list(one) == list(other):
        return _first((f"[{key!r}]", item, other[key]) for key, item in one.items())
    if isinstance(one, tuple | list | array) and len(one) == len(other):
        return _first((f"[{index}]", *pair)
                      for index, pair in enumerate(zip(one, other, strict=True)))
    same = one == other if isinstance(one, frozenset | set) else repr(one) == repr(other)
    return None if same else _unlike(one, other)


def _unlike(one: Any, other: Any) -> str:
    return f": {repr(one)[:SHOWN]} is not {repr(other)[:SHOWN]}"


def _first(parts: Iterable[tuple[str, Any, Any]]) -> str | None:
    for name, one, other in parts:
        path = _difference(one, other)
        if path is not None:
            return name + path
    return None
