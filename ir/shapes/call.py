"""One operator call as a rule sees it: typed inputs, known values, attributes with defaults."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from homespun.errors import Code, HomespunError
from ir.graph import FLOATS, ITEM_BYTES, STORED_FLOATS, STORED_INTEGERS, Node, TensorType

Value = npt.NDArray[np.generic]

ALL = frozenset(ITEM_BYTES)
COMPUTED = ALL - STORED_FLOATS - STORED_INTEGERS
"""Dtypes that operators compute in; the short ones are only moved and converted."""
BOOL = frozenset({"bool"})
NUMBERS = COMPUTED - BOOL
SIGNED = frozenset(FLOATS | {"int64", "int32", "int16", "int8"})
WIDE = frozenset(FLOATS | {"int64", "int32", "uint64", "uint32"})
"""Floats and the integers of 32 and 64 bits: what most arithmetic in ONNX accepts."""
INDICES = frozenset({"int64", "int32"})


@dataclass(frozen=True, slots=True)
class Call:
    """A node together with what is known of its inputs.

    Attributes:
        node: the node.
        types: type per input; None for an omitted optional input.
        values: value per input, where it is known before the run, else None.
    """

    node: Node
    types: tuple[TensorType | None, ...]
    values: tuple[Value | None, ...]

    def fail(self, text: str) -> HomespunError:
        """An INVALID_GRAPH error that names this node."""
        node = self.node
        return HomespunError(
            Code.INVALID_GRAPH, f"Node {node.index} '{node.name}' ({node.op_type}): {text}.",
            node=node.index, name=node.name, op=node.op_type)

    def has(self, position: int) -> bool:
        """Whether the input at `position` is given."""
        return position < len(self.types) and self.types[position] is not None

    def type(self, position: int, dtypes: frozenset[str] = COMPUTED) -> TensorType:
        """Type of a required input, which must have one of `dtypes`."""
        type_ = self.types[position] if position < len(self.types) else None
        if type_ is None:
            raise self.fail(f"input {position} is missing")
        if type_.dtype not in dtypes:
            raise self.fail(
                f"input {position} has dtype {type_.dtype}; "
                f"the operator accepts {', '.join(sorted(dtypes))}")
        return type_

    def same_dtype(self, positions: Sequence[int], dtypes: frozenset[str] = COMPUTED) -> str:
        """The one dtype that the given inputs at `positions` share."""
        first = self.type(positions[0], dtypes).dtype
        for position in positions[1:]:
            if self.has(position) and self.type(position, dtypes).dtype != first:
                raise self.fail(
                    f"input {position} has dtype {self.type(position).dtype}, "
                    f"input {positions[0]} has {first}; they must be equal")
        return first

    def integer(self, name: str, default: int | None = None) -> int:
        """An integer attribute; required if there is no default."""
        value = self.node.attributes.get(name, default)
        if not isinstance(value, int):
            raise self.fail(f"attribute '{name}' must be an integer")
        return value

    def integers(self, name: str) -> tuple[int, ...] | None:
        """An attribute that is a list of integers, or None if it is absent."""
        value = self.node.attributes.get(name)
        if value is None:
            return None
        if isinstance(value, tuple):
            found = tuple(item for item in value if isinstance(item, int))
            if len(found) == len(value):
                return found
        raise self.fail(f"attribute '{name}' must be a list of integers")

    def text(self, name: str, default: str | None = None) -> str:
        """A text attribute; required if there is no default."""
        value = self.node.attributes.get(name, default)
        if isinstance(value, bytes):
            value = value.decode("utf-8", "replace")
        if not isinstance(value, str):
            raise self.fail(f"attribute '{name}' must be text")
        return value

    def value(self, position: int) -> Value:
        """Value of an input that has to be known before the run."""
        self.type(position)
        value = self.values[position]
        if value is None:
            raise self.fail(
                f"input {position} '{self.node.inputs[position]}' must be known before the run "
                "(a constant or computed from shapes), but it depends on data")
        return value

    def known(self, position: int) -> tuple[int, ...]:
        """Value of an integer input as Python integers, flattened."""
        self.type(position, INDICES)
        return tuple(int(item) for item in self.value(position).reshape(-1).tolist())

    def known_one(self, position: int) -> int:
        """Value of an integer input of exactly one element."""
        items = self.known(position)
        if len(items) != 1:
            raise self.fail(f"input {position} must hold one integer; it holds {len(items)}")
        return items[0]

    def axis(self, axis: int, rank: int) -> int:
        """`axis` counted from the front, where -1 is the last of `rank` axes."""
        if not -rank <= axis < rank:
            raise self.fail(f"axis {axis} is outside [{-rank}, {rank - 1}]")
        return axis % rank

    def axes(self, axes: Sequence[int], rank: int) -> tuple[int, ...]:
        """Several axes counted from the front, ascending; each may be named once."""
        found = sorted(self.axis(axis, rank) for axis in axes)
        if len(set(found)) != len(found):
            raise self.fail(f"an axis is named twice in {tuple(axes)}")
        return tuple(found)

    def broadcast(self, shapes: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
        """Common shape under multidirectional (NumPy) broadcasting."""
        rank = max((len(shape) for shape in shapes), default=0)
        result = [1] * rank
        for shape in shapes:
            for place, extent in enumerate(shape, rank - len(shape)):
                if result[place] == 1:
                    result[place] = extent
                elif extent not in (1, result[place]):
                    raise self.fail(f"shapes {_listed(shapes)} do not broadcast together")
        return tuple(result)

    def broadcast_to(self, position: int, shape: tuple[int, ...]) -> None:
        """Check that an input broadcasts to `shape` without enlarging it."""
        own = self.type(position).shape
        if len(own) > len(shape) or self.broadcast([own, shape]) != shape:
            raise self.fail(f"input {position} of shape {own} does not broadcast to {shape}")


Rule = Callable[[Call], Sequence[TensorType]]
"""Types of a call's outputs, all that the operator can have, in order.

Raises HomespunError INVALID_GRAPH if the inputs contradict the operator.
"""


def _listed(shapes: Sequence[tuple[int, ...]]) -> str:
    return " and ".join(str(shape) for shape in shapes[:4])
