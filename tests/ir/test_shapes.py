"""Type inference against three judges: ONNX's own conformance cases, ONNX's own shape inference on
random calls, and cases written by hand for values, limits and messages."""

from __future__ import annotations

import random
import warnings
from dataclasses import replace

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper, numpy_helper

from homespun.errors import Code, HomespunError
from ir.graph import ITEM_BYTES, Node, TensorType
from ir.operators import FAMILIES, OPERATORS, OPSET, misuse
from ir.shapes import MAX_HOST_ELEMENTS, infer, verify_types
from ir.shapes.einsum import parse_einsum
from ir.shapes.elementwise import ONNX_DTYPES

ELEMENT_TYPES = {name: number for number, name in ONNX_DTYPES.items()}


def _attribute(proto):
    value = helper.get_attribute_value(proto)
    if isinstance(value, onnx.TensorProto):
        return numpy_helper.to_array(value)
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, list):
        return tuple(item.decode() if isinstance(item, bytes) else item for item in value)
    return value


def _nodes(graph):
    return [
        Node(index, node.name or f"n{index}", node.op_type, tuple(node.input), tuple(node.output),
             {proto.name: _attribute(proto) for proto in node.attribute})
        for index, node in enumerate(graph.node)]


def _supported(case):
    graph = case.model.graph
    if any(node.op_type not in OPERATORS or node.domain for node in graph.node):
        return False
    if any(misuse(node) for node in _nodes(graph)):
        return False
    arrays = [np.asarray(array) for arrays in case.data_sets[0] for array in arrays]
    return all(str(array.dtype) in ITEM_BYTES for array in arrays)


@pytest.fixture(scope="module")
def conformance_cases():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # numpy overflows on purpose while cases are made
        from onnx.backend.test.case.node import collect_testcases

        return [case for case in collect_testcases(None) if _supported(case)]


def test_types_and_values_agree_with_the_conformance_cases_of_onnx(conformance_cases):
    wrong, seen, valued = [], set(), 0
    for case in conformance_cases:
        graph = case.model.graph
        inputs, outputs = ([np.asarray(a) for a in arrays] for arrays in case.data_sets[0])
        arrays = {info.name: array for info, array in zip(graph.input, inputs, strict=False)}
        types = {name: TensorType(str(a.dtype), a.shape) for name, a in arrays.items()}
        nodes = _nodes(graph)
        # Inputs stand for constants here, so that shapes given as inputs are known.
        found = infer(nodes, types, arrays)
        seen.update(node.op_type for node in nodes)
        for info, array in zip(graph.output, outputs, strict=False):
            if found.types[info.name] != TensorType(str(array.dtype), array.shape):
                wrong.append((case.name, found.types[info.name], array.dtype, array.shape))
            if info.name in found.values:
                valued += 1
                if not np.array_equal(found.values[info.name], array):
                    wrong.append((case.name, found.values[info.name], array))
    assert not wrong
    assert len(conformance_cases) > 1100
    assert valued > 150
    without_case = {"GlobalLpPool", "Multinomial", "RandomNormal", "RandomNormalLike",
                    "RandomUniform"}
    assert seen == set(OPERATORS) - without_case


# --- random calls against onnx.shape_inference ---------------------------------------------------


def _shape(rng, low=1, high=4, extent=6):
    return tuple(rng.randint(1, extent) for _ in range(rng.randint(low, high)))


def _thinned(rng, shape):
    """A shape that broadcasts with `shape`."""
    shape = tuple(1 if rng.random() < 0.3 else extent for extent in shape)
    return shape[rng.randint(0, len(shape)):]


def _random_call(rng):
    """(op_type, input shapes, int64 constants by position, attributes), valid by construction."""
    kind = rng.choice(sorted(CALLS))
    return CALLS[kind](rng)


def _reduce_call(rng):
    shape = _shape(rng)
    axes = rng.sample(range(-len(shape), 0), rng.randint(0, len(shape)))
    op_type = rng.choice(FAMILIES["Reductions"])
    attributes = {"keepdims": rng.randint(0, 1), "noop_with_empty_axes": rng.randint(0, 1)}
    return op_type, [shape], {1: axes}, attributes


