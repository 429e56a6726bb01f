"""Control flow and functions at import: decided, computed both ways, unrolled, or refused."""

from __future__ import annotations

import importlib

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper, parser
from onnx.backend.test.case import node
from onnx.reference import ReferenceEvaluator

from homespun.errors import Code, HomespunError
from ir.frontends import flatten as flatten_module
from ir.frontends.symbolic import prepare
from ir.graph import Graph
from ir.serde import dump

X = np.linspace(-1, 1, 6, dtype=np.float32).reshape(2, 3)


def model(text: str) -> onnx.ModelProto:
    """A model in ONNX's text form."""
    return parser.parse_model(f'<ir_version: 10, opset_import: ["" : 21, "own" : 1]>\n{text}')


def run(graph: Graph, **feeds: np.ndarray) -> list[np.ndarray]:
    return ReferenceEvaluator(dump(graph)).run(None, feeds)


def types_of(graph: Graph) -> set[str]:
    return {node.op_type for node in graph.nodes}


def refusal(text: str, **options: object) -> HomespunError:
    with pytest.raises(HomespunError) as caught:
        prepare(model(text), **options)
    return caught.value


BY_RANK = """
main (float[2, 3] x) => (float[r, c] y)
{
  shape = Shape(x)
  index = Constant<value = int64 {0}>()
  rows = Gather(shape, index)
  two = Constant<value = int64 {2}>()
  even = Equal(rows, two)
  [choose] y = If(even) <
    then_branch = yes () => (float[r, c] a) { a = Neg(x) },
    else_branch = no () => (float[r, c] b) { b = Exp(x) }
  >
}"""


def test_a_condition_on_shapes_is_decided():
    graph = prepare(model(BY_RANK))
    assert types_of(graph) == {"Neg"}
    assert np.array_equal(run(graph, x=X)[0], -X)
    assert types_of(prepare(model(BY_RANK), {"x": (3, 3)})) == {"Exp"}


BY_DATA = """
main (float[2, 3] x, bool[1] flag) => (float[2, 3] y)
{
  [choose] y = If(flag) <
    then_branch = yes () => (float[2, 3] a) { a = THEN(x) },
    else_branch = no () => (float[2, 3] b) { b = Abs(x) }
  >
}"""


@pytest.mark.parametrize("flag", [True, False])
def test_a_condition_on_data_chooses_between_both(flag: bool):
    graph = prepare(model(BY_DATA.replace("THEN", "Neg")))
    assert "Where" in types_of(graph)
    expected = -X if flag else np.abs(X)
    assert np.array_equal(run(graph, x=X, flag=np.array([flag]))[0], expected)


@pytest.mark.parametrize("flag", [True, False])
def test_a_known_input_decides(flag: bool):
    known = prepare(model(BY_DATA.replace("THEN", "Neg")), known={"flag": np.array([flag])})
    assert types_of(known) == ({"Neg"} if flag else {"Abs"})
    assert known.inputs == ("x",)


@pytest.mark.parametrize(("then", "words"), [
    ("Flatten<axis = 0>", r"'choose'.*float32 \[1, 6\].*float32 \[2, 3\].*Where"),
    ("RandomNormalLike", "'choose'.*draws random numbers.*RandomNormalLike"),
])
def test_branches_that_cannot_both_be_computed_are_refused(then: str, words: str):
    error = refusal(BY_DATA.replace("THEN", then))
    assert error.code == Code.UNSUPPORTED_OP
    assert error.details["node"] == "choose"
    with pytest.raises(HomespunError, match=words):
        raise error


LOOP = """
main (float[2, 3] x, int64 trips) => (float[2, 3] last, float[n, 2, 3] all)
{
  go = Constant<value = bool {1}>()
  factor = Constant<value = float {2.0}>()
  [repeat] last, all = Loop(trips, go, x) <
    body = step (int64 i, bool c, float[2, 3] v) => (bool more, float[2, 3] next, float[2, 3] row)
    {
      more = Identity(c)
      number = Cast<to = 1>(i)
      scaled = Mul(v, factor)
      next = Add(scaled, number)
      row = Sub(next, x)
    }
  >
}"""


@pytest.mark.parametrize("trips", [0, 1, 4])
def test_a_loop_of_known_length_is_unrolled(trips: int):
    graph = prepare(model(LOOP), known={"trips": np.array(trips)})
    value, rows = X, []
    for i in range(trips):
        value = value * 2 + np.float32(i)
        rows.append(value - X)
    last, collected = run(graph, x=X)
    np.testing.assert_allclose(last, value, rtol=1e-6)
    assert collected.shape == (trips, 2, 3)
    if rows:
        np.testing.assert_allclose(collected, np.stack(rows), rtol=1e-6)
        assert any(node.name.startswith("repeat/0/") for node in graph.nodes)


