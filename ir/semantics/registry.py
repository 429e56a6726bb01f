"""What the table holds per operator, and how a family registers. The table is in `families`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ir.semantics.backend import Backend
from ir.semantics.call import OpCall
from ir.semantics.draws import DrawKey

Runner = Callable[..., Any]
"""Takes one array per input slot (None: omitted or `host`), then the node's draws; gives an array
or a tuple of them, one per output. Pure."""
Builder = Callable[[OpCall, Backend], Runner]
Draw = Callable[[OpCall, DrawKey], tuple[npt.NDArray[np.generic], ...]]
"""The random arrays that one run of a node needs: same shapes and dtypes for every key."""


@dataclass(frozen=True, slots=True)
class Semantics:
    """How one operator computes.

    Attributes:
        build: reads the call once and gives the function that runs per microbatch.
        host: input slots that are read while building; the runner gets None for them.
        static: needs only the types of its inputs (`Shape`).
        by_mode: behaves differently in training (`OpCall.training`).
        draw: makes the random arrays of one run, for operators that draw.
    """

    build: Builder
    host: frozenset[int] = frozenset()
    static: bool = False
    by_mode: bool = False
    draw: Draw | None = None


REGISTERED: dict[str, Semantics] = {}
"""What the families that were imported have registered; `ir.semantics.families.TABLE` is all."""


def semantics(
    *names: str, host: tuple[int, ...] = (), static: bool = False, by_mode: bool = False,
    draw: Draw | None = None,
) -> Callable[[Builder], Builder]:
    """Register a builder under one or more operator names; flags as `Semantics`."""

    def register(build: Builder) -> Builder:
        for name in names:
            assert name not in REGISTERED, name
            REGISTERED[name] = Semantics(
                build, frozenset(host), static=static, by_mode=by_mode or draw is not None,
                draw=draw)
        return build

    return register
