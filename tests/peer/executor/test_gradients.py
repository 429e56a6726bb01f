"""Gradients of every differentiable operator against central differences, on any executor.

Each of ONNX's node tests is made a training step: its float inputs are parameters in float64, its
float outputs are weighed at random and summed into the loss. One step of plain descent shows the
gradient; the same graph, with the inputs as data, shows the differences. Inputs are moved a little
at random, away from ties and kinks.
"""

from types import SimpleNamespace

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from dag.job import OptimizerSpec, TrainingSpec
from homespun.errors import HomespunError
from ir.gradient import gradient_inputs
from ir.graph import FLOATS, Graph, Node, TensorType
from ir.operators import OPERATORS
from ir.segment import Segment
from ir.shapes import infer
from peer.executor.base import SegmentProgram, WorkKey
from peer.executor.registry import create
from tests.peer.executor.expected_failures import EXPECTED_FAILURES
from tests.peer.executor.node_tests import claims, node_case, single_node_cases

KEY = WorkKey(mode="train", step=0, microbatch=0)
RATE = 1.0
MOST_ELEMENTS = 20_000
CASES_PER_OPERATOR = {"jax": 2, "torch": 6}
"""JAX compiles six functions for each case, so it gets fewer of them, the smallest ones."""
TOLERANCES = {"float64": (1e-6, 1e-5, 1e-7), "float32": (1e-2, 3e-2, 3e-2)}
"""dtype of the sums -> step of the differences, relative and absolute tolerance. Float32 is for
operators that take no float64."""
DIFFERENTIABLE = sorted(name for name, info in OPERATORS.items() if info.differentiable)
TRAINABLE = [name for name in sorted(EXPECTED_FAILURES)
             if create(name, "cpu", 1).capability().trainable]
CLAIMS = [(executor, op_type) for executor in TRAINABLE for op_type in claims(executor)
          if op_type in DIFFERENTIABLE]


def made_case(op_type, shape, known=None, **attributes):
    """A case for an operator of which ONNX has none over floats that is known before the run."""
    x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    node = onnx.helper.make_node(op_type, ["x"] + ["k"] * (known is not None), ["y"], **attributes)
    values = [("x", x)] + ([] if known is None else [("k", known)])
    given = [numpy_helper.from_array(array, name) for name, array in values]
    types = infer([Node(0, "n", op_type, tuple(node.input), ("y",), attributes)],
                  {name: TensorType(a.dtype.name, a.shape) for name, a in values},
                  {name: a for name, a in values if name == "k"}).types
    y = np.zeros(types["y"].shape, np.float32)
    infos = [onnx.helper.make_tensor_value_info(name, array.data_type, array.dims)
             for name, array in zip("xk", given, strict=False)]
    result = onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, y.shape)
    model = onnx.helper.make_model(
        onnx.helper.make_graph([node], "g", infos[:1], [result], initializer=given[1:]))
    return node_case(SimpleNamespace(
        name=f"made_{op_type}", model=model, data_sets=[([x], [y])], rtol=0, atol=0), op_type)


MADE = {
    "Compress": lambda: [
        made_case("Compress", (3, 4), np.array([True, False, True]), axis=1)],
    "GlobalLpPool": lambda: [made_case("GlobalLpPool", (2, 3, 4, 5), p=3)],
    "Trilu": lambda: [made_case("Trilu", (2, 3, 4), np.array(1, np.int64), upper=0)],
}


def problem_of(case, dtype):
    """The case as a graph with a loss: (graph, float inputs, all data), None where it is none."""
    draws = np.random.default_rng(len(case.name))
    graph, node = case.program.graph, case.node
    constants = {name: _as_wide(array, dtype) for name, array in graph.constants.items()}
    data = {name: _as_wide(array, dtype) for name, array in case.data.items()}
    types = {name: TensorType(array.dtype.name, array.shape)
             for name, array in (*data.items(), *constants.items())}
    attributes = {key: 11 if key in ("to", "dtype", "output_dtype", "stash_type") and value == 1
                  and dtype == "float64" else value for key, value in node.attributes.items()}
    node = Node(0, node.name, node.op_type, node.inputs, node.outputs, attributes)
    try:
        found = infer([node], types, constants).types
    except HomespunError:
        return None
    outputs = [name for place, name in enumerate(node.outputs)
               if name and found[name].dtype == dtype and found[name].elements
               and place not in OPERATORS[node.op_type].inert_outputs]
    wanted = [name for name in dict.fromkeys(gradient_inputs(SimpleNamespace(types=found), node))
              if name in data and found[name].dtype == dtype]
    if not outputs or not wanted or sum(found[name].elements for name in wanted) > MOST_ELEMENTS:
        return None
    nodes, weights = _with_loss(node, outputs, found, dtype, draws)
    constants |= weights
    types |= {name: TensorType(array.dtype.name, array.shape) for name, array in weights.items()}
    for name in wanted:
        finite = np.where(np.isfinite(data[name]), data[name], 1).astype(dtype)
        data[name] = finite + (1e-2 * draws.standard_normal(finite.shape)).astype(dtype)
    whole = Graph(opset=28, nodes=nodes, inputs=tuple(data), parameters=(), outputs=("the loss",),
                  constants=constants, types=infer(nodes, types, constants).types)
    return whole, wanted, data