def test_a_loop_whose_length_is_data_is_refused():
    error = refusal(LOOP)
    assert error.code == Code.UNSUPPORTED_OP
    for part in ("Node 'repeat' (Loop)", "trip count depends on data", "constant trip count"):
        assert part in error.message


WHILE = """
main (float[2, 3] x) => (float[2, 3] y)
{
  none = Constant<value = int64 {9223372036854775807}>()
  go = Constant<value = bool {1}>()
  start = Constant<value = int64 {0}>()
  [while] y, n = Loop(none, go, x, start) <
    body = step (int64 i, bool c, float[2, 3] v, int64 k)
        => (bool more, float[2, 3] next, int64 up)
    {
      one = Constant<value = int64 {1}>()
      up = Add(k, one)
      limit = Constant<value = int64 {LIMIT}>()
      more = CONDITION
      next = Mul(v, x)
    }
  >
}"""


def test_a_condition_that_counts_ends_a_loop():
    text = WHILE.replace("LIMIT", "3").replace("CONDITION", "Less(up, limit)")
    np.testing.assert_allclose(run(prepare(model(text)), x=X)[0], X**4, rtol=1e-6)


def test_a_loop_that_data_ends_is_refused():
    text = WHILE.replace("LIMIT", "3").replace(
        "more = CONDITION", "sum = ReduceSum<keepdims = 0>(v)\n      more = Cast<to = 9>(sum)")
    assert "its condition depends on data (iteration 1)" in refusal(text).message


def test_a_loop_without_end_is_refused(monkeypatch: pytest.MonkeyPatch):
    endless = WHILE.replace("LIMIT", "3").replace("CONDITION", "Identity(c)")
    monkeypatch.setattr(flatten_module, "UNROLLED_NODES", 500)
    error = refusal(endless)
    assert error.code == Code.LIMIT_EXCEEDED
    assert "'while/" in error.message
    assert "500" in error.message


NESTED = """
main (float[4, 3] x, float[3] start) => (float[3] last, float[4, 3] sums)
{
  [outer] last, sums = Scan<num_scan_inputs = 1,
    body = row (float[3] total, float[3] item) => (float[3] next, float[3] out)
    {
      two = Constant<value = int64 {2}>()
      go = Constant<value = bool {1}>()
      [inner] twice = Loop(two, go, item) <
        body = step (int64 i, bool c, float[3] v) => (bool more, float[3] w)
        { more = Identity(c)  w = Add(v, start) }
      >
      next = Add(total, twice)
      out = Identity(next)
    }
  >(start, x)
}"""


def test_loops_inside_scans_capture_outer_values():
    x = np.arange(12, dtype=np.float32).reshape(4, 3)
    start = np.array([1, 2, 3], np.float32)
    expected = start + np.cumsum(x + 2 * start, 0)
    last, sums = run(prepare(model(NESTED)), x=x, start=start)
    np.testing.assert_allclose(sums, expected)
    np.testing.assert_allclose(last, expected[-1])


FUNCTIONS = """
main (float[2, 3] x) => (float[2, 3] y)
{
  a = own.scaled<by = 3.0>(x)
  y = own.twice(a)
}
<domain: "own", opset_import: ["" : 21, "own" : 1]>
scaled<by>(v) => (w) { f = Constant<value_float: float = @by>()  w = Mul(v, f) }
<domain: "own", opset_import: ["" : 21, "own" : 1]>
twice(v) => (w) { a = own.scaled<by = 2.0>(v)  w = Identity(a) }
"""


def test_local_functions_are_inlined_with_their_attributes():
    graph = prepare(model(FUNCTIONS))
    assert types_of(graph) == {"Mul"}
    np.testing.assert_allclose(run(graph, x=X)[0], 6 * X, rtol=1e-6)


def test_functions_that_call_each_other_without_end_are_refused():
    endless = FUNCTIONS.replace("a = own.scaled<by = 2.0>(v)  w = Identity(a)", "w = own.twice(v)")
    error = refusal(endless)
    assert error.code == Code.LIMIT_EXCEEDED
    assert "functions" in error.message


def test_operators_that_the_standard_defines_by_others_are_expanded():
    graph = prepare(model("main (float[2, 3] x) => (float[2, 3] y) "
                          "{ y = MeanVarianceNormalization<axes = [0, 1]>(x) }"))
    assert "MeanVarianceNormalization" not in types_of(graph)
    np.testing.assert_allclose(run(graph, x=X)[0], (X - X.mean()) / X.std(), rtol=1e-4, atol=1e-5)


def test_a_shape_that_depends_on_data_names_the_node():
    error = refusal("main (float[2, 3] x) => (int64[2, n] y) { [find] y = NonZero(x) }")
    assert error.code == Code.EXPORT_FAILED
    for part in ("Node 'find' (NonZero)", "depends on data", "select with a mask"):
        assert part in error.message


