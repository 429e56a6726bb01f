"""The ONNX Runtime executor: the same answers as torch, in inference only."""

from dataclasses import replace

import ml_dtypes
import numpy as np
import pytest

from homespun.errors import Code, HomespunError
from ir.cut import cut
from ir.graph import INFER, Graph, Node, TensorType
from ir.operators import RANDOM_OPERATORS
from peer.executor.base import SegmentProgram, WorkKey
from peer.executor.onnxruntime_executor.inference_form import inference_graph
from peer.executor.onnxruntime_executor.probe import PREFERRED
from peer.executor.onnxruntime_executor.session import Place, Session
from peer.executor.registry import create
from peer.hardware import measure
from tests.pipeline import training_spec

INFERENCE = WorkKey(mode="infer", step=0, microbatch=0)
F32 = {"rtol": 1e-4, "atol": 1e-5}
"""Between two numeric classes: kernels of both sum float32 in orders of their own."""


def graph_of(nodes, outputs, parameters, **types):
    """A graph from (op_type, inputs, outputs[, attributes]); by default all is float32[4, 8]."""
    made = tuple(Node(index, f"n{index}", *node[:3], *node[3:]) for index, node in enumerate(nodes))
    names = {name for node in made for name in (*node.inputs, *node.outputs) if name}
    kinds = {name: TensorType("float32", (4, 8)) for name in names} | types
    inputs = tuple(sorted(names - set(parameters) - {o for node in made for o in node.outputs}))
    return Graph(opset=23, nodes=made, inputs=inputs, parameters=tuple(parameters),
                 outputs=tuple(outputs), constants={}, types=kinds)


def infer(executors, graph, parts, parameters, data):
    """The results of a graph, its parts on executors in turn, and each part's loaded segment."""
    segments = cut(graph, parts, frozenset(), INFER)
    arrays, results, all_loaded = {}, {}, []
    for segment, executor in zip(segments, executors, strict=True):
        program = SegmentProgram(graph=graph, segment=segment, training=training_spec(),
                                 trainable=frozenset(), kind=INFER)
        names = [*segment.parameters, *(t.value for t in segment.incoming)]
        loaded = create(executor, "cpu", 1).load(
            program, {name: parameters[name] for name in names if name in parameters})
        given = loaded.forward(
            INFERENCE, {name: data[name] for name in segment.data_inputs},
            {t.edge: arrays[t.edge] for t in segment.incoming if t.edge in arrays})
        arrays.update(given.outputs)
        results.update(given.results)
        all_loaded.append(loaded)
    return results, all_loaded


def random_arrays(graph, names, seed=0):
    draw = np.random.default_rng(seed)
    return {name: np.asarray(draw.standard_normal(graph.types[name].shape), np.float32)
            for name in names}


@pytest.fixture
def small():
    """x @ w, dropout, batch norm, x @ w again: tied across a cut, and two modes."""
    square = TensorType("float32", (8, 8))
    row = dict.fromkeys(("scale", "bias", "mean", "variance", "m1", "v1"),
                        TensorType("float32", (8,)))
    graph = graph_of(
        [("MatMul", ("x", "w"), ("a",)),
         ("Dropout", ("a", "ratio", "training"), ("b", "mask")),
         ("BatchNormalization", ("b", "scale", "bias", "mean", "variance"), ("c", "m1", "v1"),
          {"training_mode": 1}),
         ("MatMul", ("c", "w"), ("d",)),
         ("Gelu", ("d",), ("y",))],
        ["y", "m1"], ["w", *list(row)[:4]], w=square, mask=TensorType("bool", (4, 8)), **row)
    constants = {"ratio": np.float32(0.5).reshape(()), "training": np.array(True)}
    types = {**graph.types, "ratio": TensorType("float32", ()), "training": TensorType("bool", ())}
    graph = replace(graph, inputs=("x",), constants=constants, types=types)
    parameters = random_arrays(graph, graph.parameters)
    parameters["variance"] = np.abs(parameters["variance"]) + 0.5
    return graph, parameters, random_arrays(graph, ("x",), seed=1)


@pytest.mark.parametrize("executors", [
    ("onnxruntime",), ("onnxruntime", "onnxruntime"), ("torch", "onnxruntime"),
    ("onnxruntime", "torch")])
def test_equals_torch_wherever_it_is_cut(small, executors):
    graph, parameters, data = small
    parts = [range(5)] if len(executors) == 1 else [range(2), range(2, 5)]
    (wanted, _), (got, _) = (infer(each, graph, parts, parameters, data)
                             for each in (("torch",) * len(parts), executors))
    assert set(got) == {"y", "m1"}
    for name in got:
        np.testing.assert_allclose(got[name], wanted[name], **F32)
    # In inference the running statistics stay what they are.
    np.testing.assert_array_equal(got["m1"], parameters["mean"])