def _slice_call(rng):
    shape = _shape(rng)
    axes = rng.sample(range(len(shape)), rng.randint(1, len(shape)))
    starts = [rng.randint(-8, 8) for _ in axes]
    ends = [rng.choice([rng.randint(-8, 8), 2**63 - 1, -(2**63) + 1]) for _ in axes]
    steps = [rng.choice([-3, -2, -1, 1, 2, 3]) for _ in axes]
    return "Slice", [shape], {1: starts, 2: ends, 3: axes, 4: steps}, {}


def _pad_call(rng):
    shape = _shape(rng)
    return "Pad", [shape], {1: [rng.randint(0, 3) for _ in range(2 * len(shape))]}, {}


def _reshape_call(rng):
    shape = _shape(rng)
    target = list(shape) + [1] * rng.randint(0, 2)
    rng.shuffle(target)
    target[rng.randrange(len(target))] = -1
    return "Reshape", [shape], {1: target}, {}


def _window_attributes(rng, axes):
    padding = rng.choice([{}, {"pads": [rng.randint(0, 1) for _ in range(2 * axes)]},
                          {"auto_pad": rng.choice(["SAME_UPPER", "SAME_LOWER", "VALID"])}])
    strides = {"strides": [rng.randint(1, 3) for _ in range(axes)]}
    return {**padding, **strides}


def _conv_call(rng):
    axes, groups = rng.randint(1, 3), rng.randint(1, 2)
    kernel = tuple(rng.randint(1, 3) for _ in range(axes))
    data = (2, 2 * groups, *(rng.randint(5, 9) for _ in kernel))
    attributes = {**_window_attributes(rng, axes), "group": groups}
    if "auto_pad" not in attributes:
        attributes["dilations"] = [rng.randint(1, 2) for _ in kernel]
    return "Conv", [data, (3 * groups, 2, *kernel)], {}, attributes


def _conv_transpose_call(rng):
    _, (data, weight), constants, attributes = _conv_call(rng)
    groups = attributes["group"]
    # Where the window is smaller than the stride, onnx.shape_inference computes less than the
    # `input * stride` that the operator reference promises; we follow the reference.
    attributes["strides"] = [min(pair) for pair in zip(
        attributes["strides"], weight[2:], strict=True)]
    return "ConvTranspose", [data, (2 * groups, 3, *weight[2:])], constants, attributes


def _pool_call(rng):
    axes = rng.randint(1, 3)
    kernel = [rng.randint(2, 3) for _ in range(axes)]
    attributes = {**_window_attributes(rng, axes), "kernel_shape": kernel}
    if "auto_pad" not in attributes:
        attributes["ceil_mode"] = rng.randint(0, 1)
    data = (2, 3, *(rng.randint(5, 9) for _ in kernel))
    return rng.choice(["MaxPool", "AveragePool"]), [data], {}, attributes


def _matmul_call(rng):
    batch = _shape(rng, 0, 2)
    rows, inner, columns = (rng.randint(1, 5) for _ in range(3))
    left = (*_thinned(rng, batch), rows, inner)
    right = (*_thinned(rng, batch), inner, columns)
    return "MatMul", [left if rng.random() < 0.8 else (inner,), right], {}, {}


def _gemm_call(rng):
    rows, inner, columns = (rng.randint(1, 5) for _ in range(3))
    left, right = rng.randint(0, 1), rng.randint(0, 1)
    shapes = [(inner, rows) if left else (rows, inner), (columns, inner) if right else (
        inner, columns), _thinned(rng, (rows, columns))]
    return "Gemm", shapes, {}, {"transA": left, "transB": right}


def _concat_call(rng):
    shape = list(_shape(rng))
    axis = rng.randrange(-len(shape), len(shape))
    shapes = []
    for _ in range(rng.randint(1, 3)):
        shape[axis] = rng.randint(1, 4)
        shapes.append(tuple(shape))
    return "Concat", shapes, {}, {"axis": axis}


def _gather_call(rng):
    shape = _shape(rng)
    return "Gather", [shape], {1: [0] * rng.randint(1, 3)}, {
        "axis": rng.randrange(-len(shape), len(shape))}


