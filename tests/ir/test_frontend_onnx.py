"""`ir.frontends.onnx_file`: parameters, constants, opsets, external data."""

from __future__ import annotations

import contextlib
import random
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from homespun.errors import Code, HomespunError
from ir.check import check
from ir.frontends.imported import Imported
from ir.frontends.onnx_file import import_onnx
from ir.frontends.opsets import ACCEPTED
from ir.serde import load

WEIGHT = np.linspace(-1, 1, 12, dtype=np.float32).reshape(3, 4)
X = np.linspace(0, 1, 6, dtype=np.float32).reshape(2, 3)
Y = np.array([1, 3])
LOGITS = X @ WEIGHT * 1.5
LOSS = float(np.mean(np.log(np.exp(LOGITS).sum(1)) - LOGITS[[0, 1], Y]))


def model_proto(opset: int = 23) -> onnx.ModelProto:
    """A classifier, with a float factor, integer shapes and an unused output."""
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [
            helper.make_node("MatMul", ["x", "w"], ["h"]),
            helper.make_node("Mul", ["h", "factor"], ["scaled"], name="scale"),
            helper.make_node("Add", ["scaled", "b"], ["biased"]),
            helper.make_node("Dropout", ["biased", "ratio", "training"], ["dropped"]),
            helper.make_node("Reshape", ["dropped", "shape"], ["logits"]),
            helper.make_node("SoftmaxCrossEntropyLoss", ["logits", "y"], ["the_loss"]),
        ],
        "classifier",
        [value("x", TensorProto.FLOAT, [2, 3]), value("y", TensorProto.INT64, [2])],
        [value("logits", TensorProto.FLOAT, [2, 4]), value("the_loss", TensorProto.FLOAT, [])],
        initializer=[
            numpy_helper.from_array(WEIGHT, "w"),
            numpy_helper.from_array(np.zeros(4, np.float32), "b"),
            numpy_helper.from_array(np.array(1.5, np.float32), "factor"),
            numpy_helper.from_array(np.array(0.0, np.float32), "ratio"),
            numpy_helper.from_array(np.array(True), "training"),
            numpy_helper.from_array(np.array([2, 4]), "shape"),
        ],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])


def evaluate(imported: Imported) -> float:
    feeds = {"x": X, "y": Y} | {p.name: p.value for p in imported.parameters}
    session = ReferenceEvaluator(onnx.load_from_string(imported.graph_bytes))
    return float(session.run(None, feeds)[0])


def test_float_initializers_become_parameters():
    imported = import_onnx(model_proto().SerializeToString(), "the_loss")
    assert [(p.name, p.aliases, p.trainable) for p in imported.parameters] == [
        ("w", (), True), ("b", (), True)]
    assert np.array_equal(imported.parameters[0].value, WEIGHT)
    graph = imported.graph
    assert (graph.inputs, graph.parameters) == (("x", "y"), ("w", "b"))
    assert graph.outputs == ("the_loss",)
    assert graph.constants["factor"] == np.float32(1.5)
    assert "scale" in {node.name for node in graph.nodes}
    check(graph)
    assert load(imported.graph_bytes).types == graph.types


@pytest.mark.parametrize("opset", [opset for opset in ACCEPTED if opset >= 13])
def test_every_accepted_opset_computes_the_same(opset: int):
    imported = import_onnx(model_proto(opset).SerializeToString(), "the_loss")
    assert imported.graph.opset == 23
    assert evaluate(imported) == pytest.approx(LOSS, rel=1e-5)


@pytest.mark.parametrize("opset", [1, 6, 29, 999])
def test_other_opsets_are_refused(opset: int):
    with pytest.raises(HomespunError, match="7 to 28"):
        import_onnx(model_proto(opset).SerializeToString(), "the_loss")


def test_same_file_gives_same_bytes():
    data = model_proto(17).SerializeToString()
    assert import_onnx(data).graph_bytes == import_onnx(data).graph_bytes


def test_all_outputs_stay_without_a_named_loss():
    assert import_onnx(model_proto().SerializeToString()).graph.outputs == ("logits", "the_loss")


def test_named_parameters_are_taken_exactly():
    imported = import_onnx(
        model_proto().SerializeToString(), "the_loss", parameters={"w", "factor"})
    assert [p.name for p in imported.parameters] == ["w", "factor"]
    assert "b" in imported.graph.constants


