"""What is known of a value while a model is flattened, and where its name is looked up."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import onnx

from ir.tensor_proto import Array


@dataclass(frozen=True, slots=True, eq=False)
class FlatValue:
    """A value of the flat graph.

    Attributes:
        name: unique in the flat graph; `""` for an omitted optional input.
        type: as far as it is known; None: not at all.
        array: its elements, where they are known before the run.
    """

    name: str
    type: onnx.TypeProto | None = None
    array: Array | None = None

    @property
    def shape(self) -> tuple[int, ...] | None:
        """The static shape of a tensor; None where an extent or the rank is not known."""
        if self.type is None or not self.type.tensor_type.HasField("shape"):
            return None
        axes = self.type.tensor_type.shape.dim
        if not all(axis.HasField("dim_value") for axis in axes):
            return None
        return tuple(axis.dim_value for axis in axes)

    @property
    def element_type(self) -> int:
        """The ONNX number of a tensor's element type; 0 where it is not known."""
        return 0 if self.type is None else self.type.tensor_type.elem_type


OMITTED = FlatValue("")


@dataclass(frozen=True, slots=True, eq=False)
class Scope:
    """Names of one graph, branch, iteration or function call.

    Attributes:
        prefix: begins the names of the nodes inside, in messages too.
        outer: scope that a subgraph captures from; None for the model's graph and for functions.
        attributes: what the call of the enclosing function gives for the attributes it refers to.
        opset: version of the default domain that the nodes inside follow.
        depth: how many calls and subgraphs this one is in.
    """

    prefix: str
    opset: int
    outer: Scope | None = None
    attributes: Mapping[str, onnx.AttributeProto] | None = None
    depth: int = 0
    values: dict[str, FlatValue] = field(default_factory=dict)

    def find(self, name: str) -> FlatValue | None:
        """The value that a name stands for here."""
        scope: Scope | None = self
        while scope is not None:
            if name in scope.values:
                return scope.values[name]
            scope = scope.outer
        return OMITTED if name == "" else None

    def inner(self, prefix: str) -> Scope:
        """The scope of a subgraph of one of this scope's nodes."""
        return Scope(f"{self.prefix}{prefix}/", self.opset, self, self.attributes, self.depth + 1)