def _broadcast_call(rng):
    shape = _shape(rng)
    return rng.choice(["Add", "Mul", "Pow", "Max"]), [shape, _thinned(rng, shape)], {}, {}


def _top_k_call(rng):
    shape = _shape(rng)
    axis = rng.randrange(-len(shape), len(shape))
    return "TopK", [shape], {1: [rng.randint(1, shape[axis])]}, {"axis": axis}


def _move_call(rng):
    shape = _shape(rng)
    order = rng.sample(range(len(shape)), len(shape))
    axis = rng.randint(-len(shape), len(shape))
    return rng.choice([
        ("Transpose", [shape], {}, {"perm": order}),
        ("Flatten", [shape], {}, {"axis": axis}),
        ("Tile", [shape], {1: [rng.randint(1, 3) for _ in shape]}, {}),
        ("Expand", [_thinned(rng, shape)], {1: shape}, {}),
        ("Unsqueeze", [shape], {1: rng.sample(range(len(shape) + 2), 2)}, {}),
        ("ArgMax", [shape], {}, {"axis": order[0], "keepdims": rng.randint(0, 1)}),
        ("LayerNormalization", [shape, shape[order[0]:]], {}, {"axis": order[0]}),
    ])


CALLS = {
    function.__name__: function for function in (
        _reduce_call, _slice_call, _pad_call, _reshape_call, _conv_call, _conv_transpose_call,
        _pool_call, _matmul_call, _gemm_call, _concat_call, _gather_call, _broadcast_call,
        _top_k_call, _move_call)}


def _onnx_types(op_type, shapes, constants, attributes, outputs):
    names = [f"x{k}" for k in range(len(shapes))]
    inputs = list(names)
    for position in sorted(constants):
        inputs.insert(position, f"c{position}")
    graph = helper.make_graph(
        [helper.make_node(op_type, inputs, outputs, **attributes)], "g",
        [helper.make_tensor_value_info(n, 1, s) for n, s in zip(names, shapes, strict=True)],
        [onnx.ValueInfoProto(name=name) for name in outputs],
        [numpy_helper.from_array(np.array(v, np.int64), f"c{k}") for k, v in constants.items()])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)])
    inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)
    return inputs, [
        TensorType(ONNX_DTYPES[o.type.tensor_type.elem_type],
                   tuple(d.dim_value for d in o.type.tensor_type.shape.dim))
        for o in inferred.graph.output]


@settings(max_examples=600, deadline=None, derandomize=True)
@given(st.integers(0, 2**32))
def test_random_calls_agree_with_onnx_shape_inference(seed):
    op_type, shapes, constants, attributes = _random_call(random.Random(seed))
    outputs = ["y", "z"] if op_type == "TopK" else ["y"]
    inputs, expected = _onnx_types(op_type, shapes, constants, attributes, outputs)
    ours = {k: tuple(v) if isinstance(v, list) else v for k, v in attributes.items()}
    found = infer(
        [Node(0, "n", op_type, tuple(inputs), tuple(outputs), ours)],
        {f"x{k}": TensorType("float32", tuple(s)) for k, s in enumerate(shapes)},
        {f"c{k}": np.array(v, np.int64) for k, v in constants.items()})
    assert [found.types[name] for name in outputs] == expected, (op_type, shapes, attributes)


# --- values that are known before the run --------------------------------------------------------


def test_a_reshape_by_computed_extents_works(builder):
    b = builder
    x = b.data("x", 2, 3, 8)
    shape = b.node("Shape", x)
    rows = b.node("Mul", b.node("Gather", shape, b.constant(0)),
                  b.node("Gather", shape, b.constant(1)))
    target = b.node("Concat", b.node("Unsqueeze", rows, b.constant([0])), b.constant([-1]), axis=0)
    y = b.node("Reshape", x, target)
    assert b.build(y).types[y] == TensorType("float32", (6, 8))


def test_values_of_data_are_not_known(builder):
    x = builder.data("x", 3, 4)
    shape = builder.data("shape", 2, dtype="int64")
    builder.node("Reshape", x, shape)
    with pytest.raises(HomespunError, match="input 1 'shape' must be known") as error:
        builder.build("v0")
    assert error.value.code is Code.INVALID_GRAPH


