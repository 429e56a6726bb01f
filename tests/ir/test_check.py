from dataclasses import replace

import pytest

from homespun.errors import Code, HomespunError
from ir.check import check, problems
from ir.graph import INFER, Node, TensorType


def _nodes(graph, position, **changes):
    old = graph.nodes[position]
    fields = {name: getattr(old, name) for name in (
        "index", "name", "op_type", "inputs", "outputs", "attributes")}
    new = Node(**{**fields, **changes})
    return replace(graph, nodes=(*graph.nodes[:position], new, *graph.nodes[position + 1:]))


def test_a_good_graph_has_no_problems(mlp):
    assert problems(mlp) == ()
    check(mlp)


def test_an_unsupported_operator_is_named_with_node_and_opset(mlp):
    (problem,) = problems(_nodes(mlp, 1, op_type="NonMaxSuppression"))
    assert problem.code is Code.UNSUPPORTED_OP
    assert problem.node == 1
    for part in ("NonMaxSuppression", "'Relu_1'", "opset 23"):
        assert part in problem.message


def test_check_raises_the_first_and_counts_the_others(mlp):
    bad = _nodes(_nodes(mlp, 1, op_type="If"), 3, op_type="Loop")
    with pytest.raises(HomespunError, match="Operator If") as error:
        check(bad)
    assert error.value.code is Code.UNSUPPORTED_OP
    assert error.value.details == {"others": "1", "node": "1"}


@pytest.mark.parametrize(("index", "changes", "message"), [
    (0, {"inputs": ("x",)}, "it has 1 inputs; the operator takes 2 to 3"),
    (0, {"attributes": {"transC": 1}}, "attribute 'transC' is not one"),
    (1, {"inputs": ("v4",)}, "reads 'v4', which nothing before it produces"),
    (1, {"outputs": ("v0",)}, "produces 'v0', which exists already"),
    (1, {"outputs": ("x",)}, "produces 'x', which exists already"),
    (1, {"index": 5}, "index must be the position"),
    (1, {"op_type": "Not"}, "input 0 has dtype float32"),
])
def test_faults_of_a_node_are_named(mlp, index, changes, message):
    first = problems(_nodes(mlp, index, **changes))[0]
    assert first.code is Code.INVALID_GRAPH
    assert message in first.message
    assert mlp.nodes[index].name in first.message


def test_another_opset_is_refused(mlp):
    (problem,) = problems(replace(mlp, opset=17))
    assert "opset 17; expected 23 to 28" in problem.message


@pytest.mark.parametrize(("outputs", "message"), [
    ((), "no output"),
    (("v5",), "expected the loss, a scalar float"),
    (("ghost",), "Nothing produces the graph output 'ghost'"),
])
def test_the_loss_is_a_computed_scalar_float(mlp, outputs, message):
    assert any(message in problem.message for problem in problems(replace(mlp, outputs=outputs)))


def test_a_loss_that_is_an_input_is_refused(builder):
    graph = builder.build(builder.data("x"))
    assert "no node's result" in problems(graph)[0].message


def test_a_graph_to_run_needs_no_loss_but_results(mlp):
    assert problems(replace(mlp, outputs=("v5", "v6")), INFER) == ()
    for outputs, message in (
        ((), "no result"), (("x", "v5"), "'x' is no node's result"), (("v5", "v5"), "named twice"),
    ):
        found = [problem.message for problem in problems(replace(mlp, outputs=outputs), INFER)]
        assert any(message in text for text in found)


def test_a_result_must_be_storable(builder):
    b = builder
    graph = b.build(b.node("Cast", b.data("x", 3), to=17))
    output = graph.outputs[0]
    graph = replace(graph, types={**graph.types, output: TensorType("float8_e4m3fn", (3,))})
    assert "Cast it" in problems(graph, INFER)[0].message


def test_unused_nodes_and_columns_are_named(builder):
    b = builder
    x, _ = b.data("x", 3), b.data("extra", 3)
    b.node("Exp", x)
    found = problems(b.build(b.node("ReduceSum", x, keepdims=0)))
    assert [problem.message.split(" is unused")[0] for problem in found] == [
        "Node 0 'Exp_0' (Exp)", "Data input 'extra'"]


def test_wrong_types_and_limits_are_reported_as_problems(mlp, builder):
    types = {**mlp.types, "v1": TensorType("float64", (4, 8))}
    (problem,) = problems(replace(mlp, types=types))
    assert (problem.code, problem.node) == (Code.INVALID_GRAPH, None)
    types = {**mlp.types, "x": TensorType("float32", (2**40, 8))}
    (problem,) = problems(replace(mlp, types=types))
    assert problem.code is Code.LIMIT_EXCEEDED
    types = {**mlp.types, "x": TensorType("complex64", (4, 8))}
    assert "supported dtype" in problems(replace(mlp, types=types))[0].message


def test_names_are_given_once(mlp):
    twice = replace(mlp, inputs=(*mlp.inputs, "layers.0.weight"))
    assert "given twice" in problems(twice)[0].message
