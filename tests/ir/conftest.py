"""A tiny builder of graphs, and the graphs that several tests share."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest

from ir.graph import Graph, Node, TensorType
from ir.shapes import infer


class GraphBuilder:
    """Collects values and nodes; names results `v0`, `v1`, ..."""

    def __init__(self) -> None:
        self.inputs: dict[str, TensorType] = {}
        self.parameters: dict[str, TensorType] = {}
        self.constants: dict[str, np.ndarray] = {}
        self.nodes: list[Node] = []
        self.updates: dict[str, str] = {}

    def data(self, name: str, *shape: int, dtype: str = "float32") -> str:
        self.inputs[name] = TensorType(dtype, shape)
        return name

    def parameter(self, name: str, *shape: int, dtype: str = "float32") -> str:
        self.parameters[name] = TensorType(dtype, shape)
        return name

    def constant(self, value: object, dtype: str = "int64") -> str:
        name = f"c{len(self.constants)}"
        self.constants[name] = np.asarray(value, dtype=dtype)
        return name

    def node(self, op_type: str, *inputs: str, outputs: int = 1, **attributes: object) -> str:
        """Add a node; returns its first output (the others are `<first>.1`, ...)."""
        index = len(self.nodes)
        names = tuple(f"v{index}" + (f".{k}" if k else "") for k in range(outputs))
        self.nodes.append(
            Node(index, f"{op_type}_{index}", op_type, tuple(inputs), names, attributes))
        return names[0]

    def build(self, *outputs: str, opset: int = 23) -> Graph:
        inferred = infer(self.nodes, {**self.inputs, **self.parameters}, self.constants)
        return self.untyped(inferred.types, *outputs, opset=opset)

    def untyped(
        self, types: Mapping[str, TensorType], *outputs: str, opset: int = 23
    ) -> Graph:
        return Graph(
            opset=opset, nodes=tuple(self.nodes), inputs=tuple(self.inputs),
            parameters=tuple(self.parameters), outputs=tuple(outputs), constants=self.constants,
            types=dict(types), updates=self.updates)


@pytest.fixture
def builder() -> GraphBuilder:
    return GraphBuilder()


@pytest.fixture(scope="session")
def new_builder() -> type[GraphBuilder]:
    """For tests that make many graphs (hypothesis)."""
    return GraphBuilder


def _averaged() -> Graph:
    """A buffer that keeps a running mean of what the second of three layers gives."""
    b = GraphBuilder()
    x = b.data("x", 2, 4)
    first, mean, last = (b.parameter(n, 4) for n in ("first", "mean", "last"))
    inner = b.node("Mul", x, first)
    centred = b.node("Sub", inner, mean)
    batch = b.node("ReduceMean", inner, b.constant([0]), keepdims=0)
    b.updates[mean] = b.node("Mean", mean, batch)
    loss = b.node("ReduceMean", b.node("Mul", centred, last), keepdims=0)
    return b.build(loss)


@pytest.fixture
def averaged() -> Graph:
    """A training graph with an updated buffer."""
    return _averaged()


def _mlp(layers: int = 3, width: int = 8) -> Graph:
    b = GraphBuilder()
    value = b.data("x", 4, width)
    labels = b.data("y", 4, dtype="int64")
    for layer in range(layers):
        weight = b.parameter(f"layers.{layer}.weight", width, width)
        bias = b.parameter(f"layers.{layer}.bias", width)
        value = b.node("Relu", b.node("Gemm", value, weight, bias, transB=1))
    loss = b.node("SoftmaxCrossEntropyLoss", value, labels)
    return b.build(loss)


@pytest.fixture
def mlp() -> Graph:
    """Three layers of Gemm and Relu, and a cross entropy: nodes 0 to 6."""
    return _mlp()
