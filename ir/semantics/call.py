"""What is known of one node before it runs: types, host values, attributes, mode."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from homespun.errors import Code, HomespunError
from ir.graph import Node, TensorType
from ir.tensor_proto import numpy_dtype

HostValue = npt.NDArray[np.generic]

SHORT_FLOATS = frozenset({"float16", "bfloat16"})
"""Types that a composition of several functions computes in float32, to round once."""


@dataclass(frozen=True, slots=True, eq=False)
class OpCall:
    """One operator call, as an implementation sees it when it is built.

    Attributes:
        node: the operator call.
        inputs: type of each input, None for an omitted one.
        outputs: type of each output, None for one that nobody wants.
        constants: value of each input that is known before the run, else None.
        training: whether the runner will train (dropout draws, batch statistics are used).
    """

    node: Node
    inputs: tuple[TensorType | None, ...]
    outputs: tuple[TensorType | None, ...]
    constants: tuple[HostValue | None, ...]
    training: bool

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

    def numbers(self, name: str) -> tuple[float, ...]:
        """Attribute that is a list of floats, empty if absent."""
        value = self.node.attributes.get(name, ())
        return tuple(float(item) for item in value)  # type: ignore[union-attr]

    def type(self, slot: int) -> TensorType:
        """Type of the input in `slot`, which is given."""
        kind = self.inputs[slot]
        assert kind is not None
        return kind

    def shape(self, slot: int) -> tuple[int, ...]:
        """Shape of the input in `slot`."""
        return self.type(slot).shape

    def host_dtype(self, slot: int) -> np.dtype[np.generic]:
        """Numpy dtype of the input in `slot`, for constants that meet it."""
        return numpy_dtype(self.type(slot).dtype)

    def out(self, slot: int = 0) -> TensorType:
        """Type of an output that is wanted."""
        kind = self.outputs[slot]
        assert kind is not None
        return kind

    def has(self, slot: int) -> bool:
        """Whether the optional input is there."""
        return slot < len(self.inputs) and self.inputs[slot] is not None

    def wants(self, slot: int) -> bool:
        """Whether the optional output is asked for."""
        return slot < len(self.outputs) and self.outputs[slot] is not None

    def host(self, slot: int) -> HostValue | None:
        """Value of an input that must be known before the run, None if omitted.

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

    def host_number(self, slot: int, default: float | None = None) -> float:
        """The one number in input `slot`, which must be known before the run."""
        value = self.host(slot)
        if value is None:
            assert default is not None, f"input {slot} is missing"
            return default
        number: float = value.reshape(-1)[0].item()
        return number

    def host_ints(self, slot: int, attribute: str = "") -> list[int] | None:
        """Integers of input `slot`, else of the attribute that older operator versions use."""
        value = self.host(slot)
        if value is not None:
            return [int(item) for item in value.reshape(-1)]
        older = self.integers(attribute) if attribute else None
        return None if older is None else list(older)