def test_an_arange_of_floats_from_a_shape(builder):
    b = builder
    length = b.node("Cast", b.node("Gather", b.node("Shape", b.data("x", 7, 5)), b.constant(1)),
                    to=ELEMENT_TYPES["float32"])
    y = b.node("Range", b.constant(0.0, "float32"), length, b.constant(0.5, "float32"))
    assert b.build(y).types[y] == TensorType("float32", (10,))


def _value(builder, op_type, *operands, **attributes):
    names = [builder.constant(value, dtype) for value, dtype in operands]
    result = builder.node(op_type, *names, **attributes)
    return infer(builder.nodes, {}, builder.constants).values[result]


@pytest.mark.parametrize(("op_type", "left", "right", "expected"), [
    ("Div", [7, -7, 7, -7], [2, 2, -2, -2], [3, -3, -3, 3]),
    ("Mod", [7, -7, 7, -7], [3, 3, -3, -3], [1, 2, -2, -1]),
    ("Pow", [2, -1, 0], [10, 10**9, 5], [1024, 1, 0]),
    ("Max", [1, 5], [3], [3, 5]),
])
def test_integer_arithmetic_on_the_host(builder, op_type, left, right, expected):
    found = _value(builder, op_type, (left, "int64"), (right, "int64"))
    assert found.dtype == np.int64
    assert found.tolist() == expected


def test_truncating_remainder(builder):
    assert _value(builder, "Mod", ([-7], "int64"), ([3], "int64"), fmod=1).tolist() == [-1]


@pytest.mark.parametrize(("op_type", "left", "right", "code"), [
    ("Mul", 2**62, 4, Code.LIMIT_EXCEEDED),
    ("Add", 2**63 - 1, 1, Code.LIMIT_EXCEEDED),
    ("Pow", 3, 2**62, Code.LIMIT_EXCEEDED),
    ("Div", 1, 0, Code.INVALID_GRAPH),
    ("Mod", 1, 0, Code.INVALID_GRAPH),
    ("Pow", 2, -1, Code.INVALID_GRAPH),
])
def test_results_that_do_not_exist_are_refused(builder, op_type, left, right, code):
    with pytest.raises(HomespunError) as error:
        _value(builder, op_type, (left, "int64"), (right, "int64"))
    assert error.value.code is code


def test_a_gather_out_of_range_is_refused(builder):
    with pytest.raises(HomespunError, match=r"outside \[-2, 1\]"):
        _value(builder, "Gather", ([1, 2], "int64"), ([2], "int64"))


def test_infinity_does_not_become_an_integer(builder):
    with pytest.raises(HomespunError, match="not finite"):
        _value(builder, "Cast", (float("inf"), "float32"), to=7)


def test_nothing_large_is_computed(builder):
    b = builder
    small = b.node("Expand", b.constant([1]), b.constant([MAX_HOST_ELEMENTS]))
    large = b.node("Expand", b.constant([1]), b.constant([MAX_HOST_ELEMENTS + 1]))
    huge = b.node("ConstantOfShape", b.constant([2**31, 8]))
    found = infer(b.nodes, {}, b.constants)
    assert small in found.values
    assert large not in found.values
    assert found.types[huge] == TensorType("float32", (2**31, 8))


# --- limits and messages -------------------------------------------------------------------------


@pytest.mark.parametrize(("shape", "limit"), [
    ([2**31 + 1], "elements along one axis"),
    ([2**62, 2**62], "elements along one axis"),
    ([2**20, 2**20, 2**20], "bytes"),
    ([1] * 17, "axes"),
])
def test_tensors_over_a_limit_are_refused(builder, shape, limit):
    builder.node("ConstantOfShape", builder.constant(shape))
    with pytest.raises(HomespunError, match=limit) as error:
        infer(builder.nodes, {}, builder.constants)
    assert error.value.code is Code.LIMIT_EXCEEDED
    assert "ConstantOfShape_0" in error.value.message


def test_an_input_over_a_limit_is_refused():
    with pytest.raises(HomespunError, match="value 'x'"):
        infer([], {"x": TensorType("float32", (2**31, 2**31))}, {})


