"""`ir.passes.fusions`: each rewrite in several spellings, what it leaves alone, same numbers."""

from __future__ import annotations

from collections import Counter
from math import pi, sqrt

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from ir.passes.fusions import FUSIONS
from ir.passes.matching import KNOWN_ELEMENTS_MAX, known_array
from ir.passes.simplify import simplify, tidy

Nodes = list[onnx.NodeProto]
Arrays = dict[str, np.ndarray]


def node(op_type: str, inputs: str, output: str, **attributes: object) -> onnx.NodeProto:
    return helper.make_node(op_type, inputs.split(), output.split(), **attributes)


def model(nodes: Nodes, inputs: Arrays, constants: Arrays) -> ir.Model:
    """A model whose result is `y`, simplified as before the fusions."""
    graph = helper.make_graph(
        nodes, "g",
        [helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(a.dtype), a.shape)
         for n, a in inputs.items()],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.asarray(a), n) for n, a in constants.items()])
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 23)], ir_version=11)
    edited = ir.from_proto(onnx.shape_inference.infer_shapes(proto, data_prop=True))
    simplify(edited)
    return edited


def run(edited: ir.Model, inputs: Arrays) -> np.ndarray:
    return ReferenceEvaluator(ir.to_proto(edited)).run(None, inputs)[0]


