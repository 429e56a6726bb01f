"""What a node costs: floating-point operations and bytes moved. Memory is in `ir.memory`.

Counts depend on shapes only, so the cost of a job is known before it runs. A multiplication and an
addition count as two operations. Element-wise work is priced in bytes (its speed is the memory's),
its FLOPs are an order of magnitude. Figures are for one microbatch, as the graph was exported.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from math import prod

from ir.gradient import gradient_inputs
from ir.graph import Graph, Node
from ir.operators import OPERATORS, OpClass
from ir.shapes.einsum import parse_einsum


@dataclass(frozen=True, slots=True)
class NodeCost:
    """Cost of running one node once.

    Attributes:
        op_class: which of a peer's measured speeds applies.
        flops: floating-point operations, >= 0.
        read_bytes: bytes of the inputs, each counted once.
        written_bytes: bytes of the outputs.
    """

    op_class: OpClass
    flops: int
    read_bytes: int
    written_bytes: int


VIEWS = frozenset({
    "Identity", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose", "Expand", "Slice",
    "Split"})
"""Operators whose outputs share their input's memory: they move nothing themselves."""

def node_cost(graph: Graph, node: Node) -> NodeCost:
    """Cost of running `node` forward once.

    Args:
        graph: the graph of the node; gives the types.
        node: an operator of the closed list.

    Raises:
        KeyError: if the operator is not in the list or a value has no type; `ir.check` proves that
            neither happens.
    """
    op_class = OPERATORS[node.op_type].op_class
    if op_class is OpClass.HOST or node.op_type in VIEWS:
        return NodeCost(op_class, 0, 0, 0)
    flops = _FLOPS.get(node.op_type, _elementwise_flops)(graph, node)
    return NodeCost(op_class, flops, _read_bytes(graph, node), _bytes(graph, set(node.outputs)))


def backward_cost(graph: Graph, node: Node, differentiable: frozenset[str]) -> NodeCost:
    """Cost of differentiating `node` once.

    Matrix products and convolutions run one product of the forward's size per input that wants a
    gradient (two where both operands do: the usual "backward is twice forward"). Attention that
    recomputes its scores runs five products where forward ran two (Dao et al. 2022,
    arXiv:2205.14135, section 3.1). Element-wise work reads the gradient and what was kept and
    writes one gradient per input. Nothing is charged where no gradient flows.

    Args:
        graph: the graph of the node.
        node: an operator of the closed list.
        differentiable: the result of `ir.gradient.differentiable_values`.
    """
    forward = node_cost(graph, node)
    wanted = [name for name in gradient_inputs(graph, node) if name in differentiable]
    if not wanted or not any(name in differentiable for name in node.outputs):
        return NodeCost(forward.op_class, 0, 0, 0)
    factor = 1.0 * len(wanted)
    if forward.op_class is OpClass.ATTENTION:
        factor = 2.5
    elif node.op_type in ("Gemm", "Conv", "ConvTranspose"):
        factor = 1.0 * len([name for name in wanted if name in node.inputs[:2]])
    return NodeCost(
        forward.op_class, int(factor * forward.flops),
        forward.read_bytes + forward.written_bytes if forward.written_bytes else 0,
        _bytes(graph, set(wanted)) if forward.written_bytes else 0)


def parameter_bytes(graph: Graph, names: Iterable[str]) -> int:
    """Bytes of the named parameters."""
    return sum(graph.types[name].size_bytes for name in names)


def _bytes(graph: Graph, names: Iterable[str]) -> int:
    return sum(graph.types[name].size_bytes for name in names if name)


def _read_bytes(graph: Graph, node: Node) -> int:
    """Bytes read: a lookup reads the rows it returns, not the whole table."""
    names = list(dict.fromkeys(node.inputs))
    if node.op_type in ("Gather", "GatherElements", "GatherND"):
        return _bytes(graph, names[1:]) + _bytes(graph, node.outputs)
    return _bytes(graph, names)


# --- floating-point operations -------------------------------------------------------------------


def _matmul_flops(graph: Graph, node: Node) -> int:
    """2 * batch * M * N * K (Golub & Van Loan, Matrix Computations, section 1.1.11)."""
    contracted = graph.types[node.inputs[0]].shape[-1]
    return 2 * graph.types[node.outputs[0]].elements * contracted


def _gemm_flops(graph: Graph, node: Node) -> int:
    """2 * M * N * K; the addition of C is lower order and left out."""
    rows = graph.types[node.inputs[0]].shape
    contracted = rows[0] if node.attributes.get("transA", 0) else rows[1]
    return 2 * graph.types[node.outputs[0]].elements * contracted


