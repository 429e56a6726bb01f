import importlib.util
from pathlib import Path

import pytest
from onnx import defs

from ir.graph import FLOATS, ITEM_BYTES, Node, TensorType
from ir.operators import FAMILIES, OPERATORS, OPSET, OPSETS, OpClass, misuse, opset_of
from ir.shapes import infer
from ir.shapes.inference import RULES

ROOT = Path(__file__).resolve().parent.parent.parent
ANY_NUMBER = 2**31 - 1
NOT_FOR_TENSORS = {"pool_strings", "sparse_value", "value_string", "value_strings"}
ONNX_NAMES = {
    "float": "float32", "double": "float64", "float8e4m3fn": "float8_e4m3fn",
    "float8e4m3fnuz": "float8_e4m3fnuz", "float8e5m2": "float8_e5m2",
    "float8e5m2fnuz": "float8_e5m2fnuz", "float4e2m1": "float4_e2m1fn",
    "float8e8m0": "float8_e8m0fnu"}


@pytest.mark.parametrize("name", OPERATORS)
def test_the_list_agrees_with_onnx(name):
    schema, info = defs.get_schema(name, OPSETS[-1], ""), OPERATORS[name]
    assert info.min_inputs == schema.min_input
    assert (info.max_inputs or ANY_NUMBER) == schema.max_input or info.max_inputs == 0
    assert (info.max_outputs or ANY_NUMBER) == schema.max_output
    required = {key for key, attribute in schema.attributes.items() if attribute.required}
    assert set(info.required) == required
    assert set(info.optional) == set(schema.attributes) - required - NOT_FOR_TENSORS


@pytest.mark.parametrize("name", OPERATORS)
def test_what_is_newer_than_the_usual_opset_says_since_when(name):
    info, newest = OPERATORS[name], defs.get_schema(name, OPSETS[-1], "")
    oldest = min(version for version in OPSETS if _has(name, version))
    assert info.since == oldest
    first = {}
    for version in reversed(range(oldest, OPSETS[-1] + 1)):
        schema = defs.get_schema(name, version, "")
        first |= dict.fromkeys(schema.attributes, version)
        if newest.max_input < ANY_NUMBER:
            first |= {f"input {at}": version for at in range(schema.max_input)}
    known = {*info.required, *info.optional, *(f"input {at}" for at in range(info.max_inputs or 0))}
    assert info.newer == {part: version for part, version in first.items()
                          if part in known and version > oldest}


def _has(name, version):
    try:
        return not defs.get_schema(name, version, "").deprecated
    except defs.SchemaError:
        return False


def test_opset_of_a_node():
    assert opset_of(Node(0, "n", "Cast", ("a",), ("y",), {"to": 1})) == OPSET
    assert opset_of(Node(0, "n", "Cast", ("a",), ("y",), {"to": 1, "round_mode": "up"})) == 24
    queries = ("q", "k", "v", "", "", "", "n")
    assert opset_of(Node(0, "n", "Attention", queries, ("y",))) == 24


def test_each_operator_has_a_type_rule_and_one_family():
    assert set(RULES) == set(OPERATORS)
    listed = [name for names in FAMILIES.values() for name in names]
    assert sorted(listed) == list(OPERATORS)


def test_classes_that_matter_for_speed():
    classes = {name: info.op_class for name, info in OPERATORS.items()}
    assert {n for n, c in classes.items() if c is OpClass.MATMUL} == {
        "Einsum", "GRU", "Gemm", "LSTM", "MatMul", "MatMulInteger", "QLinearMatMul", "RNN"}
    assert {n for n, c in classes.items() if c is OpClass.CONVOLUTION} == {
        "Conv", "ConvInteger", "ConvTranspose", "DeformConv", "QLinearConv"}
    assert {n for n, c in classes.items() if c is OpClass.ATTENTION} == {"Attention"}
    assert {n for n, i in OPERATORS.items() if i.random} == {"Dropout", *FAMILIES["Random"]}


def _element_wise_of_one_input():
    return [
        name for name in FAMILIES["Element-wise"]
        if OPERATORS[name].min_inputs == 1 and name not in ("BitCast", "Cast", "Dropout")]


@pytest.mark.parametrize("name", _element_wise_of_one_input())
def test_accepted_dtypes_of_element_wise_operators_agree_with_onnx(name):
    schema = defs.get_schema(name, OPSETS[-1], "")
    allowed = {text.removeprefix("tensor(").removesuffix(")") for text in schema.inputs[0].types}
    allowed = {ONNX_NAMES.get(text, text) for text in allowed}
    accepted = set()
    for dtype in ITEM_BYTES:
        try:
            infer([Node(0, "n", name, ("x",), ("y",))], {"x": TensorType(dtype, (2,))}, {})
        except Exception:
            continue
        accepted.add(dtype)
    assert accepted == allowed & set(ITEM_BYTES)


@pytest.mark.parametrize(("node", "fault"), [
    (Node(0, "n", "Add", ("a",), ("y",)), "1 inputs; the operator takes 2"),
    (Node(0, "n", "Clip", ("", "a"), ("y",)), "input 0 is left out"),
    (Node(0, "n", "Sum", ("a", ""), ("y",)), "all inputs"),
    (Node(0, "n", "Relu", ("a",), ("y", "z")), "2 outputs; the operator has 1"),
    (Node(0, "n", "Relu", ("a",), ()), "0 outputs"),
    (Node(0, "n", "Cast", ("a",), ("y",)), "attribute 'to' is missing"),
    (Node(0, "n", "Relu", ("a",), ("y",), {"to": 1}), "attribute 'to' is not one"),
    (Node(0, "n", "Concat", (), ("y",), {"axis": 0}), "takes 1 or more"),
    (Node(0, "n", "Clip", ("a", "", "m"), ("y",)), None),
    (Node(0, "n", "Split", ("a",), ("y", "z", "w")), None),
])
def test_misuse_says_what_is_wrong(node, fault):
    found = misuse(node)
    assert found is None if fault is None else fault in found


def test_a_differentiable_operator_takes_floats():
    # Otherwise a gradient could never pass, and the table would be wrong.
    for name, info in OPERATORS.items():
        if info.differentiable:
            inputs = defs.get_schema(name, OPSETS[-1], "").inputs
            types = {text[len("tensor("):-1] for each in inputs for text in each.types}
            assert {ONNX_NAMES.get(text, text) for text in types} & FLOATS, name


def test_the_page_is_fresh():
    path = ROOT / "scripts" / "operators_doc.py"
    spec = importlib.util.spec_from_file_location("operators_doc", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.TARGET.read_text(encoding="utf-8") == module.render()
