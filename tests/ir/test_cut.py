"""Cuts by hand, and a property test: running segments one after another, with only what the
boundary tensors carry, equals running the whole graph, forward and backward, bit for bit."""

from __future__ import annotations

import random
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from homespun.errors import Code, HomespunError
from ir.cut import cut, quotient_edges, replicable, segment_graph
from ir.gradient import differentiable_values, gives_gradient
from ir.graph import INFER
from ir.segment import BoundaryKind


def _all(graph):
    return frozenset(graph.parameters)


# --- by hand -------------------------------------------------------------------------------------


def test_a_chain_in_two(mlp):
    first, second = cut(mlp, [range(4), range(4, 7)], _all(mlp))
    assert first.nodes == (0, 1, 2, 3)
    assert second.nodes == (4, 5, 6)
    assert first.parameters == mlp.parameters[:4]
    assert second.parameters == mlp.parameters[4:]
    assert (first.data_inputs, second.data_inputs) == (("x",), ("y",))
    assert (first.has_loss, second.has_loss) == (False, True)
    (tensor,) = first.outgoing
    assert second.incoming == (tensor,)
    assert (tensor.value, tensor.kind, tensor.source, tensor.target) == (
        "v3", BoundaryKind.ACTIVATION, 0, 1)
    assert (tensor.consumers, tensor.contributions, tensor.differentiable) == ((4,), 1, True)
    assert tensor.type == mlp.types["v3"]
    assert quotient_edges((first, second)) == ((0, 1),)


def test_one_part_is_the_whole_graph(mlp):
    (segment,) = cut(mlp, [range(7)], _all(mlp))
    assert segment.nodes == tuple(range(7))
    assert segment.parameters == mlp.parameters
    assert segment.incoming == segment.outgoing == ()


def test_nothing_before_a_trainable_parameter_returns_a_gradient(mlp):
    first, _ = cut(mlp, [range(4), range(4, 7)], frozenset({"layers.2.bias"}))
    assert [tensor.differentiable for tensor in first.outgoing] == [False]


@pytest.fixture
def tied(builder):
    """A table used first and last, a mask that both halves need, and a residual."""
    b = builder
    tokens = b.data("tokens", 2, 3, dtype="int64")
    table = b.parameter("table", 8, 4)
    b.parameter("unused", 5)
    embedded = b.node("Gather", table, tokens)                                             # 0
    mask = b.node("Cast", b.node("Greater", tokens, b.constant(0)), to=1)                  # 1, 2
    mask = b.node("Unsqueeze", mask, b.constant([2]))                                      # 3
    hidden = b.node("Mul", embedded, mask)                                                 # 4
    hidden = b.node("Dropout", hidden, b.constant(0.5, "float32"), b.constant(True, "bool"))  # 5
    turned = b.node("Transpose", table, perm=(1, 0))                                       # 6
    scores = b.node("MatMul", b.node("Mul", hidden, mask), turned)                         # 7, 8
    loss = b.node("ReduceMean", b.node("Exp", scores), keepdims=0)                         # 9, 10
    return b.build(loss)


def test_replicable_nodes_depend_on_data_and_constants_only(tied):
    assert replicable(tied) == {1, 2, 3}


def test_random_nodes_are_not_replicable(builder):
    b = builder
    noise = b.node("Dropout", b.data("x", 3))
    graph = b.build(b.node("ReduceSum", b.node("Exp", noise), keepdims=0))
    assert replicable(graph) == frozenset()


def test_masks_are_replicated_and_tied_weights_have_a_home(tied):
    first, second = cut(tied, [[0, 1, 4, 5], [6, 7, 8, 9, 10]], _all(tied))
    assert first.nodes == (0, 1, 2, 3, 4, 5)
    assert second.nodes == (1, 2, 3, 6, 7, 8, 9, 10)
    assert first.data_inputs == second.data_inputs == ("tokens",)
    assert (first.parameters, second.parameters) == (("table", "unused"), ())
    activation, parameter = second.incoming
    assert (activation.edge, activation.value) == (0, "v5")
    assert (parameter.edge, parameter.value) == (1, "table")
    assert (parameter.kind, parameter.source) == (BoundaryKind.PARAMETER, 0)
    assert (parameter.consumers, parameter.contributions) == ((6,), 1)