def _einsum_flops(graph: Graph, node: Node) -> int:
    """One multiply-add per operand pair and point of the index space; exact for two operands."""
    shapes = [graph.types[name].shape for name in node.inputs]
    extents = parse_einsum(str(node.attributes["equation"]), shapes).extents
    return 2 * max(1, len(shapes) - 1) * prod(extents.values())


def _conv_flops(graph: Graph, node: Node) -> int:
    """2 * N * C_out * prod(output pixels) * (C_in / group) * prod(kernel).

    Dumoulin & Visin 2016 (arXiv:1603.07285), section 2: each output element is one dot product of
    that length. The weight's shape is (C_out, C_in / group, *kernel).
    """
    return 2 * graph.types[node.outputs[0]].elements * prod(graph.types[node.inputs[1]].shape[1:])


def _conv_transpose_flops(graph: Graph, node: Node) -> int:
    """Each input element is spread by one kernel: weight is (C_in, C_out / group, *kernel)."""
    return 2 * graph.types[node.inputs[0]].elements * prod(graph.types[node.inputs[1]].shape[1:])


def _attention_flops(graph: Graph, node: Node) -> int:
    """Two products, Q K^T and P V: 2 * B * H * S_q * S_k * (D_qk + D_v).

    Dao et al. 2022 (arXiv:2205.14135), section 2.2. Causal masking is not credited: executors
    without a fused kernel compute the masked half too.
    """
    query, key, value = (graph.types[name].shape for name in node.inputs[:3])
    past = 0
    if len(node.inputs) > 4 and node.inputs[4]:
        past = graph.types[node.inputs[4]].shape[2]
    if len(query) == 4:
        rows = prod(query[:3])
        return 2 * rows * (key[2] + past) * (query[3] + value[3])
    heads, shared = _integer(node, "q_num_heads"), _integer(node, "kv_num_heads")
    depth = query[2] // heads + value[2] // shared
    return 2 * query[0] * heads * query[1] * (key[1] + past) * depth


def _q_linear_conv_flops(graph: Graph, node: Node) -> int:
    """As a convolution; the weight is input 3."""
    return 2 * graph.types[node.outputs[0]].elements * prod(graph.types[node.inputs[3]].shape[1:])


def _cell_flops(graph: Graph, node: Node) -> int:
    """2 * time * batch * (weights of the input and of the state), as in any matrix product.

    Both weights are read once per step and sample (Hochreiter & Schmidhuber 1997; ONNX operator
    reference, LSTM); the gates themselves are lower order.
    """
    weights = sum(graph.types[name].elements for name in node.inputs[1:3])
    return 2 * prod(graph.types[node.inputs[0]].shape[:2]) * weights


def _elementwise_flops(graph: Graph, node: Node) -> int:
    """Passes over the larger of input and output; an order of magnitude, not a count."""
    elements = max(
        (graph.types[name].elements for name in (*node.inputs, *node.outputs) if name), default=0)
    return _PASSES.get(node.op_type, 1) * elements


def _no_flops(graph: Graph, node: Node) -> int:
    return 0


def _integer(node: Node, name: str) -> int:
    value = node.attributes[name]
    assert isinstance(value, int)
    return value


_PASSES: Mapping[str, int] = {
    "Softmax": 5, "LogSoftmax": 5, "LayerNormalization": 8, "RMSNormalization": 5,
    "BatchNormalization": 8, "GroupNormalization": 8, "InstanceNormalization": 8,
    "SoftmaxCrossEntropyLoss": 6, "Gelu": 8,
    "Erf": 8, "RotaryEmbedding": 3, "Sigmoid": 4, "Tanh": 4, "Mish": 8, "Softplus": 4, "Dropout": 2,
}
"""Rough operations per element where it is far from one."""

_COPIES = (
    "Concat", "Gather", "GatherElements", "GatherND", "Pad", "Tile", "Cast", "CastLike",
    "ConstantOfShape", "DepthToSpace", "SpaceToDepth", "OneHot", "Trilu", "Range")

_FLOPS: Mapping[str, Callable[[Graph, Node], int]] = {
    "MatMul": _matmul_flops,
    "Gemm": _gemm_flops,
    "Einsum": _einsum_flops,
    "Conv": _conv_flops,
    "ConvTranspose": _conv_transpose_flops,
    "Attention": _attention_flops,
    **dict.fromkeys(("MatMulInteger", "QLinearMatMul"), _matmul_flops),
    **dict.fromkeys(("ConvInteger", "DeformConv"), _conv_flops),
    "QLinearConv": _q_linear_conv_flops,
    **dict.fromkeys(("GRU", "LSTM", "RNN"), _cell_flops),
    **dict.fromkeys(_COPIES, _no_flops),
}
