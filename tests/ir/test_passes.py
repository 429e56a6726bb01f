"""`ir.passes`: what is rewritten, what is left alone, and that no number changes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

from ir.passes.rms_norm import fuse_rms_norm
from ir.passes.simplify import simplify

X = np.linspace(-2, 3, 24, dtype=np.float32).reshape(2, 3, 4)
W = np.array([0.5, 1.0, 1.5, -2.0], dtype=np.float32)
Nodes = list[onnx.NodeProto]


def node(op_type: str, inputs: str, output: str, **attributes: object) -> onnx.NodeProto:
    return helper.make_node(op_type, inputs.split(), [output], **attributes)


def rms_norm(
    *, square: str = "pow", root: str = "reciprocal", axis: int = -1, eps: float = 1e-5,
    weight_first: bool = False, keepdims: int = 1,
) -> Nodes:
    nodes = [
        node("Constant", "", "two", value_float=2.0),
        node("Constant", "", "eps", value_float=eps),
        node("Constant", "", "axes", value_ints=[axis]),
        node("Pow", "x two", "sq") if square == "pow" else node("Mul", "x x", "sq"),
        node("ReduceMean", "sq axes", "mean", keepdims=keepdims),
        node("Add", "mean eps", "plus"),
        node("Sqrt", "plus", "root"),
    ]
    if root == "reciprocal":
        nodes += [node("Reciprocal", "root", "inverse"), node("Mul", "x inverse", "n")]
    else:
        nodes += [node("Div", "x root", "n")]
    return [*nodes, node("Mul", "w n" if weight_first else "n w", "y")]


def model(nodes: Nodes, output: str = "y", weight: np.ndarray = W) -> ir.Model:
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes, "g",
        [value("x", TensorProto.FLOAT, X.shape), value("w", TensorProto.FLOAT, weight.shape)],
        [value(output, TensorProto.FLOAT, None)],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 23)], ir_version=11)
    return ir.from_proto(onnx.shape_inference.infer_shapes(proto))


def run(edited: ir.Model, weight: np.ndarray = W) -> np.ndarray:
    return ReferenceEvaluator(ir.to_proto(edited)).run(None, {"x": X, "w": weight})[0]


def operators(edited: ir.Model) -> Counter[str]:
    return Counter(n.op_type for n in edited.graph)


def prepared(nodes: Nodes, **options: object) -> ir.Model:
    """Constants as the passes see them."""
    edited = model(nodes, **options)
    simplify(edited)
    return edited


@pytest.mark.parametrize("options", [
    {}, {"square": "mul"}, {"root": "div"}, {"axis": 2}, {"weight_first": True},
    {"square": "mul", "root": "div", "weight_first": True, "eps": 1e-8},
], ids=str)
def test_rms_norm_is_fused_in_every_spelling(options: dict[str, object]):
    edited = prepared(rms_norm(**options))
    expected = run(edited)
    assert fuse_rms_norm(edited) == 1
    simplify(edited)
    assert operators(edited) == {"RMSNormalization": 1}
    np.testing.assert_allclose(run(edited), expected, rtol=1e-6)
    epsilon = next(iter(edited.graph)).attributes.get_float("epsilon")
    assert epsilon == np.float32(options.get("eps", 1e-5))


def another_reader(value: str) -> Nodes:
    return [node("Neg", value, "other"), node("Add", "y other", "z")]


LEFT_ALONE: dict[str, Callable[[], ir.Model]] = {
    "another axis": lambda: prepared(rms_norm(axis=1)),
    "epsilon of zero": lambda: prepared(rms_norm(eps=0.0)),
    "the mean is read elsewhere": lambda: prepared(
        [*rms_norm(), *another_reader("mean")], output="z"),
    "the norm is read elsewhere": lambda: prepared([*rms_norm(), *another_reader("n")], output="z"),
    "a weight per row": lambda: prepared(rms_norm(), weight=np.ones((3, 1), np.float32)),
    "not a square": lambda: prepared([
        *(n if n.op_type != "Pow" else node("Pow", "x eps", "sq") for n in rms_norm())]),
    "another numerator": lambda: prepared([
        *(n if n.output[0] != "n" else node("Mul", "sq inverse", "n") for n in rms_norm())]),
}


@pytest.mark.parametrize("name", LEFT_ALONE)
def test_rms_norm_is_not_seen_where_it_is_not(name: str):
    edited = LEFT_ALONE[name]()
    before = operators(edited)
    assert fuse_rms_norm(edited) == 0
    assert operators(edited) == before


@pytest.mark.parametrize("small", [1e-8, 1e-9, 1e-12])
@pytest.mark.parametrize(("op_type", "base"), [("Add", 0.0), ("Sub", 0.0), ("Mul", 1.0)])
def test_small_constants_are_not_rounded_away(op_type: str, base: float, small: float):
    number = base + (small if base == 0 else 1e-6)
    edited = prepared([
        node("Constant", "", "c", value_float=number), node(op_type, "x c", "h"),
        node("Mul", "h w", "y")])
    assert operators(edited)[op_type] == (2 if op_type == "Mul" else 1)


def test_constants_are_folded_and_parameters_are_not():
    edited = prepared([
        node("Constant", "", "a", value_floats=[1.0, 2.0, 3.0, 4.0]),
        node("Constant", "", "b", value_float=2.0),
        node("Mul", "a b", "ab"),
        node("Neg", "w", "wn"),
        node("Mul", "wn ab", "scaled"),
        node("Add", "x scaled", "y"),
    ])
    assert operators(edited) == {"Neg": 1, "Mul": 1, "Add": 1}
    np.testing.assert_allclose(run(edited), X - W * np.array([2, 4, 6, 8], np.float32))


def test_equal_expressions_are_computed_once():
    edited = prepared([node("Exp", "x", "a"), node("Exp", "x", "b"), node("Add", "a b", "s"),
                       node("Mul", "s w", "y")])
    assert operators(edited) == {"Exp": 1, "Add": 1, "Mul": 1}


@pytest.mark.parametrize(("op_type", "inputs"), [
    ("Dropout", "x ratio training"), ("RandomUniformLike", "x"), ("Bernoulli", "p"),
])
def test_equal_random_draws_stay_apart(op_type: str, inputs: str):
    edited = prepared([
        node("Constant", "", "ratio", value_float=0.5),
        node("Constant", "", "training", value=helper.make_tensor("t", TensorProto.BOOL, [], [1])),
        node("Sigmoid", "x", "p"),
        node(op_type, inputs, "a"), node(op_type, inputs, "b"),
        node("Sub", "a b", "s"), node("Mul", "s w", "y"),
    ])
    draws = [n for n in edited.graph if n.op_type == op_type]
    assert len(draws) == 2
    assert all("seed" not in n.attributes for n in draws)


def test_random_draws_of_constants_are_not_folded():
    edited = prepared([
        node("Constant", "", "c", value_floats=[1.0, 2.0, 3.0, 4.0]),
        node("Constant", "", "ratio", value_float=0.5),
        node("Constant", "", "training", value=helper.make_tensor("t", TensorProto.BOOL, [], [1])),
        node("Dropout", "c ratio training", "d"),
        node("Add", "d w", "dw"), node("Add", "x dw", "y"),
    ])
    assert operators(edited)["Dropout"] == 1