def test_a_float_range_without_end_is_refused(builder):
    b = builder
    b.node("Range", *(b.constant(v, "float32") for v in (0.0, float("inf"), 1.0)))
    with pytest.raises(HomespunError) as error:
        infer(b.nodes, {}, b.constants)
    assert error.value.code is Code.LIMIT_EXCEEDED


BAD_CALLS = [
    ("Add", [(2, 3), (4,)], {}, {}, "do not broadcast"),
    ("MatMul", [(2, 3), (4, 5)], {}, {}, "3 columns meet 4 rows"),
    ("Gemm", [(2, 3), (3, 4), (5, 4)], {}, {}, "broadcast"),
    ("Reshape", [(2, 3)], {1: [4, 2]}, {}, "6 elements"),
    ("Reshape", [(2, 3)], {1: [-1, -1]}, {}, "one -1"),
    ("Reshape", [(2, 3)], {1: [-1, 4]}, {}, "cannot become"),
    ("Squeeze", [(2, 3)], {1: [0]}, {}, "extent is not 1"),
    ("Unsqueeze", [(2, 3)], {1: [0, 0]}, {}, "named twice"),
    ("Transpose", [(2, 3)], {}, {"perm": (0, 0)}, "no permutation"),
    ("Concat", [(2, 3), (2, 4)], {}, {"axis": 0}, "differ outside axis 0"),
    ("Softmax", [(2, 3)], {}, {"axis": 2}, "outside"),
    ("Slice", [(2, 3)], {1: [0], 2: [1], 3: [0], 4: [0]}, {}, "step is 0"),
    ("Expand", [(2, 3)], {1: [-2, 3]}, {}, "negative extent"),
    ("Pad", [(2, 3)], {1: [-3, 0, 0, 0]}, {}, "negative extent"),
    ("TopK", [(2, 3)], {1: [4]}, {}, "k is 4"),
    ("Conv", [(1, 3, 5, 5), (4, 2, 3, 3)], {}, {}, "do not fit with 1 groups"),
    ("Conv", [(1, 3, 2, 2), (4, 3, 3, 3)], {}, {}, "does not fit extent 2"),
    ("Conv", [(1, 3, 5, 5), (4, 3, 3, 3)], {}, {"strides": (0, 1)}, "must be positive"),
    ("MaxPool", [(1, 3, 5, 5)], {}, {"kernel_shape": (2,)}, "does not fit data"),
    ("Attention", [(1, 3, 5, 8), (1, 2, 5, 8), (1, 2, 5, 8)], {}, {}, "no multiple"),
    ("Einsum", [(2, 3), (4, 5)], {}, {"equation": "ij,jk->ik"}, "extents 3 and 4"),
    ("Einsum", [(2, 3)], {}, {"equation": "i1->i"}, "no letters"),
    ("BatchNormalization", [(2, 3, 4), (3,), (3,), (3,), (4,)], {}, {}, "input 4"),
    ("BatchNormalization", [(2,), (2,), (2,), (2,), (2,)], {}, {}, "channels"),
    ("GroupNormalization", [(1, 6, 4), (6,), (6,)], {}, {"num_groups": 4}, "4 groups"),
    ("Cast", [(2,)], {}, {"to": 8}, "unsupported"),
    ("Cast", [(2,)], {}, {"to": "float"}, "must be an integer"),
    ("Not", [(2,)], {}, {}, "dtype float32"),
]


@pytest.mark.parametrize(("op_type", "shapes", "constants", "attributes", "message"), BAD_CALLS)
def test_contradictions_are_named(builder, op_type, shapes, constants, attributes, message):
    inputs = [builder.data(f"x{k}", *shape) for k, shape in enumerate(shapes)]
    for position in sorted(constants):
        inputs.insert(position, builder.constant(constants[position]))
    builder.node(op_type, *inputs, **attributes)
    with pytest.raises(HomespunError, match=message) as error:
        builder.build("v0")
    assert error.value.code is Code.INVALID_GRAPH
    assert error.value.details["op"] == op_type
    assert f"'{op_type}_0'" in error.value.message


def test_operators_outside_the_list_are_refused():
    with pytest.raises(HomespunError, match="operator Loop") as error:
        infer([Node(3, "l", "Loop", (), ("y",))], {}, {})
    assert error.value.code is Code.UNSUPPORTED_OP
    assert error.value.details == {"op": "Loop", "node": "3", "opset": "23"}


