"""The operators that JAX runs: its own implementations over the shared table."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ir.semantics.backend import Backend
from ir.semantics.call import OpCall
from ir.semantics.registry import Runner, Semantics


@dataclass(frozen=True, slots=True, eq=False)
class Call(OpCall):
    """What is known about one node before it runs, and how JAX is to run it.

    Attributes:
        precision: `float32` or `bfloat16`, as in `TrainingSpec`.
    """

    precision: str


Builder = Callable[[Call], Runner]

REGISTERED: dict[str, Semantics] = {}
"""JAX's own, as far as `ops` is imported; `implementations` has all."""


def operator(*names: str, host: tuple[int, ...] = ()) -> Callable[[Builder], Builder]:
    """Register JAX's own implementation under one or more operator names."""

    def register(build: Builder) -> Builder:
        def built(call: Any, backend: Backend) -> Runner:
            return build(call)

        for name in names:
            assert name not in REGISTERED, name
            REGISTERED[name] = Semantics(built, frozenset(host))
        return build

    return register