def test_a_replicable_node_needed_in_one_place_runs_there_only(tied):
    first, second = cut(tied, [[0, 1, 2, 3], [4, 5, 6, 7, 8, 9, 10]], _all(tied))
    assert first.nodes == (0,)
    assert {1, 2, 3} <= set(second.nodes)


def test_a_frozen_tied_weight_returns_no_gradient(tied):
    _, second = cut(tied, [[0], [4, 5, 6, 7, 8, 9, 10]], frozenset())
    assert all(not tensor.differentiable for tensor in second.incoming)


def test_outputs_of_replicable_nodes_have_one_owner(builder):
    b = builder
    x, w = b.data("x", 3), b.parameter("w", 3)
    metric = b.node("ReduceSum", x, keepdims=0)                        # 0, depends on data only
    loss = b.node("ReduceSum", b.node("Exp", b.node("Mul", x, w)))     # 1, 2, 3
    graph = b.build(loss, metric)
    unnamed = cut(graph, [[1], [2, 3]], _all(graph))
    assert [segment.nodes for segment in unnamed] == [(1,), (0, 2, 3)]
    named = cut(graph, [[0, 1], [2, 3]], _all(graph))
    assert [segment.nodes for segment in named] == [(0, 1), (2, 3)]
    assert segment_graph(graph, named[0]).outputs == (metric, "v1")
    assert segment_graph(graph, named[1]).outputs == (loss,)
    for segments, owner in ((unnamed, 1), (named, 0)):
        results = {s.index: [result.name for result in s.results] for s in segments}
        assert results == {owner: [metric], 1 - owner: []}


def test_to_infer_every_output_is_a_result_of_one_segment(builder):
    b = builder
    x, w = b.data("x", 3), b.parameter("w", 3)
    mask = b.node("Neg", x)                                            # 0, in both segments
    hidden = b.node("Mul", mask, w)                                    # 1
    graph = b.build(b.node("Add", hidden, mask), hidden, mask)         # 2
    first, second = cut(graph, [[1], [2]], frozenset(), INFER)
    assert (first.nodes, second.nodes) == ((0, 1), (0, 2))
    assert [(r.name, r.type) for r in first.results] == [(hidden, graph.types[hidden])]
    assert [r.name for r in second.results] == [graph.outputs[0], mask]
    assert not first.has_loss
    assert not second.has_loss
    assert segment_graph(graph, second).outputs == (graph.outputs[0], mask)


def test_a_loss_without_parameters_still_belongs_somewhere(builder):
    b = builder
    graph = b.build(b.node("ReduceSum", b.data("x", 3), keepdims=0))
    (segment,) = cut(graph, [[]], frozenset())
    assert segment.nodes == (0,)
    assert segment.has_loss


def _fan(builder, consumers):
    """`h = exp(w)`, then so many `Sin(h)`, then their sum."""
    b = builder
    hidden = b.node("Exp", b.parameter("w", 3))
    total = b.node("Sum", *[b.node("Sin", hidden) for _ in range(consumers)])
    return b.build(b.node("ReduceSum", total, keepdims=0))


@pytest.mark.parametrize(("parts", "expected"), [
    # One target whose consumers all come after the source's own: it may fold them.
    ([[0, 1], [2, 3, 4, 5, 6]], {1: ((2, 3, 4), 1)}),
    ([[0], [1, 2, 3, 4, 5, 6]], {1: ((1, 2, 3, 4), 1)}),
    # Two targets: the later folds, the earlier sends a slice per consumer.
    ([[0], [1, 2], [3, 4, 5, 6]], {1: ((1, 2), 2), 2: ((3, 4), 1)}),
    ([[0], [1, 2, 3], [4, 5, 6]], {1: ((1, 2, 3), 3), 2: ((4,), 1)}),
    # Interleaved: nobody has a suffix of the consumers, so both send slices.
    ([[0], [1, 4], [2, 3, 5, 6]], {1: ((1, 4), 2), 2: ((2, 3), 2)}),
    # The source's own consumer lies between the target's.
    ([[0, 2], [1, 3, 4, 5, 6]], {1: ((1, 3, 4), 3)}),
])
def test_contributions(builder, parts, expected):
    graph = _fan(builder, 4)
    segments = cut(graph, parts, _all(graph))
    found = {t.target: (t.consumers, t.contributions)
             for segment in segments for t in segment.outgoing if t.value == "v0"}
    assert found == expected


