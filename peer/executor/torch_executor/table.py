"""The table of operator implementations, and what an implementation sees of its node.

An implementation is a function that reads a `Call` (everything static about one node) once, when
the segment is compiled, and returns the function that runs per microbatch. Shapes are static, so
all shape arithmetic happens in the first of the two.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from homespun.errors import Code, HomespunError
from ir.graph import Node, TensorType
from peer.executor.torch_executor.random_draws import RunState
from peer.executor.torch_executor.tensors import DTYPES

Runner = Callable[..., Any]
"""Takes one tensor per input slot (None: omitted or `host`), gives a tensor or a tuple of them."""


@dataclass(frozen=True, slots=True, eq=False)
class Call:
    """What is known about one node before it runs.

    Attributes:
        node: the operator call.
        inputs: type of each input, None for an omitted one.
        outputs: type of each output, None for one that nobody wants.
        constants: value of each input that is known at load time (on the CPU), else None.
        transposed: for each input, whether it is the result of swapping a matrix's two axes, in
            the whole graph: independent of where the graph is cut.
        of_parameter: for each input, whether it is a parameter, or one swapped here, that no other
            node reads: its gradient goes nowhere but to the parameter.
        precision: `float32` or `bfloat16`, as in `TrainingSpec`.
        device: where per-microbatch values live.
        state: which microbatch is running; for random draws.
    """

    node: Node
    inputs: tuple[TensorType | None, ...]
    outputs: tuple[TensorType | None, ...]
    constants: tuple[Tensor | None, ...]
    transposed: tuple[bool, ...]
    precision: str
    device: torch.device
    state: RunState
    of_parameter: tuple[bool, ...] = ()

    def number(self, name: str, default: float) -> float:
        """Float or int attribute."""
        return self.node.attributes.get(name, default)  # type: ignore[return-value]

    def integer(self, name: str, default: int) -> int:
        """Int attribute."""
        return int(self.node.attributes.get(name, default))  # type: ignore[arg-type]

    def text(self, name: str, default: str) -> str:
        """String attribute; bytes are decoded."""
        value = self.node.attributes.get(name, default)
        return value.decode() if isinstance(value, bytes) else str(value)

    def integers(self, name: str) -> tuple[int, ...] | None:
        """Attribute that is a list of ints, None if absent."""
        value = self.node.attributes.get(name)
        return None if value is None else tuple(int(item) for item in value)  # type: ignore[union-attr]

    def shape(self, slot: int) -> tuple[int, ...]:
        """Shape of the input in `slot`."""
        kind = self.inputs[slot]
        assert kind is not None
        return kind.shape

    def dtype(self, slot: int) -> torch.dtype:
        """Torch dtype of the input in `slot`."""
        kind = self.inputs[slot]
        assert kind is not None
        return DTYPES[kind.dtype]

    def out(self, slot: int = 0) -> TensorType:
        """Type of an output that is wanted."""
        kind = self.outputs[slot]
        assert kind is not None
        return kind

    def out_dtype(self, slot: int = 0) -> torch.dtype:
        """Torch dtype of an output that is wanted."""
        return DTYPES[self.out(slot).dtype]

    def has(self, slot: int) -> bool:
        """Whether the optional input is there."""
        return slot < len(self.inputs) and self.inputs[slot] is not None

    def wants(self, slot: int) -> bool:
        """Whether the optional output is asked for."""
        return slot < len(self.outputs) and self.outputs[slot] is not None

    def host(self, slot: int) -> Tensor | None:
        """Value (on the CPU) of an input that must be known before the run, None if omitted.

        Raises:
            HomespunError: INVALID_GRAPH if the input depends on data or parameters.
        """
        if not self.has(slot):
            return None
        value = self.constants[slot]
        if value is None:
            raise HomespunError(
                Code.INVALID_GRAPH,
                f"Input {slot} of node '{self.node.name}' ({self.node.op_type}) must be known "
                "before the run, but it depends on data; make it a constant of the model.",
                node=self.node.name, op_type=self.node.op_type)
        return value

    def number_at(self, slot: int) -> float:
        """The one number in input `slot`, which must be known before the run."""
        value = self.host(slot)
        assert value is not None, f"input {slot} is missing"
        return value.item()

    def host_ints(self, slot: int, attribute: str = "") -> list[int] | None:
        """Integers of input `slot`, else of the attribute that older operator versions use."""
        value = self.host(slot)
        if value is not None:
            return [int(item) for item in value.reshape(-1)]
        older = self.integers(attribute) if attribute else None
        return None if older is None else list(older)


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
    """

    build: Builder
    host: frozenset[int] = frozenset()
    strided: bool = False
    moves: bool = False
    once: bool = False
    dense: bool = False
    static: bool = False


_TABLE: dict[str, Implementation] = {}


def operator(
    *names: str,
    host: tuple[int, ...] = (),
    strided: bool = False,
    moves: bool = False,
    once: bool = False,
    dense: bool = False,
    static: bool = False,
) -> Callable[[Builder], Builder]:
    """Register an implementation under one or more operator names; flags as `Implementation`."""

    def register(build: Builder) -> Builder:
        for name in names:
            assert name not in _TABLE, name
            _TABLE[name] = Implementation(
                build, frozenset(host), strided=strided or moves, moves=moves, once=once,
                dense=dense, static=static)
        return build

    return register


def implementations() -> Mapping[str, Implementation]:
    """op_type -> implementation, for every operator that this executor runs."""
    import peer.executor.torch_executor.ops as families

    assert families
    return _TABLE
