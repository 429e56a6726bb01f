"""The workloads of `peer.executor.rates` in ONNX Runtime."""

from __future__ import annotations

import numpy as np

from dag.cluster import PeerRates
from ir.graph import Graph, Node, TensorType
from ir.operators import OPSET
from peer.executor.onnxruntime_executor.session import Place, Session
from peer.executor.rates import RateWorkloads, Run, measured_rates


def onnxruntime_rates(place: Place) -> PeerRates:
    """Measure float32 rates on a device, about 3 s in all."""
    return measured_rates(RateWorkloads(
        matmul=lambda n: _run(place, "MatMul", (n, n), 2),
        attention=lambda n: _run(place, "Attention", (1, 8, n, 64), 3),
        addition=lambda n: _run(place, "Add", (n,), 2)))


def _run(place: Place, op_type: str, shape: tuple[int, ...], inputs: int) -> Run:
    """One operator over operands of one shape, which it keeps."""
    names = tuple(f"operand{slot}" for slot in range(inputs))
    graph = Graph(
        opset=OPSET, nodes=(Node(0, "work", op_type, names, ("result",)),), inputs=names,
        parameters=(), outputs=("result",), constants={},
        types=dict.fromkeys((*names, "result"), TensorType("float32", shape)))
    session = Session(graph, {}, place)
    random = np.random.default_rng(0)
    operands = {name: random.random(shape, np.float32) for name in names}
    return lambda: session.run(operands)