def test_readers_that_give_no_gradient_do_not_count(builder):
    b = builder
    hidden = b.node("Exp", b.parameter("w", 3))           # 0
    shape = b.node("Shape", hidden)                       # 1
    doubled = b.node("Add", hidden, hidden)               # 2
    spread = b.node("Expand", doubled, shape)             # 3
    graph = b.build(b.node("ReduceSum", spread, keepdims=0))
    shape_only, rest = cut(graph, [[0], [1], [2, 3, 4]], _all(graph))[1:]
    assert [(t.consumers, t.differentiable) for t in shape_only.incoming] == [((1,), False)]
    assert [(t.value, t.consumers, t.contributions, t.differentiable) for t in rest.incoming] == [
        ("v0", (2,), 1, True), ("v1", (3,), 1, False)]
    both = cut(graph, [[0], [1, 2, 3, 4]], _all(graph))[1]
    assert [(t.consumers, t.contributions) for t in both.incoming] == [((2,), 1)]


@pytest.mark.parametrize(("parts", "message"), [
    ([], "no parts"),
    ([[0, 1, 2, 3], [4, 5]], "1 nodes are in no part, first node 6 'SoftmaxCrossEntropyLoss_6'"),
    ([[0, 1, 2, 3], [3, 4, 5, 6]], "node 3 'Relu_3' is in part 0 and in part 1"),
    ([[0, 0, 1, 2, 3, 4, 5, 6]], "node 0 'Gemm_0' is in part 0 and in part 0"),
    ([[0, 1, 2, 3], [4, 5, 6, 7]], "part 1 names node 7, but the graph has nodes 0 to 6"),
    ([[-1, 0, 1, 2, 3, 4, 5, 6]], "part 0 names node -1"),
    ([[0, 1, 2, 3], [], [4, 5, 6]], "segment 1 would run nothing"),
    ([[4, 5, 6], [0, 1, 2, 3]], "not numbered in topological order: value 'v3'"),
    ([[0, 1, 4, 5], [2, 3, 6]], "depend on each other in a circle"),
])
def test_bad_parts_are_refused(mlp, parts, message):
    with pytest.raises(HomespunError) as error:
        cut(mlp, parts, _all(mlp))
    assert error.value.code is Code.INVALID_GRAPH
    assert message in error.value.message


def test_a_segment_as_a_graph(tied):
    _, second = cut(tied, [[0, 4, 5], [6, 7, 8, 9, 10]], _all(tied))
    part = segment_graph(tied, second)
    assert [node.index for node in part.nodes] == [1, 2, 3, 6, 7, 8, 9, 10]
    assert part.inputs == ("tokens", "v5")
    assert part.parameters == ("table",)
    assert part.outputs == ("v10",)
    assert set(part.constants) == {"c0", "c1"}
    produced = {name for node in part.nodes for name in node.outputs}
    assert set(part.types) == produced | {"tokens", "v5", "table", "c0", "c1"}


# --- property: segments compute what the graph computes ------------------------------------------

OPERATIONS = {
    "Add": lambda a, b: a + b,
    "Mul": lambda a, b: a * b,
    "Sub": lambda a, b: a - b,
    "Neg": lambda a: -a,
    "Sin": np.sin,
}
DERIVATIVES = {
    "Add": lambda g, a, b: (g, g),
    "Mul": lambda g, a, b: (g * b, g * a),
    "Sub": lambda g, a, b: (g, -g),
    "Neg": lambda g, a: (-g,),
    "Sin": lambda g, a: (g * np.cos(a),),
}


