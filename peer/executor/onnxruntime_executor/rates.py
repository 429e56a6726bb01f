"""The workloads of `peer.executor.rates` in ONNX Runtime."""

from __future__ import annotations

import numpy as np

from dag.cluster import PeerRates
from ir.graph import Graph, Node, TensorType
from ir.operators import OPSET
from ir.tensor_proto import numpy_dtype
from peer.executor.onnxruntime_executor.session import Place, Session
from peer.executor.overheads import Overheads
from peer.executor.rates import PIXELS, SLIM, WIDE, RateWorkloads, Run, measured_rates

Shape = tuple[int, ...]


def onnxruntime_rates(place: Place, overheads: Overheads) -> PeerRates:
    """Measure the rates of a device, about 5 s in all."""
    return measured_rates(RateWorkloads(
        matmul=lambda dtype, n: _run(place, dtype, "MatMul", (n, n), 2),
        attention=lambda dtype, n: _run(place, dtype, "Attention", (1, 8, n, 64), 3),
        convolution=lambda dtype, n: _convolution(place, dtype, n),
        addition=lambda n: _run(place, "float32", "Add", (n,), 2),
        is_asynchronous=False), overheads)  # a session returns when its results are on the host


def _run(place: Place, dtype: str, op_type: str, shape: Shape, inputs: int) -> Run:
    """One operator over operands of one shape, which it keeps."""
    names = tuple(f"operand{slot}" for slot in range(inputs))
    nodes = (Node(0, "work", op_type, names, ("result",)),)
    return _kept(place, dtype, nodes, dict.fromkeys((*names, "result"), shape), names)


def _convolution(place: Place, dtype: str, images: int) -> Run:
    kernels: tuple[Shape, ...] = ((SLIM, WIDE, 1, 1), (SLIM, SLIM, 3, 3), (WIDE, SLIM, 1, 1))
    shapes: dict[str, Shape] = {"x": (images, WIDE, PIXELS, PIXELS)}
    nodes: list[Node] = []
    value = "x"
    for index, kernel in enumerate(kernels):
        weight, result = f"kernel{index}", "result" if index == 2 else f"y{index}"
        border = kernel[-1] // 2
        nodes.append(Node(
            index, result, "Conv", (value, weight), (result,), {"pads": (border,) * 4}))
        shapes |= {weight: kernel, result: (images, kernel[0], PIXELS, PIXELS)}
        value = result
    return _kept(place, dtype, tuple(nodes), shapes, ("x", "kernel0", "kernel1", "kernel2"))


def _kept(
    place: Place, dtype: str, nodes: tuple[Node, ...], shapes: dict[str, Shape],
    inputs: tuple[str, ...],
) -> Run:
    graph = Graph(
        opset=OPSET, nodes=nodes, inputs=inputs, parameters=(), outputs=("result",), constants={},
        types={name: TensorType(dtype, shape) for name, shape in shapes.items()})
    session = Session(graph, {}, place)
    random = np.random.default_rng(0)
    operands = {
        name: random.random(shapes[name], np.float32).astype(numpy_dtype(dtype))
        for name in inputs}
    return lambda: session.run(operands)
