"""`ir.serde`: round trips, and refusal of hostile bytes."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from homespun.errors import Code, HomespunError
from ir import limits
from ir.graph import Graph, Node, TensorType
from ir.serde import PARAMETERS_KEY, dump, load


def model_proto() -> onnx.ModelProto:
    """y = mean((x @ w) * 2), with a typed intermediate value."""
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [
            helper.make_node("MatMul", ["x", "w"], ["h"], name="matmul"),
            helper.make_node("Constant", [], ["two"], value_float=2.0),
            helper.make_node("Mul", ["h", "two"], ["m"], name="mul"),
            helper.make_node("ReduceMean", ["m", "axes"], ["loss"], name="mean", keepdims=0),
        ],
        "graph",
        [value("x", TensorProto.FLOAT, [2, 3]), value("w", TensorProto.FLOAT, [3, 4])],
        [value("loss", TensorProto.FLOAT, [])],
        initializer=[helper.make_tensor("axes", TensorProto.INT64, [2], [0, 1])],
        value_info=[value("h", TensorProto.FLOAT, [2, 4]), value("m", TensorProto.FLOAT, [2, 4])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 23)])
    helper.set_model_props(model, {PARAMETERS_KEY: '["w"]'})
    return model


def test_load_reads_inputs_parameters_constants_and_types():
    graph = load(model_proto().SerializeToString())
    assert graph.inputs == ("x",)
    assert graph.parameters == ("w",)
    assert graph.outputs == ("loss",)
    assert [(node.index, node.name) for node in graph.nodes] == [
        (0, "matmul"), (1, "mul"), (2, "mean")]
    assert graph.constants["two"] == np.float32(2)
    assert graph.constants["axes"].tolist() == [0, 1]
    assert graph.types["m"] == TensorType("float32", (2, 4))
    assert graph.types["loss"] == TensorType("float32", ())
    assert graph.nodes[2].attributes == {"keepdims": 0}


def test_parameters_argument_wins_over_metadata():
    graph = load(model_proto().SerializeToString(), parameters=())
    assert graph.inputs == ("x", "w")
    assert graph.parameters == ()


def test_round_trip_keeps_every_kind_of_attribute_and_dtype():
    import ml_dtypes

    attributes = {
        "integer": 3, "number": 0.5, "text": "same_upper", "raw": b"\xff\x00",
        "integers": (1, -2), "numbers": (0.5, 1.5), "texts": ("a", "b"),
        "tensor": np.arange(6, dtype=np.int32).reshape(2, 3),
    }
    names = ("float64", "float32", "float16", "int64", "int32", "int16", "int8",
             "uint64", "uint32", "uint16", "uint8", "bool")
    constants = {f"c_{name}": np.array([[0, 1]], dtype=name) for name in names}
    constants["c_bfloat16"] = np.array([[0.5, 1]], dtype=ml_dtypes.bfloat16)
    constants["empty"] = np.zeros((0, 3), np.float32)
    types = {name: TensorType(array.dtype.name, array.shape) for name, array in constants.items()}
    types |= {"x": TensorType("float32", (1, 2)), "y": TensorType("float32", ())}
    node = Node(0, "n", "Anything", ("x", "", "c_bool"), ("y", ""), attributes)
    graph = Graph(23, (node,), ("x",), (), ("y",), constants, types)

    again = load(dump(graph))

    assert again.types == types
    for name, array in constants.items():
        assert again.constants[name].dtype == array.dtype
        assert np.array_equal(again.constants[name], array)
    found = dict(again.nodes[0].attributes)
    assert np.array_equal(found.pop("tensor"), attributes["tensor"])
    assert found == {name: value for name, value in attributes.items() if name != "tensor"}
    assert again.nodes[0].inputs == ("x", "", "c_bool")
    assert again.nodes[0].outputs == ("y", "")
    assert dump(again) == dump(graph)


def test_loaded_constants_cannot_be_written():
    graph = load(model_proto().SerializeToString())
    assert not any(array.flags.writeable for array in graph.constants.values())


def with_node(model: onnx.ModelProto, **changes: object) -> None:
    node = helper.make_node("Identity", ["h"], ["extra"], name="extra")
    for field, value in changes.items():
        if isinstance(value, list):
            del getattr(node, field)[:]
            getattr(node, field).extend(value)
        else:
            setattr(node, field, value)
    model.graph.value_info.append(helper.make_tensor_value_info("extra", 1, [2, 4]))
    model.graph.node.append(node)


def external(model: onnx.ModelProto) -> None:
    tensor = model.graph.initializer[0]
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="/etc/passwd")


def subgraph(model: onnx.ModelProto) -> None:
    with_node(model, attribute=[helper.make_attribute("then_branch", model_proto().graph)])


def sparse(model: onnx.ModelProto) -> None:
    model.graph.sparse_initializer.add()


def function(model: onnx.ModelProto) -> None:
    model.functions.add(name="f", domain="d")


def sequence(model: onnx.ModelProto) -> None:
    model.graph.input[0].type.Clear()
    model.graph.input[0].type.sequence_type.elem_type.tensor_type.elem_type = 1


def strings(model: onnx.ModelProto) -> None:
    model.graph.initializer.append(helper.make_tensor("s", TensorProto.STRING, [1], [b"x"]))


def huge_constant(model: onnx.ModelProto) -> None:
    model.graph.initializer.append(
        TensorProto(name="big", data_type=1, dims=[2**20, 2**10], raw_data=b"1234"))


def overflowing_constant(model: onnx.ModelProto) -> None:
    model.graph.initializer.append(
        TensorProto(name="big", data_type=1, dims=[2**31] * 8, raw_data=b""))


def short_constant(model: onnx.ModelProto) -> None:
    model.graph.initializer.append(
        TensorProto(name="short", data_type=1, dims=[3], raw_data=b"1234"))


def negative_axis(model: onnx.ModelProto) -> None:
    model.graph.initializer.append(TensorProto(name="n", data_type=1, dims=[-1]))


def unfitting_elements(model: onnx.ModelProto) -> None:
    model.graph.initializer.append(
        TensorProto(name="n", data_type=TensorProto.INT8, dims=[1], int32_data=[1000]))


def symbolic(model: onnx.ModelProto) -> None:
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_param = "batch"


def no_shape(model: onnx.ModelProto) -> None:
    model.graph.input[0].type.tensor_type.ClearField("shape")


def untyped(model: onnx.ModelProto) -> None:
    del model.graph.value_info[:]


def unsorted(model: onnx.ModelProto) -> None:
    nodes = [onnx.NodeProto.FromString(n.SerializeToString()) for n in model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(reversed(nodes))


def cycle(model: onnx.ModelProto) -> None:
    model.graph.node[0].input[0] = "m"


def redefined(model: onnx.ModelProto) -> None:
    model.graph.node[2].output[0] = "h"


def input_redefined(model: onnx.ModelProto) -> None:
    model.graph.node[0].output[0] = "x"


def undefined_output(model: onnx.ModelProto) -> None:
    model.graph.value_info.append(model.graph.output[0])
    model.graph.output[0].name = "nothing"


def no_output(model: onnx.ModelProto) -> None:
    model.graph.value_info.append(model.graph.output[0])
    del model.graph.output[:]


def bad_metadata(model: onnx.ModelProto) -> None:
    model.metadata_props[0].value = "[" * 100_000


def unknown_parameter(model: onnx.ModelProto) -> None:
    model.metadata_props[0].value = '["v"]'


def parameter_twice(model: onnx.ModelProto) -> None:
    model.metadata_props[0].value = '["w", "w"]'


def old_opset(model: onnx.ModelProto) -> None:
    model.opset_import[0].version = 13


def other_domain(model: onnx.ModelProto) -> None:
    model.opset_import.add(domain="com.microsoft", version=1)


def conflicting_type(model: onnx.ModelProto) -> None:
    model.graph.value_info.append(helper.make_tensor_value_info("h", 1, [9, 9]))


def many_axes(model: onnx.ModelProto) -> None:
    model.graph.value_info.append(helper.make_tensor_value_info("z", 1, [1] * 17))


HOSTILE: list[tuple[Callable[[onnx.ModelProto], None], Code, str]] = [
    (external, Code.INVALID_GRAPH, "another file"),
    (subgraph, Code.UNSUPPORTED_OP, "GRAPH"),
    (sparse, Code.UNSUPPORTED_OP, "sparse"),
    (function, Code.UNSUPPORTED_OP, "functions"),
    (sequence, Code.UNSUPPORTED_OP, "'x'"),
    (strings, Code.UNSUPPORTED_OP, "STRING"),
    (huge_constant, Code.LIMIT_EXCEEDED, "'big'"),
    (overflowing_constant, Code.LIMIT_EXCEEDED, "'big'"),
    (short_constant, Code.INVALID_GRAPH, "12 bytes"),
    (negative_axis, Code.INVALID_GRAPH, "-1"),
    (unfitting_elements, Code.INVALID_GRAPH, "int8"),
    (symbolic, Code.INVALID_GRAPH, "static shape"),
    (no_shape, Code.INVALID_GRAPH, "static shape"),
    (untyped, Code.INVALID_GRAPH, "'matmul'"),
    (unsorted, Code.INVALID_GRAPH, "'mean'"),
    (cycle, Code.INVALID_GRAPH, "'matmul'"),
    (redefined, Code.INVALID_GRAPH, "'mul'"),
    (input_redefined, Code.INVALID_GRAPH, "'matmul'"),
    (undefined_output, Code.INVALID_GRAPH, "'nothing'"),
    (no_output, Code.INVALID_GRAPH, "no outputs"),
    (bad_metadata, Code.INVALID_GRAPH, PARAMETERS_KEY),
    (unknown_parameter, Code.INVALID_GRAPH, "'v'"),
    (parameter_twice, Code.INVALID_GRAPH, "twice"),
    (old_opset, Code.INVALID_GRAPH, "13"),
    (other_domain, Code.UNSUPPORTED_OP, "com.microsoft"),
    (conflicting_type, Code.INVALID_GRAPH, "'h'"),
    (many_axes, Code.LIMIT_EXCEEDED, "17 axes"),
    (lambda m: with_node(m, domain="com.evil"), Code.UNSUPPORTED_OP, "'extra'"),
    (lambda m: with_node(m, name="mul"), Code.INVALID_GRAPH, "same name"),
    (lambda m: with_node(m, name="\x1b[2J"), Code.INVALID_GRAPH, "unprintable"),
    (lambda m: with_node(m, name="n" * 513), Code.LIMIT_EXCEEDED, "513 characters"),
    (lambda m: with_node(m, input=["h"] * 9000), Code.LIMIT_EXCEEDED, "9000 inputs"),
    (lambda m: with_node(m, input=["ghost"]), Code.INVALID_GRAPH, "'ghost'"),
    (lambda m: with_node(m, attribute=[onnx.AttributeProto(
        name="a", type=onnx.AttributeProto.INTS, ints=[1000] * 70_000)]),
        Code.LIMIT_EXCEEDED, "70000 items"),
    (lambda m: with_node(m, attribute=[helper.make_attribute("a", 1)] * 2),
        Code.INVALID_GRAPH, "twice"),
    (lambda m: with_node(m, attribute=[onnx.AttributeProto(name="a", ref_attr_name="b")]),
        Code.UNSUPPORTED_OP, "function"),
]


@pytest.mark.parametrize(("change", "code", "words"), HOSTILE)
def test_hostile_graph_is_refused(
    change: Callable[[onnx.ModelProto], None], code: Code, words: str
):
    model = model_proto()
    change(model)
    with pytest.raises(HomespunError) as caught:
        load(model.SerializeToString())
    assert caught.value.code == code
    assert words in caught.value.message


@pytest.mark.parametrize("share", [0.0, 0.1, 0.3, 0.5, 0.7, 0.9, 0.99])
def test_truncated_bytes_are_refused(share: float):
    data = model_proto().SerializeToString()
    with pytest.raises(HomespunError) as caught:
        load(data[:int(len(data) * share)])
    assert caught.value.code in (Code.INVALID_GRAPH, Code.LIMIT_EXCEEDED)


@pytest.mark.parametrize("seed", range(300))
def test_flipped_bytes_never_raise_anything_else(seed: int):
    draw = random.Random(seed)
    data = bytearray(model_proto().SerializeToString())
    for _ in range(draw.randint(1, 8)):
        data[draw.randrange(len(data))] = draw.randrange(256)
    with contextlib.suppress(HomespunError):
        graph = load(bytes(data))
        assert load(dump(graph)).types == graph.types, seed


def test_too_many_bytes_are_refused_before_parsing():
    with pytest.raises(HomespunError) as caught:
        load(bytes(limits.GRAPH_BYTES + 1))
    assert caught.value.code == Code.LIMIT_EXCEEDED
    assert caught.value.details["limit"] == "GRAPH_BYTES"


def test_many_empty_messages_are_refused_before_parsing(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("ir.wire_bounds.FIELDS", 1000)
    nodes = b"\x0a\x00" * 1000  # GraphProto.node, empty, two bytes each
    data = b"\x3a" + bytes([len(nodes) & 0x7F | 0x80, len(nodes) >> 7]) + nodes
    with pytest.raises(HomespunError) as caught:
        load(data)
    assert caught.value.details["limit"] == "FIELDS"


def test_deep_nesting_is_refused_before_parsing():
    data = b""
    for _ in range(60):  # graph in attribute in node in graph ...
        for tag in (0x32, 0x2A, 0x0A):
            size = len(data)
            length = bytes([size]) if size < 128 else bytes([size & 0x7F | 0x80, size >> 7])
            data = bytes([tag]) + length + data
    outer = bytes([0x3A, len(data) & 0x7F | 0x80, len(data) >> 7]) + data
    with pytest.raises(HomespunError) as caught:
        load(outer)
    assert caught.value.details["limit"] == "NESTING"


def test_limits_agree_with_those_of_shape_inference():
    from ir.shapes import MAX_EXTENT, MAX_RANK

    assert (limits.RANK, limits.DIMENSION) == (MAX_RANK, MAX_EXTENT)