def test_reading_what_nothing_produces_is_refused():
    with pytest.raises(HomespunError, match="reads 'ghost'"):
        infer([Node(0, "n", "Relu", ("ghost",), ("y",))], {}, {})


@pytest.mark.parametrize(("op_type", "seed"), [(n, s) for n in OPERATORS for s in range(12)])
def test_nonsense_never_crashes(op_type, seed):
    """Whatever the inputs and attributes, the answer is types or a HomespunError."""
    rng = random.Random(f"{op_type} {seed}")
    info = OPERATORS[op_type]
    types, constants, inputs = {}, {}, []
    for position in range(rng.randint(0, min(info.max_inputs or 4, 6) + 1)):
        name = f"x{position}"
        if rng.random() < 0.4:
            dtype = rng.choice(["int64", "bool", "float32"])
            constants[name] = np.array(
                [rng.randint(-2, 3) for _ in range(rng.randint(0, 4))], dtype=dtype)
        else:
            types[name] = TensorType(
                rng.choice(sorted(ITEM_BYTES)), tuple(rng.choices([0, 1, 2, 2**30], k=seed % 5)))
        inputs.append(name if rng.random() < 0.95 else "")
    choices = [0, 1, -1, 7, 2**60, "x", (0,), (1, -1), 1.5, np.zeros(1), b"\xff"]
    attributes = {
        name: rng.choice(choices)
        for name in (*info.required, *info.optional) if rng.random() < 0.6}
    outputs = tuple(f"y{k}" for k in range(rng.randint(1, 3)))
    try:
        found = infer([Node(0, "n", op_type, tuple(inputs), outputs, attributes)], types, constants)
        code = None
    except HomespunError as error:
        code = error.code
    assert code in (None, Code.INVALID_GRAPH, Code.LIMIT_EXCEEDED)
    assert code is not None or set(outputs) <= set(found.types)


# --- declared types ------------------------------------------------------------------------------


def test_declared_types_that_agree_pass(mlp):
    verify_types(mlp)


def test_a_wrong_declaration_is_named(mlp):
    wrong = replace(mlp, types={**mlp.types, "v2": TensorType("float32", (4, 9))})
    with pytest.raises(HomespunError) as error:
        verify_types(wrong)
    assert error.value.code is Code.INVALID_GRAPH
    for part in ("Node 2", "Gemm_2", "'v2'", "expected float32 (4, 8)", "float32 (4, 9)"):
        assert part in error.value.message


def test_a_missing_declaration_is_named(mlp):
    types = {name: type_ for name, type_ in mlp.types.items() if name != "v3"}
    with pytest.raises(HomespunError, match="nothing is declared"):
        verify_types(replace(mlp, types=types))
    types = {name: type_ for name, type_ in mlp.types.items() if name != "x"}
    with pytest.raises(HomespunError, match="Input 'x' has no declared type"):
        verify_types(replace(mlp, types=types))


def test_a_constant_of_another_type_is_named(builder):
    builder.node("Relu", builder.constant([1.0], "float32"))
    graph = builder.build("v0")
    wrong = replace(graph, types={**graph.types, "c0": TensorType("float32", (2,))})
    with pytest.raises(HomespunError, match="Constant 'c0'"):
        verify_types(wrong)


@pytest.mark.parametrize(("equation", "shapes", "expected"), [
    ("ij,jk->ik", [(2, 3), (3, 4)], (2, 4)),
    ("ij,jk", [(2, 3), (3, 4)], (2, 4)),
    ("b...i,...i->b...", [(5, 2, 3), (2, 3)], (5, 2)),
    ("...ij,...jk", [(7, 1, 2, 3), (6, 3, 4)], (7, 6, 2, 4)),
    ("ii->i", [(3, 3)], (3,)),
    ("i,i->", [(3,), (3,)], ()),
    (" b a -> a b ", [(1, 2)], (2, 1)),
])
def test_einsum_shapes_agree_with_numpy(equation, shapes, expected):
    assert parse_einsum(equation, shapes).shape == expected
    assert np.einsum(equation, *(np.zeros(shape) for shape in shapes)).shape == expected