def test_the_same_bits_every_time(small):
    graph, parameters, data = small
    (first, _), (second, _) = (
        infer(["onnxruntime"], graph, [range(5)], parameters, data) for _ in range(2))
    assert first["y"].tobytes() == second["y"].tobytes()


def test_what_needs_training_is_refused(small):
    graph, parameters, data = small
    _, (loaded,) = infer(["onnxruntime"], graph, [range(5)], parameters, data)
    for call in (
            lambda: loaded.forward(replace(INFERENCE, mode="train"), data, {}),
            lambda: loaded.backward(INFERENCE, {}), lambda: loaded.accumulate(INFERENCE),
            lambda: loaded.set_shared({}), loaded.shared_gradients,
            lambda: loaded.squared_norms({}), lambda: loaded.update(0, 1.0)):
        with pytest.raises(HomespunError) as caught:
            call()
        assert caught.value.code == Code.CONFLICT
        assert "does not train" in caught.value.message
    assert not loaded.has_deferred(INFERENCE)
    assert loaded.parameters().keys() == set(graph.parameters)
    loaded.close()


def test_tied_parameters_are_given_to_each_segment(small):
    graph, parameters, data = small
    _, (first, second) = infer(
        ["onnxruntime"] * 2, graph, [range(2), range(2, 5)], parameters, data)
    (shared,) = first.shared_values().values()
    np.testing.assert_array_equal(shared, parameters["w"])
    assert "w" not in second.parameters()


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float64", "int8", "bool"])
@pytest.mark.parametrize("shape", [(), (3,), (0, 2)])
def test_every_dtype_crosses_unchanged(dtype, shape):
    kind = TensorType(dtype, shape)
    graph = graph_of([("Identity", ("x",), ("y",))], ["y"], [], x=kind, y=kind)
    numpy_dtype = ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype
    data = {"x": np.ones(shape).astype(numpy_dtype)}
    results, _ = infer(["onnxruntime"], graph, [range(1)], {}, data)
    assert results["y"].dtype == data["x"].dtype
    assert results["y"].shape == shape
    np.testing.assert_array_equal(results["y"].view(), data["x"])


def test_an_operator_without_a_kernel_names_the_node():
    kind = TensorType("bfloat16", (2,))
    graph = graph_of([("Cos", ("x",), ("y",))], ["y"], [], x=kind, y=kind)
    with pytest.raises(HomespunError) as caught:
        infer(["onnxruntime"], graph, [range(1)], {}, {"x": np.ones(2, ml_dtypes.bfloat16)})
    assert caught.value.code == Code.UNSUPPORTED_OP
    assert caught.value.details["node"] == "n0"


def test_a_missing_parameter_is_named(small):
    graph, parameters, data = small
    del parameters["scale"]
    with pytest.raises(HomespunError) as caught:
        infer(["onnxruntime"], graph, [range(5)], parameters, data)
    assert "'scale'" in caught.value.message


def test_a_node_that_fails_in_the_run_is_named():
    row = TensorType("int64", (2,))
    graph = graph_of([("Gather", ("w", "x"), ("y",))], ["y"], ["w"], x=row,
                     y=TensorType("float32", (2, 8)))
    with pytest.raises(HomespunError) as caught:
        infer(["onnxruntime"], graph, [range(1)], {"w": np.ones((4, 8), np.float32)},
              {"x": np.array([0, 9])})
    assert caught.value.code == Code.EXECUTOR_FAILED
    assert "'n0'" in caught.value.message


def test_inputs_of_another_type_are_refused_before_their_memory_is_read(small):
    graph, parameters, data = small
    segment = cut(graph, [range(5)], frozenset(), INFER)[0]
    session = Session(inference_graph(graph, segment), parameters, Place("cpu", 1))
    with pytest.raises(ValueError, match="graph says"):
        session.run({"x": data["x"][:2]})


@pytest.fixture(scope="module")
def capability():
    return create("onnxruntime", "cpu", 1).capability()


def test_it_says_what_it_runs(capability):
    assert not capability.trainable
    assert capability.operators.isdisjoint(RANDOM_OPERATORS - {"Dropout"})
    inputs, _ = capability.slots["MatMul"]
    assert {"float32", "float64"} <= set(inputs[0].dtypes)
    assert "bfloat16" not in inputs[0].dtypes
    assert set(capability.slots["Transpose"][0][0].dtypes) == set(PREFERRED)


def test_measured_through_the_runtime():
    report = measure("cpu", 1, "onnxruntime")
    assert report.executor == "onnxruntime"
    assert not report.support.trainable
    assert 1e8 < report.rates.matmul_flops_per_s < 1e13
    assert 1e7 < report.rates.attention_flops_per_s < 1e13
    assert 1e8 < report.rates.memory_bytes_per_s < 1e12
