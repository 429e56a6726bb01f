"""The table of operator implementations, and what an implementation sees of its node.

An implementation is a function that reads a `Call` (everything static about one node) once, when
the segment is compiled, and returns the function that runs per microbatch. Shapes are static, so
all shape arithmetic happens in the first of the two.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from ir.semantics.call import OpCall
from peer.executor.torch_executor.run_state import RunState
from peer.executor.torch_executor.tensors import DTYPES

Runner = Callable[..., Any]
"""Takes one tensor per input slot (None: omitted or `host`), gives a tensor or a tuple of them."""


@dataclass(frozen=True, slots=True, eq=False)
class Call(OpCall):
    """What is known about one node before it runs, and how torch is to run it.

    Attributes:
        transposed: for each input, whether it is the result of swapping a matrix's two axes, in
            the whole graph: independent of where the graph is cut.
        of_parameter: for each input, whether it is a parameter, or one swapped here, that no other
            node reads: its gradient goes nowhere but to the parameter.
        precision: `float32` or `bfloat16`, as in `TrainingSpec`.
        device: where per-microbatch values live.
        state: which microbatch is running, and whether it trains; for random draws.
    """

    transposed: tuple[bool, ...]
    precision: str
    device: torch.device
    state: RunState
    of_parameter: tuple[bool, ...] = ()

    def dtype(self, slot: int) -> torch.dtype:
        """Torch dtype of the input in `slot`."""
        return DTYPES[self.type(slot).dtype]

    def out_dtype(self, slot: int = 0) -> torch.dtype:
        """Torch dtype of an output that is wanted."""
        return DTYPES[self.out(slot).dtype]


Builder = Callable[[Call], Runner]


@dataclass(frozen=True, slots=True)
class Implementation:
    """How one operator runs.

    Attributes:
        build: makes the function that runs.
        host: input slots that are read when the segment is compiled; they are passed as None.
        strided: reads inputs of any memory layout with the same result bits; all others are handed
            row-major inputs.
        moves: only moves elements, forward and backward, so no layout changes its bits; implies
            `strided`.
        once: each input is used once, so it adds one term to an input's gradient.
        dense: given row-major inputs and gradients, it gives row-major gradients.
        static: needs only the types of its inputs (`Shape`).
        lays_out: brings its inputs and the gradients of its results into one memory layout of its
            own, whatever it is handed; implies `strided`.
    """

    build: Builder
    host: frozenset[int] = frozenset()
    strided: bool = False
    moves: bool = False
    once: bool = False
    dense: bool = False
    static: bool = False
    lays_out: bool = False


REGISTERED: dict[str, Implementation] = {}
"""Torch's own, as far as `ops` is imported; `implementations` has all."""


def operator(
    *names: str,
    host: tuple[int, ...] = (),
    strided: bool = False,
    moves: bool = False,
    once: bool = False,
    dense: bool = False,
    static: bool = False,
    lays_out: bool = False,
) -> Callable[[Builder], Builder]:
    """Register an implementation under one or more operator names; flags as `Implementation`."""

    def register(build: Builder) -> Builder:
        for name in names:
            assert name not in REGISTERED, name
            REGISTERED[name] = Implementation(
                build, frozenset(host), strided=strided or moves or lays_out, moves=moves,
                once=once, dense=dense, static=static, lays_out=lays_out)
        return build

    return register