def _as_wide(array, dtype):
    return array.astype(dtype) if array.dtype.name in FLOATS else array


def _with_loss(node, outputs, types, dtype, draws):
    """The node, and those that weigh its outputs and add them up."""
    nodes, weights, terms = [node], {}, []
    for place, name in enumerate(outputs):
        weights[f"w{place}"] = draws.standard_normal(types[name].shape).astype(dtype)
        for op_type, inputs, result in (
                ("Mul", (name, f"w{place}"), f"m{place}"),
                ("ReduceSum", (f"m{place}",), f"t{place}")):
            attributes = {"keepdims": 0} if op_type == "ReduceSum" else {}
            nodes.append(Node(len(nodes), f"n{len(nodes)}", op_type, inputs, (result,), attributes))
        terms.append(f"t{place}")
    nodes.append(Node(len(nodes), "loss", "Sum", tuple(terms), ("the loss",), {}))
    return tuple(nodes), weights


def loaded(executor, graph, wanted, data, learn):
    """The graph in an executor; what is `wanted` is a parameter if it shall `learn`."""
    parameters = tuple(wanted) if learn else ()
    inputs = tuple(name for name in graph.inputs if name not in parameters)
    placed = Graph(opset=graph.opset, nodes=graph.nodes, inputs=inputs, parameters=parameters,
                   outputs=graph.outputs, constants=graph.constants, types=graph.types)
    segment = Segment(index=0, nodes=tuple(range(len(graph.nodes))), parameters=parameters,
                      data_inputs=inputs, incoming=(), outgoing=(), has_loss=True)
    training = TrainingSpec(steps=1, batch_size=1, microbatches=1, seed=1,
                            optimizer=OptimizerSpec(kind="sgd", learning_rate=RATE))
    program = SegmentProgram(graph=placed, segment=segment, training=training,
                             trainable=frozenset(parameters))
    return create(executor, "cpu", 1).load(program, {name: data[name] for name in parameters})


def gradients(executor, graph, wanted, data):
    """Gradient of the loss for each wanted input, by one step of descent."""
    segment = loaded(executor, graph, wanted, data, learn=True)
    try:
        segment.forward(KEY, {n: a for n, a in data.items() if n not in wanted}, {})
        segment.backward(KEY, {})
        segment.squared_norms({})
        segment.update(0, 1.0)
        return {name: (data[name] - after) / RATE for name, after in segment.parameters().items()}
    finally:
        segment.close()


def disagreements(executor, case, dtype):
    """Inputs whose gradient is not that of the differences, in words; None if there are none."""
    problem = problem_of(case, dtype)
    if problem is None:
        return None
    graph, wanted, data = problem
    step, rtol, atol = TOLERANCES[dtype]
    found = gradients(executor, graph, wanted, data)
    segment, draws, wrong = loaded(executor, graph, wanted, data, learn=False), (
        np.random.default_rng(1)), []
    try:
        for name in wanted:
            for _ in range(2):
                direction = draws.standard_normal(data[name].shape).astype(dtype)
                ends = [segment.forward(
                    KEY, data | {name: (data[name] + sign * step * direction).astype(dtype)},
                    {}).loss for sign in (1, -1)]
                difference = (ends[0] - ends[1]) / (2 * step)
                slope = float(np.sum(found[name] * direction, dtype=np.float64))
                # Sums cancel: what counts is the size of the terms.
                scale = float(np.sqrt(np.sum((found[name] * direction) ** 2, dtype=np.float64)))
                if not np.isfinite(difference):
                    continue
                if not abs(difference - slope) <= atol + rtol * max(abs(difference), scale):
                    wrong.append(f"{name}: gradient {slope}, difference {difference}")
    finally:
        segment.close()
    return wrong


@pytest.mark.parametrize(("executor", "op_type"), CLAIMS)
def test_gradient_equals_central_differences(executor, op_type):
    checked, wrong, most = 0, {}, CASES_PER_OPERATOR[executor]
    cases = [*single_node_cases(op_type), *MADE.get(op_type, list)()]
    if executor == "jax":
        cases.sort(key=lambda case: sum(array.size for array in case.data.values()))
    for dtype in TOLERANCES:
        for case in cases:
            found = disagreements(executor, case, dtype) if checked < most else None
            checked += found is not None
            wrong |= {f"{case.name} in {dtype}": found} if found else {}
        if checked:
            break
    assert checked, f"no case of {op_type} has a float input and a float output"
    assert not wrong, wrong