@pytest.mark.parametrize(("options", "words"), [
    ({"loss_output": "nothing"}, "'nothing'"),
    ({"parameters": ["ghost"]}, "'ghost'"),
])
def test_unknown_names_are_refused(options: dict[str, object], words: str):
    with pytest.raises(HomespunError, match=words) as caught:
        import_onnx(model_proto().SerializeToString(), **options)
    assert caught.value.code == Code.INVALID_ARGUMENT


def test_symbolic_axis_is_refused():
    model = model_proto()
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_param = "batch"
    with pytest.raises(HomespunError, match="static shape"):
        import_onnx(model.SerializeToString(), "the_loss")


@pytest.mark.parametrize("data", [b"", b"\x00\x01\x02", b"not a model at all"])
def test_other_bytes_are_refused(data: bytes):
    with pytest.raises(HomespunError) as caught:
        import_onnx(data)
    assert caught.value.code == Code.INVALID_GRAPH


def test_missing_file_is_not_found(tmp_path: Path):
    with pytest.raises(HomespunError) as caught:
        import_onnx(tmp_path / "none.onnx")
    assert caught.value.code == Code.NOT_FOUND


def externalised(location: str, **entries: object) -> onnx.ModelProto:
    """The model with `w` in another file."""
    model = model_proto()
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in {"location": location, **entries}.items():
        tensor.external_data.add(key=key, value=str(value))
    return model


def write(folder: Path, model: onnx.ModelProto) -> Path:
    path = folder / "model.onnx"
    path.write_bytes(model.SerializeToString())
    return path


def test_external_data_beside_the_model_is_read(tmp_path: Path):
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "w.bin").write_bytes(b"\0" * 16 + WEIGHT.tobytes())
    path = write(tmp_path, externalised("weights/w.bin", offset=16, length=48))
    imported = import_onnx(path, "the_loss")
    assert np.array_equal(imported.parameters[0].value, WEIGHT)
    assert evaluate(imported) == pytest.approx(LOSS, rel=1e-5)


@pytest.mark.parametrize(("location", "entries", "words"), [
    ("../outside.bin", {}, "outside the model's folder"),
    ("weights/../../outside.bin", {}, "outside the model's folder"),
    ("{tmp}/outside.bin", {}, "outside the model's folder"),
    ("link.bin", {}, "outside the model's folder"),
    ("missing.bin", {}, "not there"),
    ("", {}, "not there"),
    ("bad\0name", {}, "names the file"),
    ("short.bin", {}, "which has 8"),
    ("good.bin", {"offset": 1}, "which has 48"),
    ("good.bin", {"offset": -4}, "offset -4"),
    ("good.bin", {"offset": "x"}, "no number"),
    ("good.bin", {"length": 4}, "length 4"),
])
def test_external_data_elsewhere_is_refused(
    tmp_path: Path, location: str, entries: dict[str, object], words: str
):
    folder = tmp_path / "model"
    folder.mkdir()
    (tmp_path / "outside.bin").write_bytes(WEIGHT.tobytes())
    (folder / "good.bin").write_bytes(WEIGHT.tobytes())
    (folder / "short.bin").write_bytes(bytes(8))
    try:
        (folder / "link.bin").symlink_to(tmp_path / "outside.bin")
    except OSError:
        if location == "link.bin":
            pytest.skip("this system does not let us make links")
    path = write(folder, externalised(location.format(tmp=tmp_path), **entries))
    with pytest.raises(HomespunError, match=words) as caught:
        import_onnx(path, "the_loss")
    assert caught.value.code == Code.INVALID_GRAPH


def test_external_data_of_bytes_is_refused():
    with pytest.raises(HomespunError, match="path of the model"):
        import_onnx(externalised("w.bin").SerializeToString())


@pytest.mark.parametrize("seed", range(200))
def test_damaged_files_never_raise_anything_else(seed: int):
    draw = random.Random(seed)
    data = bytearray(model_proto(draw.choice([13, 17, 23])).SerializeToString())
    for _ in range(draw.randint(1, 6)):
        data[draw.randrange(len(data))] = draw.randrange(256)
    with contextlib.suppress(HomespunError):
        imported = import_onnx(bytes(data))
        assert load(imported.graph_bytes).types == imported.graph.types, seed


def test_operators_of_other_domains_are_refused():
    model = model_proto()
    model.graph.node[0].domain = "com.microsoft"
    model.opset_import.add(domain="com.microsoft", version=1)
    with pytest.raises(HomespunError, match=r"com\.microsoft") as caught:
        import_onnx(model.SerializeToString())
    assert caught.value.code == Code.UNSUPPORTED_OP