def _random_graph(rng, new_builder):
    """A random DAG over float32 vectors, whose last node is the (scalar) loss."""
    b = new_builder()
    values = [b.data(f"x{k}", 3) for k in range(rng.randint(1, 2))]
    values += [b.parameter(f"w{k}", 3) for k in range(rng.randint(1, 3))]
    values.append(b.constant(np.arange(3), "float32"))
    for _ in range(rng.randint(1, 14)):
        op_type = rng.choice(sorted(OPERATIONS))
        count = 1 if op_type in ("Neg", "Sin") else 2
        values.append(b.node(op_type, *rng.choices(values[-6:] + values[:3], k=count)))
    ends = values[-3:]
    return b.build(b.node("ReduceSum", b.node("Sum", *ends), keepdims=0))


def _run(node, inputs):
    if node.op_type == "Sum":
        return sum(inputs[1:], inputs[0])
    if node.op_type == "ReduceSum":
        return inputs[0].sum()
    return OPERATIONS[node.op_type](*inputs)


def _pull(node, gradient, inputs):
    if node.op_type == "Sum":
        return tuple(gradient for _ in inputs)
    if node.op_type == "ReduceSum":
        return (np.broadcast_to(gradient, inputs[0].shape),)
    return DERIVATIVES[node.op_type](gradient, *inputs)


def _forward(nodes, values):
    for node in nodes:
        values[node.outputs[0]] = _run(node, [values[name] for name in node.inputs])


class Fold:
    """Gradient of one value: consumers' parts, added in descending consumer index."""

    def __init__(self):
        self.parts = {}

    def total(self):
        result = None
        for index in sorted(self.parts, reverse=True):
            part = self.parts[index]
            result = part if result is None else result + part
        return result


def _backward(graph, nodes, values, differentiable, gradients):
    """Reverse sweep; `gradients` maps a value to its `Fold` and is filled."""
    for node in reversed(nodes):
        gradient = gradients[node.outputs[0]].total() if node.outputs[0] in gradients else None
        if gradient is None:
            continue
        pulled = _pull(node, gradient, [values[name] for name in node.inputs])
        for name in dict.fromkeys(node.inputs):
            if gives_gradient(graph, node, name, differentiable):
                mine = [p for other, p in zip(node.inputs, pulled, strict=True) if other == name]
                gradients.setdefault(name, Fold()).parts[node.index] = sum(mine[1:], mine[0])


def _whole(graph, sources, differentiable):
    values = dict(sources)
    _forward(graph.nodes, values)
    seed = Fold()
    seed.parts[10**9] = np.float32(1)
    gradients = {graph.outputs[0]: seed}
    _backward(graph, graph.nodes, values, differentiable, gradients)
    return values, gradients


def _frame(tensor, fold):
    """The gradient frame of a boundary tensor, from the target's fold."""
    if tensor.contributions == 1:
        return fold.total()
    return np.stack([fold.parts[index] for index in reversed(tensor.consumers)])


def _receive(tensor, frame, fold):
    if tensor.contributions == 1:
        fold.parts[max(tensor.consumers)] = frame
    else:
        for index, part in zip(reversed(tensor.consumers), frame, strict=True):
            fold.parts[index] = part


def _in_segments(graph, segments, sources, differentiable):
    """Run segments one after another with nothing but what their boundary tensors carry."""
    sent, memories, frames, totals = {}, [], {}, {}
    for segment in segments:
        part = segment_graph(graph, segment)
        values = {name: sources[name] for name in (*segment.data_inputs, *segment.parameters,
                                                   *part.constants)}
        for tensor in segment.incoming:
            values[tensor.value] = (
                sent[tensor.edge] if tensor.kind is BoundaryKind.ACTIVATION
                else sources[tensor.value])
        _forward(part.nodes, values)
        memories.append(values)
        for tensor in segment.outgoing:
            sent[tensor.edge] = values[tensor.value]
    for segment, values in reversed(list(zip(segments, memories, strict=True))):
        gradients = {}
        if segment.has_loss:
            gradients[graph.outputs[0]] = Fold()
            gradients[graph.outputs[0]].parts[10**9] = np.float32(1)
        for tensor in segment.outgoing:
            if tensor.differentiable:
                _receive(tensor, frames[tensor.edge], gradients.setdefault(tensor.value, Fold()))
        nodes = [graph.nodes[index] for index in segment.nodes]
        _backward(graph, nodes, values, differentiable, gradients)
        for tensor in segment.incoming:
            if tensor.differentiable:
                frames[tensor.edge] = _frame(tensor, gradients[tensor.value])
        totals.update({name: gradients[name].total() for name in segment.parameters
                       if name in gradients})
    return memories, totals


