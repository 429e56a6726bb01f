"""ONNX's own node tests as segments of one node, for any executor.

What is here knows no framework: a case becomes a `SegmentProgram`, any executor runs it, and the
results are compared. Which cases an executor is expected to fail, and why, is in
`expected_failures.py`.
"""

import warnings
from dataclasses import dataclass
from functools import cache

import numpy as np
import onnx
from onnx import numpy_helper

from dag.job import OptimizerSpec, TrainingSpec
from homespun.errors import HomespunError
from ir.graph import ITEM_BYTES, Graph, Node, TensorType
from ir.operators import OPERATORS
from ir.segment import BoundaryKind, BoundaryTensor, Segment
from peer.executor.base import SegmentProgram, WorkKey
from peer.executor.registry import create

ROUNDING = {"bfloat16": 2e-2, "float16": 3e-3}
"""Relative tolerance for short floats: sums are taken in another order than in the reference."""


@dataclass(frozen=True, eq=False)
class NodeCase:
    """One case, ready to run.

    Attributes:
        name: ONNX's name of it.
        program: a segment that runs the one node; every result leaves it, edge = output number.
        data: data input -> array.
        expected: the results, by edge.
        rtol, atol: what the case allows.
    """

    name: str
    program: SegmentProgram
    data: dict
    expected: list
    rtol: float
    atol: float

    @property
    def node(self):
        return self.program.graph.nodes[0]


@cache
def cases():
    """op_type -> its cases: single nodes of the closed list over dtypes that a graph may have."""
    by_operator = {}
    for case in _collected():
        proto = case.model.graph.node
        if _is_in_closed_list(proto) and _is_typed(case):
            by_operator.setdefault(proto[0].op_type, []).append(node_case(case))
    return by_operator


def node_case(case):
    """An ONNX test case as a segment; inputs that must be known before the run are constants."""
    proto = case.model.graph.node[0]
    inputs, outputs = ([_as_array(item) for item in side] for side in case.data_sets[0])
    named = dict(zip([i.name for i in case.model.graph.input], inputs, strict=True))
    results = dict(zip([o.name for o in case.model.graph.output], outputs, strict=True))
    known = known_inputs(proto.op_type)
    constants = {name: named.pop(name) for slot, name in enumerate(proto.input)
                 if slot in known and name in named}
    node = Node(0, proto.name or case.name, proto.op_type, tuple(proto.input),
                tuple(proto.output), {a.name: _attribute_value(a) for a in proto.attribute})
    types = {name: _type_of(value) for name, value in {**named, **constants, **results}.items()}
    graph = Graph(opset=23, nodes=(node,), inputs=tuple(named), parameters=(),
                  outputs=tuple(results), constants=constants, types=types)
    return NodeCase(name=case.name, program=_program(graph), data=named,
                    expected=list(results.values()), rtol=case.rtol, atol=case.atol)


def _program(graph):
    outgoing = tuple(
        BoundaryTensor(edge=edge, value=name, kind=BoundaryKind.ACTIVATION, source=0, target=1,
                       type=graph.types[name], differentiable=False, consumers=(1,))
        for edge, name in enumerate(graph.outputs))
    segment = Segment(index=0, nodes=(0,), parameters=(), data_inputs=graph.inputs, incoming=(),
                      outgoing=outgoing, has_loss=False)
    training = TrainingSpec(steps=1, batch_size=1, microbatches=1, seed=1,
                            optimizer=OptimizerSpec(kind="sgd", learning_rate=0.1))
    return SegmentProgram(
        graph=graph, segment=segment, training=training, trainable=frozenset())


def known_inputs(op_type):
    """Slots whose value a graph must know before the run; torch runs the whole list, so it says."""
    from peer.executor.torch_executor.table import implementations

    return implementations()[op_type].host


@cache
def _executor(name):
    return create(name, "cpu", 1)


def claims(executor):
    """Operators that an executor says it runs, sorted."""
    return sorted(_executor(executor).capability().operators)


def failure_of(executor, case):
    """Why an executor fails a case, in its own words; None if it passes."""
    try:
        _run(executor, case)
    except (AssertionError, HomespunError) as error:
        return str(error).strip() or type(error).__name__
    return None


@cache
def outcomes(executor, op_type):
    """Case -> why it fails, or None, for all cases of an operator."""
    return {case.name: failure_of(executor, case) for case in cases().get(op_type, ())}


def _run(executor, case):
    loaded = _executor(executor).load(case.program, {})
    try:
        training = case.node.attributes.get("training_mode", 0)
        key = WorkKey(mode="train" if training else "evaluate", step=0, microbatch=0)
        outputs = loaded.forward(key, case.data, {}).outputs
        for edge, wanted in enumerate(case.expected):
            compare(outputs[edge], wanted, case)
    finally:
        loaded.close()


def compare(got, wanted, case):
    """Assert that a result is what a case expects."""
    assert got.dtype == wanted.dtype
    np.testing.assert_allclose(
        _comparable(got), _comparable(wanted),
        rtol=max(case.rtol, ROUNDING.get(got.dtype.name, 0)), atol=case.atol)


def _comparable(array):
    """numpy's comparison knows no bfloat16."""
    return array.astype(np.float64) if array.dtype.name == "bfloat16" else array


def _collected():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from onnx.backend.test.case.node import collect_testcases

        return collect_testcases(None)


def _is_in_closed_list(nodes):
    """One node of the list, without attributes or inputs that came after opset 23."""
    info = OPERATORS.get(nodes[0].op_type)
    if len(nodes) != 1 or info is None or nodes[0].domain not in ("", "ai.onnx"):
        return False
    if not {a.name for a in nodes[0].attribute} <= {*info.required, *info.optional}:
        return False
    return info.max_inputs is None or len(nodes[0].input) <= info.max_inputs


def _is_typed(case):
    tensors = [array for data in case.data_sets for side in data for array in side]
    return all(not isinstance(item, list) and _as_array(item).dtype.name in ITEM_BYTES
               for item in tensors)


def _attribute_value(attribute):
    value = onnx.helper.get_attribute_value(attribute)
    if isinstance(value, onnx.TensorProto):
        return numpy_helper.to_array(value)
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, list):
        return tuple(item.decode() if isinstance(item, bytes) else item for item in value)
    return value


def _as_array(item):
    return numpy_helper.to_array(item) if isinstance(item, onnx.TensorProto) else np.asarray(item)


def _type_of(array):
    return TensorType(array.dtype.name, array.shape)
