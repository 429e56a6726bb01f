"""The frozen in-memory form of a graph that everything downstream of the front ends reads.

`onnx_ir` is the form that front ends and passes edit; `ir.serde` turns ONNX bytes into these
values once, checked, and nobody edits them afterwards. Nodes are in topological order and a node's
`index` in the *whole* graph never changes, also inside a segment: random operators are keyed by it
and gradients are summed in an order derived from it (docs/adr/0008-bit-identity.md).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import prod

import numpy as np
import numpy.typing as npt

Attribute = (
    int | float | str | bytes
    | tuple[int, ...] | tuple[float, ...] | tuple[str, ...]
    | npt.NDArray[np.generic]
)

ITEM_BYTES: Mapping[str, int] = {
    "float64": 8, "float32": 4, "float16": 2, "bfloat16": 2,
    "int64": 8, "int32": 4, "int16": 2, "int8": 1,
    "uint64": 8, "uint32": 4, "uint16": 2, "uint8": 1, "bool": 1,
    "float8_e4m3fn": 1, "float8_e5m2": 1, "float8_e4m3fnuz": 1, "float8_e5m2fnuz": 1,
    "float8_e8m0fnu": 1, "float4_e2m1fn": 1, "int4": 1, "uint4": 1, "int2": 1, "uint2": 1,
}
"""dtype -> bytes per element in memory and in frames. Names are numpy's and `ml_dtypes`'. Elements
of 4 and 2 bits take a byte each; only ONNX files pack them."""
FLOATS = frozenset({"float64", "float32", "float16", "bfloat16"})
"""Floats that carry a gradient."""
STORED_FLOATS = frozenset({
    "float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz", "float8_e8m0fnu",
    "float4_e2m1fn"})
"""Floats that are only stored, moved and converted: nothing computes in them. No gradient passes
through them, because a gradient has its value's dtype, and three bits of fraction hold none; a
model that trains through quantisation says so with wide values beside the short ones."""
STORED_INTEGERS = frozenset({"int4", "uint4", "int2", "uint2"})
"""Integers that are only stored, moved and converted."""

TRAIN = "train"
"""A graph whose first output is the loss, to be differentiated."""
INFER = "infer"
"""A graph all of whose outputs are results, to be run forward only."""


@dataclass(frozen=True, slots=True)
class TensorType:
    """Element type and static shape of a value.

    Attributes:
        dtype: a key of `ITEM_BYTES`.
        shape: extents, each >= 0; `()` is a scalar. Symbolic axes are bound before this exists.
    """

    dtype: str
    shape: tuple[int, ...]

    @property
    def elements(self) -> int:
        """Number of elements (exact; Python integers do not overflow)."""
        return prod(self.shape)

    @property
    def size_bytes(self) -> int:
        """Bytes of the dense tensor."""
        return self.elements * ITEM_BYTES[self.dtype]


@dataclass(frozen=True, slots=True, eq=False)
class Node:
    """One operator call. Equality is identity.

    Attributes:
        index: position in the topological order of the whole graph, >= 0.
        name: unique, for messages.
        op_type: ONNX operator name; all are of the default domain.
        inputs: value names; `""` stands for an omitted optional input.
        outputs: value names; `""` for an output nobody wants.
        attributes: name -> value; tensor attributes are numpy arrays.
    """

    index: int
    name: str
    op_type: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Attribute] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, eq=False)
class Graph:
    """A whole model: parameters are inputs, never initializers, so that names survive.

    Attributes:
        opset: version of the default ONNX domain that the nodes follow: 23, or the lowest up to 28
            that has all of its operators.
        nodes: topological order; `nodes[i].index == i` in a whole graph.
        inputs: names of the data inputs (columns of the dataset), in order.
        parameters: names of the trainable and frozen parameters and buffers, in `state_dict` order.
        outputs: names of the results; the first output of a graph to train is the scalar loss.
        constants: initializers and folded constants, by value name.
        types: type of every value: inputs, parameters, constants, and each node's outputs.
        updates: parameter -> the value that replaces it after each *training* microbatch's forward,
            in microbatch order, such as a batch normalisation's running mean. No gradient flows
            through either; evaluation and inference read the parameter and replace nothing.
        stopped: results of nodes through which no gradient passes back, as `detach` makes them:
            who reads one adds nothing to its gradient. Forward they are like any other value.
    """

    opset: int
    nodes: tuple[Node, ...]
    inputs: tuple[str, ...]
    parameters: tuple[str, ...]
    outputs: tuple[str, ...]
    constants: Mapping[str, npt.NDArray[np.generic]]
    types: Mapping[str, TensorType]
    updates: Mapping[str, str] = field(default_factory=dict)
    stopped: frozenset[str] = frozenset()
