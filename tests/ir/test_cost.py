"""Costs against PyTorch's FLOP counter, and against sums done by hand."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from examples.transformer import Transformer, language_loss
from ir.check import problems
from ir.cost import backward_cost, node_cost, parameter_bytes
from ir.frontends.torch_module import import_module
from ir.gradient import differentiable_values
from ir.graph import Graph, Node, TensorType
from ir.memory import saved_bytes
from ir.operators import OpClass

HEAVY = {OpClass.MATMUL, OpClass.ATTENTION, OpClass.CONVOLUTION}


class SmallCnn(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, padding=1, stride=2)
        self.second = nn.Conv2d(8, 16, 3, dilation=2)
        self.up = nn.ConvTranspose2d(16, 4, 2, stride=2)
        self.norm = nn.GroupNorm(2, 8)
        self.head = nn.Linear(4, 10)

    def forward(self, pixels):
        hidden = torch.relu(self.norm(self.first(pixels)))
        hidden = self.up(torch.nn.functional.gelu(self.second(hidden)))
        return self.head(hidden.mean((2, 3)))


@pytest.fixture(scope="module")
def transformer():
    torch.manual_seed(0)
    model = Transformer(layers=2, width=64, heads=4, hidden=128, context=32)
    sample = {"tokens": torch.zeros(4, 33, dtype=torch.int64)}
    return import_module(model, language_loss, sample), lambda: language_loss(model, sample)


@pytest.fixture(scope="module")
def cnn():
    torch.manual_seed(0)
    model, loss = SmallCnn(), nn.CrossEntropyLoss()
    sample = {"pixels": torch.zeros(2, 3, 32, 32), "label": torch.zeros(2, dtype=torch.int64)}
    imported = import_module(model, loss, sample)
    return imported, lambda: loss(model(sample["pixels"]), sample["label"])


def _measured(run):
    # The counter knows no fused attention on CPUs; the products of the plain form it counts.
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as forward:
        loss = run()
    with FlopCounterMode(display=False) as backward:
        loss.backward()
    return forward.get_total_flops(), backward.get_total_flops()


def _heavy(costs):
    return sum(cost.flops for cost in costs if cost.op_class in HEAVY)


@pytest.mark.parametrize("model", ["transformer", "cnn"])
def test_flops_agree_with_pytorch_within_5_percent(model, request):
    imported, run = request.getfixturevalue(model)
    graph = imported.graph
    assert problems(graph) == ()
    trainable = frozenset(entry.name for entry in imported.parameters if entry.trainable)
    differentiable = differentiable_values(graph, trainable)
    forward = _heavy(node_cost(graph, node) for node in graph.nodes)
    backward = _heavy(backward_cost(graph, node, differentiable) for node in graph.nodes)
    expected_forward, expected_backward = _measured(run)
    assert forward == pytest.approx(expected_forward, rel=0.05)
    assert backward == pytest.approx(expected_backward, rel=0.05)


def test_everything_is_counted_and_nothing_is_negative(transformer):
    graph = transformer[0].graph
    differentiable = differentiable_values(graph, frozenset(graph.parameters))
    for node in graph.nodes:
        for cost in (node_cost(graph, node), backward_cost(graph, node, differentiable)):
            assert min(cost.flops, cost.read_bytes, cost.written_bytes) >= 0
    assert len(saved_bytes(graph, differentiable)) == len(graph.nodes)


def _only(builder, *outputs):
    graph = builder.build(*outputs)
    return graph, graph.nodes[-1]


@pytest.mark.parametrize(("op_type", "shapes", "attributes", "flops"), [
    ("MatMul", [(2, 3, 4), (4, 5)], {}, 2 * 2 * 3 * 4 * 5),
    ("MatMul", [(4,), (4, 5)], {}, 2 * 4 * 5),
    ("Gemm", [(4, 3), (4, 5)], {"transA": 1}, 2 * 3 * 4 * 5),
    ("Einsum", [(2, 3, 4), (2, 4, 5)], {"equation": "bij,bjk->bik"}, 2 * 2 * 3 * 4 * 5),
    ("Conv", [(2, 3, 8), (4, 3, 3)], {}, 2 * 2 * 4 * 6 * 3 * 3),
    ("Conv", [(2, 4, 8), (6, 2, 3)], {"group": 2}, 2 * 2 * 6 * 6 * 2 * 3),
    ("ConvTranspose", [(2, 3, 8), (3, 4, 2)], {"strides": (2,)}, 2 * 2 * 3 * 8 * 4 * 2),
    ("Attention", [(2, 4, 8, 16), (2, 2, 6, 16), (2, 2, 6, 12)], {},
     2 * 2 * 4 * 8 * 6 * (16 + 12)),
    ("Attention", [(2, 8, 64), (2, 6, 32), (2, 6, 24)], {"q_num_heads": 4, "kv_num_heads": 2},
     2 * 2 * 4 * 8 * 6 * (16 + 12)),
])
def test_formulas_by_hand(builder, op_type, shapes, attributes, flops):
    inputs = [builder.parameter(f"p{k}", *shape) for k, shape in enumerate(shapes)]
    graph, node = _only(builder, builder.node(op_type, *inputs, **attributes))
    cost = node_cost(graph, node)
    assert cost.flops == flops
    assert cost.read_bytes == sum(graph.types[name].size_bytes for name in inputs)
    assert cost.written_bytes == graph.types[node.outputs[0]].size_bytes


def test_views_and_host_work_are_free(builder):
    b = builder
    x = b.parameter("x", 4, 6)
    shape = b.node("Shape", x)
    turned = b.node("Transpose", b.node("Reshape", x, b.constant([6, 4])))
    graph = b.build(shape, turned)
    for node in graph.nodes:
        cost = node_cost(graph, node)
        assert (cost.flops, cost.read_bytes, cost.written_bytes) == (0, 0, 0)


def test_a_lookup_reads_rows_not_the_table(builder):
    b = builder
    table = b.parameter("table", 1000, 8)
    graph, node = _only(b, b.node("Gather", table, b.data("ids", 3, dtype="int64")))
    cost = node_cost(graph, node)
    assert (cost.read_bytes, cost.written_bytes) == (3 * 8 + 3 * 8 * 4, 3 * 8 * 4)


def test_backward_costs_one_product_per_wanted_gradient(mlp):
    everything = differentiable_values(mlp, frozenset(mlp.parameters))
    first, second = mlp.nodes[0], mlp.nodes[2]
    forward = node_cost(mlp, first).flops
    assert backward_cost(mlp, first, everything).flops == forward  # the data wants none
    assert backward_cost(mlp, second, everything).flops == 2 * forward
    assert backward_cost(mlp, second, frozenset()).flops == 0


def test_saved_bytes_of_the_perceptron_by_hand(mlp):
    everything = differentiable_values(mlp, frozenset(mlp.parameters))
    activation = 4 * 8 * 4
    # Gemm needs its input and Relu its output: the same tensors, kept once. The data is there
    # anyway; the last Relu feeds the loss, which keeps log-probabilities of the same size.
    assert saved_bytes(mlp, everything) == (
        0, activation, 0, activation, 0, activation, activation)
    assert saved_bytes(mlp, frozenset()) == (0,) * 7


def test_a_view_keeps_its_base_alive_and_a_copy_itself(builder):
    b = builder
    hidden = b.node("Exp", b.parameter("w", 4, 6))
    view = b.node("Reshape", hidden, b.constant([6, 4]))
    copy = b.node("Reshape", b.node("Transpose", hidden), b.constant([4, 6]))
    other = b.node("Log", view)
    loss = b.node("ReduceSum", b.node("Add", other, b.node("Reshape", b.node("Sin", copy),
                                                         b.constant([6, 4]))), keepdims=0)
    graph = b.build(loss)
    saved = saved_bytes(graph, differentiable_values(graph, frozenset({"w"})))
    by_type = {(node.op_type, node.index): size for node, size in
               zip(graph.nodes, saved, strict=True) if size}
    assert by_type == {("Exp", 0): 96, ("Reshape", 3): 96}


def test_parameter_bytes(mlp):
    assert parameter_bytes(mlp, mlp.parameters) == 3 * (64 + 8) * 4
    assert parameter_bytes(mlp, ()) == 0


def test_a_recurrent_cell_costs_its_products():
    types = {"x": TensorType("float32", (5, 2, 3)), "w": TensorType("float32", (1, 16, 3)),
             "r": TensorType("float32", (1, 16, 4)), "y": TensorType("float32", (5, 1, 2, 4))}
    node = Node(0, "cell", "LSTM", ("x", "w", "r"), ("y",), {"hidden_size": 4})
    graph = Graph(opset=23, nodes=(node,), inputs=("x",), parameters=("w", "r"), outputs=("y",),
                  constants={}, types=types)
    assert node_cost(graph, node).flops == 2 * 5 * 2 * (16 * 3 + 16 * 4)