def test_an_operator_that_no_executor_runs_names_node_line_and_way():
    proto = model("main (float[1, 1, 4, 4] x, float[1, 5] r) => (float[1, 1, 2, 2] y) "
                  "{ [regions] y = MaxRoiPool<pooled_shape = [2, 2]>(x, r) }")
    proto.graph.node[0].metadata_props.add(
        key="pkg.torch.onnx.stack_trace", value='File "/home/me/net.py", line 7, in forward')
    with pytest.raises(HomespunError) as caught:
        prepare(proto)
    assert caught.value.code == Code.UNSUPPORTED_OP
    for part in ("'regions' (MaxRoiPool) at net.py, line 7", "no executor runs", "RoiAlign"):
        assert part in caught.value.message


def test_a_contradiction_names_the_node_and_the_users_line():
    proto = model("main (float[2, 3] x) => (float[2, 2] y) { [product] y = MatMul(x, x) }")
    proto.graph.node[0].metadata_props.add(
        key="pkg.torch.onnx.stack_trace",
        value='File "/home/me/net.py", line 12, in forward\n    return x @ x\n'
              'File "/usr/lib/python3/site-packages/torch/nn/linear.py", line 3, in forward')
    with pytest.raises(HomespunError) as caught:
        prepare(proto)
    assert caught.value.code == Code.INVALID_GRAPH
    assert "Node 'product' (MatMul) at net.py, line 12" in caught.value.message
    assert "/home/me" not in caught.value.message


@pytest.mark.parametrize("opset", [7, 9, 11, 12])
def test_older_opsets_are_converted(opset: int):
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node("Unsqueeze", ["x"], ["u"], axes=[0]),
         helper.make_node("Add", ["u", "w"], ["s"]),
         helper.make_node("Squeeze", ["s"], ["q"], axes=[0]),
         helper.make_node("ReduceSum", ["q"], ["y"], axes=[1], keepdims=0)],
        "old", [value("x", TensorProto.FLOAT, [2, 3])], [value("y", TensorProto.FLOAT, [2])],
        [numpy_helper.from_array(np.ones(3, np.float32), "w")])
    old = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
    flat = prepare(old)
    assert flat.opset == 23
    np.testing.assert_allclose(run(flat, x=X)[0], (X + 1).sum(1), rtol=1e-6)


def attention(opset: int) -> onnx.ModelProto:
    """Attention with the input for the lengths of the keys, which opset 24 added."""
    value = helper.make_tensor_value_info
    shape = [1, 2, 4, 8]
    node = helper.make_node(
        "Attention", ["q", "q", "q", "", "", "", "lengths"], ["y"], name="attend")
    graph = helper.make_graph(
        [node], "g",
        [value("q", TensorProto.FLOAT, shape), value("lengths", TensorProto.INT64, [1])],
        [value("y", TensorProto.FLOAT, shape)])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])


@pytest.mark.parametrize("opset", [24, 25, 26])
def test_a_graph_carries_the_lowest_opset_that_has_all_it_uses(opset: int):
    assert prepare(attention(opset)).opset == 24


def test_what_an_opset_does_not_have_is_refused_by_name():
    with pytest.raises(HomespunError, match=r"'attend'.*input size 7"):
        prepare(attention(23))


def node_cases() -> dict[str, onnx.backend.test.case.test_case.TestCase]:
    """The ONNX project's cases of operators with subgraphs, and of functions."""
    for module in (
            "if_", "loop", "scan", "rangeop", "affinegrid", "hannwindow"):
        importlib.import_module(f"onnx.backend.test.case.node.{module}")
    return {
        case.name: case for case in node._NodeTestCases
        if "seq" not in case.name and "opt" not in case.name
        and max(e.version for e in case.model.opset_import if e.domain == "") <= 26
    }


CASES = node_cases()
REFUSED = {"test_scan_sum": "opset 8"}


@pytest.mark.parametrize("name", sorted(CASES))
def test_node_cases_with_control_flow_and_functions(name: str):
    """Inputs that decide shapes, conditions and trip counts are given as known."""
    case = CASES[name]
    inputs, outputs = case.data_sets[0]
    feeds = {value.name: np.asarray(array)
             for value, array in zip(case.model.graph.input, inputs, strict=True)}
    known = {key: array for key, array in feeds.items() if array.dtype != np.float32}
    shapes = {key: array.shape for key, array in feeds.items()}
    if name in REFUSED:
        with pytest.raises(HomespunError, match=REFUSED[name]):
            prepare(case.model, shapes, known)
        return
    graph = prepare(case.model, shapes, known)
    assert not {"If", "Loop", "Scan"} & types_of(graph)
    results = run(graph, **{key: feeds[key] for key in graph.inputs})
    for result, expected in zip(results, outputs, strict=True):
        np.testing.assert_allclose(result, expected, rtol=1e-4, atol=1e-5)
