"""The operators that JAX runs: its own implementations over the shared table."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from ir.semantics.backend import Backend
from ir.semantics.call import OpCall
from ir.semantics.registry import Runner, Semantics, table


@dataclass(frozen=True, slots=True, eq=False)
class Call(OpCall):
    """What is known about one node before it runs, and how JAX is to run it.

    Attributes:
        precision: `float32` or `bfloat16`, as in `TrainingSpec`.
    """

    precision: str


Builder = Callable[[Call], Runner]

_OWN: dict[str, Semantics] = {}


def operator(*names: str, host: tuple[int, ...] = ()) -> Callable[[Builder], Builder]:
    """Register JAX's own implementation under one or more operator names."""

    def register(build: Builder) -> Builder:
        def built(call: Any, backend: Backend) -> Runner:
            return build(call)

        for name in names:
            assert name not in _OWN, name
            _OWN[name] = Semantics(built, frozenset(host))
        return build

    return register


@cache
def implementations() -> Mapping[str, Semantics]:
    """op_type -> semantics, for every operator that this executor runs."""
    import peer.executor.jax_executor.ops as families

    assert families
    return {**table(), **_OWN}


def is_host_work(op_type: str) -> bool:
    """Whether numpy can compute the operator while a segment is loaded."""
    entry = implementations()[op_type]
    return op_type not in _OWN and not entry.by_mode