def draw(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def assert_fused(
    name: str, nodes: Nodes, inputs: Arrays, constants: Arrays, operators: dict[str, int]
) -> ir.Model:
    edited = model(nodes, inputs, constants)
    expected = run(edited, inputs)
    assert FUSIONS[name](edited) == 1
    tidy(edited)
    assert Counter(n.op_type for n in edited.graph) == operators
    np.testing.assert_allclose(run(edited, inputs), expected, rtol=2e-5, atol=2e-6)
    onnx.checker.check_model(ir.to_proto(edited), full_check=True)
    return edited


def assert_left_alone(name: str, nodes: Nodes, inputs: Arrays, constants: Arrays) -> None:
    edited = model(nodes, inputs, constants)
    before = [n.op_type for n in edited.graph]
    assert FUSIONS[name](edited) == 0
    assert [n.op_type for n in edited.graph] == before


# --- gelu ----------------------------------------------------------------------------------------

X = {"x": draw(2, 3, 8)}
NUMBERS = {
    "half": 0.5, "one": 1.0, "two": 2.0, "three": 3.0, "root2": sqrt(2), "inverse": sqrt(0.5),
    "cubic": 0.044715, "outer": sqrt(2 / pi), "other": 0.5001}
CONSTANTS = {name: np.float32(number) for name, number in NUMBERS.items()}
ERF = [node("Div", "x root2", "a"), node("Erf", "a", "e"), node("Add", "e one", "g")]
TANH = [
    node("Pow", "x three", "x3"), node("Mul", "x3 cubic", "c"), node("Add", "x c", "s"),
    node("Mul", "s outer", "a"), node("Tanh", "a", "t"), node("Add", "one t", "g")]
GELUS = {
    "erf": ("none", [*ERF, node("Mul", "x g", "xg"), node("Mul", "xg half", "y")]),
    "erf, half first": ("none", [*ERF, node("Mul", "half x", "h"), node("Mul", "h g", "y")]),
    "erf, divided by two": ("none", [*ERF, node("Mul", "g x", "h"), node("Div", "h two", "y")]),
    "erf, product": ("none", [node("Mul", "inverse x", "a"), *ERF[1:],
                              node("Mul", "x half", "h"), node("Mul", "g h", "y")]),
    "tanh": ("tanh", [*TANH, node("Mul", "half x", "h"), node("Mul", "h g", "y")]),
    "tanh, products": ("tanh", [node("Mul", "x x", "xx"), node("Mul", "xx x", "x3"), *TANH[1:],
                                node("Mul", "half g", "h"), node("Mul", "x h", "y")]),
}


@pytest.mark.parametrize("spelling", GELUS)
def test_gelu_is_fused_in_every_spelling(spelling: str):
    approximate, nodes = GELUS[spelling]
    edited = assert_fused("gelu", nodes, X, CONSTANTS, {"Gelu": 1})
    assert next(iter(edited.graph)).attributes.get_string("approximate") == approximate


@pytest.mark.parametrize("nodes", [
    [*ERF, node("Mul", "x g", "xg"), node("Mul", "xg other", "y")],
    [*ERF, node("Mul", "a g", "xg"), node("Mul", "xg half", "y")],
    [*TANH[:3], node("Mul", "s half", "a"), *TANH[4:], node("Mul", "half x", "h"),
     node("Mul", "h g", "y")],
    [node("Pow", "x two", "x3"), *TANH[1:], node("Mul", "half x", "h"), node("Mul", "h g", "y")],
], ids=["another factor", "another argument", "another slope", "a square"])
def test_gelu_is_not_seen_where_it_is_not(nodes: Nodes):
    assert_left_alone("gelu", nodes, X, CONSTANTS)


def test_long_products_cost_no_time():
    nodes = [node("Mul", "x x", "v0")]
    nodes += [node("Mul", f"v{n} v{n}", f"v{n + 1}") for n in range(60)]
    assert_left_alone("gelu", [*nodes, node("Mul", "v60 half", "y")], X, CONSTANTS)


# --- linear --------------------------------------------------------------------------------------

LINEAR = {"x": draw(2, 3, 8), "w": draw(8, 5, seed=1), "b": draw(5, seed=2)}


@pytest.mark.parametrize("bias_first", [False, True])
@pytest.mark.parametrize("swapped", [False, True])
@pytest.mark.parametrize("leading", [(6,), (2, 3), (2, 1, 3)])
def test_linear_is_fused(leading: tuple[int, ...], swapped: bool, bias_first: bool):
    inputs = {"x": draw(*leading, 8), "w": draw(5, 8) if swapped else draw(8, 5), "b": draw(5)}
    nodes = [node("Transpose", "w", "wt", perm=[1, 0])] if swapped else []
    nodes += [node("MatMul", "x wt" if swapped else "x w", "m"),
              node("Add", "b m" if bias_first else "m b", "y")]
    reshapes = {"Reshape": 2} if len(leading) > 1 else {}
    edited = assert_fused("linear", nodes, inputs, {}, {"Gemm": 1, **reshapes})
    gemm = next(n for n in edited.graph if n.op_type == "Gemm")
    assert gemm.attributes.get_int("transB") == int(swapped)


def test_layers_of_one_input_share_its_flattened_form():
    inputs = {**LINEAR, "v": draw(8, 5, seed=3)}
    edited = model([node("MatMul", "x w", "m"), node("Add", "m b", "p"), node("MatMul", "x v", "n"),
                    node("Add", "n b", "q"), node("Mul", "p q", "y")], inputs, {})
    expected = run(edited, inputs)
    assert FUSIONS["linear"](edited) == 2
    tidy(edited)
    assert Counter(n.op_type for n in edited.graph) == {"Reshape": 3, "Gemm": 2, "Mul": 1}
    np.testing.assert_allclose(run(edited, inputs), expected, rtol=1e-5)


@pytest.mark.parametrize(("nodes", "changes"), [
    ([node("MatMul", "x w", "m"), node("Add", "m b", "y")], {"b": draw(3, 1)}),
    ([node("MatMul", "x w", "m"), node("Add", "m b", "y")], {"b": draw(1)}),
    ([node("MatMul", "x w", "m"), node("Add", "m b", "y")], {"w": draw(2, 8, 5)}),
    ([node("MatMul", "x w", "m"), node("Add", "m b", "s"), node("Mul", "m s", "y")], {}),
    ([node("MatMul", "x w", "m"), node("Add", "m m", "y")], {}),
], ids=["a number per row", "one number", "many matrices", "product read elsewhere", "no bias"])
def test_linear_is_not_seen_where_it_is_not(nodes: Nodes, changes: Arrays):
    used = {name for n in nodes for name in n.input}
    inputs = {name: array for name, array in (LINEAR | changes).items() if name in used}
    assert_left_alone("linear", nodes, inputs, {})


# --- attention -----------------------------------------------------------------------------------

Q, K, V = draw(2, 6, 5, 8), draw(2, 2, 5, 8, seed=1), draw(2, 2, 5, 8, seed=2)
CAUSAL = np.tri(5, dtype=np.bool_)
LOWEST = np.finfo(np.float32).min


def attention(mask: np.ndarray) -> tuple[Nodes, Arrays, Arrays]:
    return ([node("Attention", "q k v mask", "y")], {"q": Q, "k": K, "v": V}, {"mask": mask})


@pytest.mark.parametrize("mask", [
    CAUSAL, np.broadcast_to(CAUSAL, (2, 1, 5, 5)),
    np.where(CAUSAL, 0, -np.inf).astype(np.float32), np.where(CAUSAL, 0, LOWEST)[None, None],
], ids=["bool", "per sample", "infinite bias", "lowest bias"])
def test_a_causal_mask_becomes_an_attribute(mask: np.ndarray):
    edited = assert_fused("attention_mask", *attention(mask), {"Attention": 1})
    fused = next(iter(edited.graph))
    assert len(fused.inputs) == 3
    assert fused.attributes.get_int("is_causal") == 1


@pytest.mark.parametrize("mask", [np.ones((5, 5), np.bool_), np.zeros((1, 1, 5, 5), np.float32)],
                         ids=["bool", "bias"])
def test_a_mask_that_hides_nothing_is_dropped(mask: np.ndarray):
    edited = assert_fused("attention_mask", *attention(mask), {"Attention": 1})
    assert len(next(iter(edited.graph)).inputs) == 3
    assert "is_causal" not in next(iter(edited.graph)).attributes


@pytest.mark.parametrize("mask", [
    np.tri(5, k=1, dtype=np.bool_), np.tri(5, dtype=np.bool_).T.copy(),
    np.where(CAUSAL, 0, -1e9).astype(np.float32), np.where(CAUSAL, 0.5, -np.inf).astype(np.float32),
    np.stack([CAUSAL, np.tri(5, k=2, dtype=np.bool_)])[:, None],
], ids=["one ahead", "upper", "a finite bias", "a bias on what is seen", "one sample differs"])
def test_other_masks_stay(mask: np.ndarray):
    assert_left_alone("attention_mask", *attention(mask))


def test_a_mask_is_recognised_that_is_too_big_to_fold():
    """transformers writes the mask as comparisons; beyond 8192 elements they are not folded."""
    length = 160
    inputs = {name: draw(1, 1, length, 4, seed=seed) for seed, name in enumerate("qkv")}
    constants = {"rows": np.arange(length).reshape(1, 1, -1, 1), "all": np.bool_(True),
                 "columns": np.arange(length).reshape(1, 1, 1, -1)}
    nodes = [node("LessOrEqual", "columns rows", "below"), node("And", "all below", "both"),
             node("And", "both below", "mask"), node("Attention", "q k v mask", "y")]
    assert_fused("attention_mask", nodes, inputs, constants, {"Attention": 1})


@pytest.mark.parametrize("size", [KNOWN_ELEMENTS_MAX + 1, 4])
def test_known_arrays_are_bounded(size: int):
    edited = model([node("Expand", "one shape", "y")], {}, {
        "one": np.float32(1), "shape": np.array([size])})
    array = known_array(edited.graph.outputs[0])
    assert array is None if size > KNOWN_ELEMENTS_MAX else array.tolist() == [1.0] * size


def repeated(name: str, axis: int = 2) -> Nodes:
    return [node("Unsqueeze", f"{name} axis", f"{name}1"),
            node("Expand", f"{name}1 wide", f"{name}2"),
            node("Reshape", f"{name}2 merged", f"{name}3")]


SHAPES = {"axis": np.array([2]), "wide": np.array([2, 2, 3, 5, 8]),
          "merged": np.array([2, 6, 5, 8])}


def test_repeated_heads_are_shared():
    nodes = [*repeated("k"), *repeated("v"), node("Attention", "q k3 v3", "y")]
    edited = assert_fused(
        "grouped_query", nodes, {"q": Q, "k": K, "v": V}, SHAPES, {"Attention": 1})
    assert [value.name for value in next(iter(edited.graph)).inputs] == ["q", "k", "v"]


@pytest.mark.parametrize("shapes", [
    {"axis": np.array([1]), "wide": np.array([2, 3, 2, 5, 8])},
    {"merged": np.array([2, 5, 6, 8]), "wide": np.array([2, 2, 3, 5, 8])},
], ids=["heads in another order", "heads merged with positions"])
def test_heads_repeated_otherwise_stay(shapes: Arrays):
    nodes = [*repeated("k"), *repeated("v"), node("Attention", "q k3 v3", "y")]
    assert_left_alone("grouped_query", nodes, {"q": Q, "k": K, "v": V}, SHAPES | shapes)


# --- rotary --------------------------------------------------------------------------------------

ANGLES = np.outer(np.arange(5), [1.0, 0.1, 0.01, 0.001]).astype(np.float32)
ANGLES = np.concatenate([ANGLES, ANGLES], -1)
ROTARY = {
    "cos": np.cos(ANGLES)[None, None], "sin": np.sin(ANGLES)[None, None],
    "zero": np.array([0]), "half": np.array([4]), "end": np.array([2**63 - 1]),
    "axis": np.array([3]), "step": np.array([1])}


def rotation(*, first: str = "minus", axis: int = -1, split: bool = False) -> Nodes:
    slices = [node("Slice", "q zero half axis step", "low"),
              node("Slice", "q half end axis step", "high")]
    if split:
        slices = [node("Split", "q", "low high", axis=axis, num_outputs=2)]
    second = "low" if first == "minus" else "minus"
    return [*slices, node("Neg", "high", "minus"),
            node("Concat", f"{first} {second}", "turned", axis=axis),
            node("Mul", "q cos", "straight"), node("Mul", "turned sin", "across"),
            node("Add", "straight across", "y")]


@pytest.mark.parametrize("options", [{}, {"split": True}, {"axis": 3}], ids=str)
def test_rotary_is_fused(options: dict[str, object]):
    edited = assert_fused("rotary", rotation(**options), {"q": Q}, ROTARY, {"RotaryEmbedding": 1})
    assert edited.graph.node(0).inputs[1].shape == (2, 5, 4)


def test_rotary_with_angles_per_sample():
    angles = np.stack([ANGLES, 2 * ANGLES])[:, None]
    constants = ROTARY | {"cos": np.cos(angles), "sin": np.sin(angles)}
    assert_fused("rotary", rotation(), {"q": Q}, constants, {"RotaryEmbedding": 1})


@pytest.mark.parametrize(("options", "changes"), [
    ({"first": "low"}, {}), ({}, {"half": np.array([3])}),
    ({}, {"cos": np.arange(8, dtype=np.float32).reshape(1, 1, 1, 8) * np.ones((5, 1), np.float32)}),
], ids=["the other way round", "another place to split", "another angle in the second half"])
def test_rotary_is_not_seen_where_it_is_not(options: dict[str, str], changes: Arrays):
    nodes, constants = rotation(**options), ROTARY | changes
    if "half" in changes:
        constants["sin"] = constants["sin"][..., :1]
    assert_left_alone("rotary", nodes, {"q": Q}, constants)
