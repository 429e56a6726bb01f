"""What starting one operator takes in an executor, measured on a segment of tiny ones.

A segment is loaded and run as for a job, so everything that an executor does per operator is in:
looking up operands, building what backward needs, fusing and compiling. The time of the work itself
is nothing at these sizes.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np

from dag.job import OptimizerSpec, TrainingSpec
from ir.cut import cut
from ir.graph import INFER, TRAIN, Graph, Node, TensorType
from ir.operators import OPSET
from peer.executor.base import Array, Executor, LoadedSegment, SegmentProgram, WorkKey

LAYERS = (2, 10)
"""Two lengths: their difference leaves out what a task takes whatever its length. Short ones run
between two interruptions by other work on the machine."""
ROWS, WIDTH = 2, 8
BUDGET_S = 0.5
RUNS_MIN = 5
_SPEC = TrainingSpec(
    steps=1, batch_size=ROWS, microbatches=1, seed=0,
    optimizer=OptimizerSpec(kind="sgd", learning_rate=0.0))


@dataclass(frozen=True, slots=True, kw_only=True)
class Overheads:
    """Seconds per operator, views included."""

    forward_s: float
    backward_s: float


def measured_overheads(executor: Executor, *, trainable: bool = True) -> Overheads:
    """Measure, in 1 to 3 s.

    Args:
        executor: whose segments to run.
        trainable: whether it differentiates; if not, backward is said to take what forward takes.
    """
    few, many = (_fastest(executor, _layers(layers), trainable) for layers in LAYERS)
    started = (LAYERS[1] - LAYERS[0]) * len(_LAYER)
    return Overheads(
        forward_s=max(0.0, many[0] - few[0]) / started,
        backward_s=max(0.0, many[1] - few[1]) / started)


_LAYER: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("RMSNormalization", ("g",)), ("MatMul", ("w",)), ("Add", ("b",)), ("Tanh", ()),
    ("Reshape", ("shape",)))
"""Operators as models mix them, and what they read besides the value of before."""


def _layers(count: int) -> Graph:
    shape = (ROWS, WIDTH)
    types = {"x": TensorType("float32", shape), "shape": TensorType("int64", (2,))}
    operands = {"w": (WIDTH, WIDTH), "b": (WIDTH,), "g": (WIDTH,)}
    parameters: list[str] = []
    nodes: list[Node] = []
    value = "x"
    for layer in range(count):
        # Each layer has its own: adding to a gradient is a part of what an operator costs.
        for kind, extents in operands.items():
            parameters.append(f"{kind}{layer}")
            types[parameters[-1]] = TensorType("float32", extents)
        for op_type, inputs in _LAYER:
            name = f"{op_type}{layer}"
            more = tuple(f"{kind}{layer}" if kind in operands else kind for kind in inputs)
            nodes.append(Node(len(nodes), name, op_type, (value, *more), (name,)))
            types[name] = TensorType("float32", shape)
            value = name
    nodes.append(Node(len(nodes), "loss", "ReduceMean", (value,), ("loss",), {"keepdims": 0}))
    types["loss"] = TensorType("float32", ())
    return Graph(
        opset=OPSET, nodes=tuple(nodes), inputs=("x",), parameters=tuple(parameters),
        outputs=("loss",), constants={"shape": np.array(shape, np.int64)}, types=types)


def _loaded(
    executor: Executor, graph: Graph, trainable: bool
) -> tuple[LoadedSegment, dict[str, Array]]:
    names = frozenset(graph.parameters) if trainable else frozenset[str]()
    kind = TRAIN if trainable else INFER
    (segment,) = cut(graph, [[node.index for node in graph.nodes]], names, kind)
    program = SegmentProgram(
        graph=graph, segment=segment, training=_SPEC, trainable=names, kind=kind)
    draw = np.random.default_rng(0)
    values = {name: draw.random(graph.types[name].shape, np.float32) for name in graph.parameters}
    return executor.load(program, values), {"x": draw.random((ROWS, WIDTH), np.float32)}


def _fastest(executor: Executor, graph: Graph, trainable: bool) -> tuple[float, float]:
    """Fastest forward and fastest backward of a graph; without gradients, forward twice."""
    loaded, data = _loaded(executor, graph, trainable)
    key = WorkKey(mode=TRAIN if trainable else INFER, step=0, microbatch=0)
    times: list[tuple[float, float]] = []
    began_s = time.perf_counter()
    while len(times) <= RUNS_MIN or time.perf_counter() - began_s < BUDGET_S:
        start_s = time.perf_counter()
        loaded.forward(key, data, {})
        middle_s = time.perf_counter()
        if trainable:
            loaded.backward(key, {})
        times.append((middle_s - start_s, time.perf_counter() - middle_s))
    loaded.close()
    forward_s = min(forward for forward, _ in times[1:])  # the first run also compiles
    return forward_s, min(back for _, back in times[1:]) if trainable else forward_s