def _random_parts(rng, graph):
    free = replicable(graph)
    bound = [node.index for node in graph.nodes if node.index not in free]
    count = min(len(bound), rng.randint(1, 5))
    cuts = sorted(rng.sample(range(1, len(bound)), count - 1)) if count > 1 else []
    parts = [bound[a:b] for a, b in pairwise([0, *cuts, len(bound)])]
    for index in free:
        for part in parts:
            if rng.random() < 0.3:
                part.append(index)
    return parts


@settings(max_examples=400, deadline=None, derandomize=True)
@given(st.integers(0, 2**32))
def test_segments_compute_what_the_graph_computes(new_builder, seed):
    rng = random.Random(seed)
    graph = _random_graph(rng, new_builder)
    if len(replicable(graph)) == len(graph.nodes):
        return
    trainable = frozenset(rng.sample(graph.parameters, rng.randint(0, len(graph.parameters))))
    parts = _random_parts(rng, graph)
    segments = cut(graph, parts, trainable)
    assert segments == cut(graph, parts, trainable)

    needed, stack = set(), list(graph.outputs)
    producer = {node.outputs[0]: node for node in graph.nodes}
    while stack:
        node = producer.get(stack.pop())
        if node is not None and node.index not in needed:
            needed.add(node.index)
            stack.extend(node.inputs)
    covered = {index for segment in segments for index in segment.nodes}
    assert needed <= covered
    homes = [name for segment in segments for name in segment.parameters]
    assert sorted(homes) == sorted(graph.parameters)
    edges = [tensor.edge for segment in segments for tensor in segment.outgoing]
    assert sorted(edges) == list(range(len(edges)))
    assert sum(segment.has_loss for segment in segments) == 1
    assert all(source < target for source, target in quotient_edges(segments))

    data = np.random.default_rng(seed)
    sources = {name: data.standard_normal(3).astype(np.float32)
               for name in (*graph.inputs, *graph.parameters)} | dict(graph.constants)
    differentiable = differentiable_values(graph, trainable)
    values, gradients = _whole(graph, sources, differentiable)
    memories, totals = _in_segments(graph, segments, sources, differentiable)
    for segment, memory in zip(segments, memories, strict=True):
        for index in segment.nodes:
            name = graph.nodes[index].outputs[0]
            np.testing.assert_array_equal(memory[name], values[name])
    for name in trainable & differentiable:
        np.testing.assert_array_equal(totals[name], gradients[name].total())


def test_an_exported_transformer_in_four():
    import torch

    from examples.transformer import Transformer, language_loss
    from ir.frontends.torch_module import import_module

    torch.manual_seed(0)
    model = Transformer(layers=4, width=16, heads=2, hidden=24, context=8)
    sample = {"tokens": torch.zeros(2, 9, dtype=torch.int64)}
    graph = import_module(model, language_loss, sample).graph
    count = len(graph.nodes)
    bounds = [0, count // 4, count // 2, 3 * count // 4, count]
    segments = cut(graph, [range(a, b) for a, b in pairwise(bounds)], _all(graph))
    assert [segment.has_loss for segment in segments] == [False, False, False, True]
    assert sorted(n for s in segments for n in s.parameters) == sorted(graph.parameters)
    # The slices of the token column run in the segments that read them; nothing of it is sent.
    free = replicable(graph)
    made = {name for index in free for name in graph.nodes[index].outputs}
    assert made
    tensors = [tensor for segment in segments for tensor in segment.outgoing]
    assert not made & {tensor.value for tensor in tensors}
    (tied,) = [t for t in tensors if t.kind is BoundaryKind.PARAMETER]
    assert (tied.value, tied.source, tied.target) == ("embed.weight", 0, 3)
    for segment in segments:
        part = segment_graph(graph, segment)
        available = {*part.inputs, *part.parameters, *part.constants, ""}
        for node in part.nodes:
            assert set(node.inputs) <= available
            available.update(node.outputs)
        assert set(part.outputs) <= available
