"""Symbolic axes stay open until they are bound; appended losses; what binding refuses."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import parser
from onnx.reference import ReferenceEvaluator

from homespun.errors import Code, HomespunError
from ir.check import check
from ir.frontends.imported import Imported
from ir.frontends.onnx_file import import_onnx, read_onnx

MODEL = """<ir_version: 10, opset_import: ["" : 20]>
main (float[batch, sequence, 3] x, float[batch, sequence] mask, int64[4] fixed)
    => (float[batch, sequence, 4] scores, float probabilities)
<float[3, 4] w = {1,2,3,4,5,6,7,8,9,10,11,12}>
{
  product = MatMul(x, w)
  axis = Constant<value_ints: ints = [-1]>()
  wide = Unsqueeze(mask, axis)
  scores = Mul(product, wide)
  numbers = Cast<to = 1>(fixed)
  total = ReduceSum<keepdims = 0>(numbers)
  mean = ReduceMean<keepdims = 0>(scores)
  probabilities = Mul(mean, total)
}"""
DATA = parser.parse_model(MODEL).SerializeToString()
OWN = {"fixed": (4,)}


def shapes(batch: int, sequence: int) -> dict[str, tuple[int, ...]]:
    return {"x": (batch, sequence, 3), "mask": (batch, sequence), **OWN}


def test_axes_stay_symbolic_and_keep_their_names():
    model = read_onnx(DATA)
    assert model.inputs == {
        "x": ("batch", "sequence", 3), "mask": ("batch", "sequence"), "fixed": (4,)}
    assert model.axes == ("batch", "sequence")
    assert [(p.name, p.value.shape) for p in model.parameters] == [("w", (3, 4))]


@pytest.mark.parametrize(("batch", "sequence"), [(1, 7), (4, 2), (1, 1)])
def test_one_model_is_bound_to_many_sizes(batch: int, sequence: int):
    model = read_onnx(DATA, "probabilities")
    graph = model.bind({"batch": batch, "sequence": sequence}).graph
    assert graph.types["x"].shape == (batch, sequence, 3)
    check(graph)
    same = model.bind_shapes(shapes(batch, sequence))
    assert same.graph_bytes == model.bind({"batch": batch, "sequence": sequence}).graph_bytes


def test_importing_with_axes_is_reading_and_binding():
    axes = {"batch": 2, "sequence": 5}
    assert import_onnx(DATA, axes=axes).graph_bytes == read_onnx(DATA).bind(axes).graph_bytes


@pytest.mark.parametrize(("given", "parts"), [
    ({**shapes(4, 2), "mask": (4, 3)}, ("axis 1 of input 'mask'", "'sequence'", "3", "2",
                                        "axis 1 of input 'x'")),
    ({**shapes(4, 2), "mask": (2, 2)}, ("axis 0 of input 'mask'", "'batch'")),
    ({**shapes(4, 2), "x": (4, 2, 5)}, ("axis 2 of input 'x'", "is 5", "3 in the model")),
    ({**shapes(4, 2), "x": (4, 2)}, ("'x'", "3 axes", "gives 2")),
])
def test_contradicting_columns_are_named(given: dict[str, tuple[int, ...]], parts: tuple[str, ...]):
    with pytest.raises(HomespunError) as caught:
        read_onnx(DATA).bind_shapes(given)
    assert caught.value.code == Code.INVALID_ARGUMENT
    for part in parts:
        assert part in caught.value.message


@pytest.mark.parametrize(("axes", "parts"), [
    ({"batch": 2}, ("'sequence'", "'x'", "static shapes")),
    ({"batch": 2, "sequence": 3, "height": 1}, ("'height'", "batch, sequence")),
    ({"batch": 0, "sequence": 3}, ("'batch'", "0")),
    ({"batch": True, "sequence": 3}, ("'batch'",)),
    ({"batch": 2**40, "sequence": 3}, ("'batch'",)),
])
def test_wrong_axes_are_refused(axes: dict[str, int], parts: tuple[str, ...]):
    with pytest.raises(HomespunError) as caught:
        read_onnx(DATA).bind(axes)
    assert caught.value.code == Code.INVALID_ARGUMENT
    for part in parts:
        assert part in caught.value.message


def test_axes_without_names_get_one():
    proto = parser.parse_model(MODEL)
    proto.graph.input[0].type.tensor_type.shape.dim[1].ClearField("dim_param")
    model = read_onnx(proto.SerializeToString())
    assert model.axes == ("batch", "x.1", "sequence")
    model.bind({"batch": 2, "x.1": 3, "sequence": 3})


def test_an_input_that_is_no_tensor_is_refused():
    proto = parser.parse_model(MODEL)
    element = proto.graph.input[2].type.sequence_type.elem_type
    element.CopyFrom(onnx.helper.make_tensor_type_proto(1, [4]))
    with pytest.raises(HomespunError, match=r"'fixed'.*sequence") as caught:
        read_onnx(proto.SerializeToString()).bind({"batch": 1, "sequence": 1})
    assert caught.value.code == Code.UNSUPPORTED_OP


def test_a_known_input_becomes_a_constant():
    bound = read_onnx(DATA, "probabilities").bind(
        {"batch": 1, "sequence": 2}, {"fixed": np.array([1, 2, 3, 4])})
    assert bound.graph.inputs == ("x", "mask")
    x = np.ones((1, 2, 3), np.float32)
    feeds = {"x": x, "mask": np.ones((1, 2), np.float32), "w": bound.parameters[0].value}
    (result,) = ReferenceEvaluator(bound.graph_bytes).run(None, feeds)
    assert result == pytest.approx(10 * feeds["w"].sum(0).mean())


LAYER = """<ir_version: 10, opset_import: ["" : 17]>
main (float[batch, 3] x) => (float[batch, 4] scores, float[batch, 4] shares, float[batch] first)
<float[3, 4] w = {1,2,3,4,5,6,-7,8,9,-10,11,12}>
{
  scores = MatMul(x, w)
  shares = Softmax(scores)
  zero = Constant<value = int64 {0}>()
  first = Gather<axis = 1>(scores, zero)
}"""
LAYER_DATA = parser.parse_model(LAYER).SerializeToString()
X = np.linspace(-0.2, 0.3, 6, dtype=np.float32).reshape(2, 3)


def loss_of(imported: Imported, target: np.ndarray) -> float:
    feeds = {"x": X, "target": target, "w": imported.parameters[0].value}
    return float(ReferenceEvaluator(imported.graph_bytes).run(None, feeds)[0])


def expected_loss(kind: str, w: np.ndarray, target: np.ndarray) -> float:
    scores = (X @ w).astype(np.float64)
    logs = scores - np.log(np.exp(scores).sum(1, keepdims=True))
    if kind in ("cross_entropy", "negative_log_likelihood"):
        return float(-logs[np.arange(2), target].mean())
    return float({
        "mse": np.mean((scores - target) ** 2), "mae": np.mean(np.abs(scores - target)),
        "binary_cross_entropy": np.mean(np.log1p(np.exp(scores)) - scores * target),
    }[kind])


@pytest.mark.parametrize(("kind", "output"), [
    ("cross_entropy", None), ("negative_log_likelihood", "shares"), ("mse", "scores"),
    ("mae", None), ("binary_cross_entropy", "scores"),
])
def test_a_loss_is_appended_to_an_output(kind: str, output: str | None):
    imported = import_onnx(LAYER_DATA, output, loss=kind, axes={"batch": 2})
    graph = imported.graph
    check(graph)
    assert (graph.inputs, graph.outputs) == (("x", "target"), ("loss",))
    labels = kind in ("cross_entropy", "negative_log_likelihood")
    target = np.array([1, 3]) if labels else np.linspace(0, 1, 8, dtype=np.float32).reshape(2, 4)
    assert (graph.types["target"].dtype, graph.types["target"].shape) == (
        target.dtype.name, target.shape)
    wanted = expected_loss(kind, imported.parameters[0].value, target)
    assert loss_of(imported, target) == pytest.approx(wanted, rel=1e-5)


@pytest.mark.parametrize(("options", "parts"), [
    ({"loss": "hinge"}, ("'hinge'", "cross_entropy", "mse")),
    ({"loss": "cross_entropy", "loss_output": "first"}, ("classes", "'first'", "[2]")),
    ({"loss": "mse", "target": "x"}, ("'x'", "target")),
    ({"loss": "mse", "loss_output": "none"}, ("'none'", "scores")),
])
def test_losses_that_do_not_fit_are_refused(options: dict[str, str], parts: tuple[str, ...]):
    with pytest.raises(HomespunError) as caught:
        import_onnx(LAYER_DATA, axes={"batch": 2}, **options)
    assert caught.value.code == Code.INVALID_ARGUMENT
    for part in parts:
        assert part in caught.value.message


def test_running_statistics_are_lifted_but_not_trained():
    proto = parser.parse_model("""<ir_version: 10, opset_import: ["" : 17]>
main (float[2, 3, 4] x) => (float[2, 3, 4] y)
<float[3] scale = {1,2,3}, float[3] bias = {0,1,0}, float[3] mean = {1,1,2},
 float[3] variance = {1,4,9}>
{ y = BatchNormalization(x, scale, bias, mean, variance) }""")
    imported = import_onnx(proto.SerializeToString(), loss="mse")
    assert {p.name: p.trainable for p in imported.parameters} == {
        "scale": True, "bias": True, "mean": False, "variance": False}
    check(imported.graph)
