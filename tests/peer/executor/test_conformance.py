"""ONNX's own node tests, for every operator of the closed list, on the torch executor."""

import warnings
from functools import cache

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper

from dag.job import OptimizerSpec, TrainingSpec
from homespun.errors import HomespunError
from ir.graph import ITEM_BYTES, Graph, Node, TensorType
from ir.operators import OPERATORS
from ir.segment import BoundaryKind, BoundaryTensor, Segment
from peer.executor.base import SegmentProgram, WorkKey
from peer.executor.registry import create
from peer.executor.torch_executor.fusion import FUSED_OPERATORS
from peer.executor.torch_executor.random_draws import RunState
from peer.executor.torch_executor.table import Call, implementations
from peer.executor.torch_executor.tensors import to_torch

CPU = torch.device("cpu")
NUMPY_DRAWS = "expects the mask that numpy's global generator gives; ours is keyed by the job"
EXPECTED_FAILURES = dict.fromkeys([
    "test_training_dropout", "test_training_dropout_default",
    "test_training_dropout_default_mask", "test_training_dropout_mask"], NUMPY_DRAWS)
"""Case -> why it fails."""

ROUNDING = {"bfloat16": 2e-2, "float16": 3e-3}
"""Relative tolerance for short floats: sums are taken in another order than in the reference."""


def attribute_value(attribute):
    value = onnx.helper.get_attribute_value(attribute)
    if isinstance(value, onnx.TensorProto):
        return numpy_helper.to_array(value)
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, list):
        return tuple(item.decode() if isinstance(item, bytes) else item for item in value)
    return value


def as_array(item):
    return numpy_helper.to_array(item) if isinstance(item, onnx.TensorProto) else np.asarray(item)


def is_supported(item):
    return not isinstance(item, list) and as_array(item).dtype.name in ITEM_BYTES


def type_of(array):
    return TensorType(array.dtype.name, array.shape)


def is_in_closed_list(nodes):
    """One node of the list, without attributes or inputs that came after opset 23."""
    info = OPERATORS.get(nodes[0].op_type)
    if len(nodes) != 1 or info is None or nodes[0].domain not in ("", "ai.onnx"):
        return False
    if not {a.name for a in nodes[0].attribute} <= {*info.required, *info.optional}:
        return False
    return info.max_inputs is None or len(nodes[0].input) <= info.max_inputs


def claimed_cases():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from onnx.backend.test.case.node import collect_testcases

        cases = collect_testcases(None)
    for case in cases:
        if not is_in_closed_list(case.model.graph.node):
            continue
        tensors = [array for data in case.data_sets for side in data for array in side]
        if all(is_supported(tensor) for tensor in tensors):
            yield case


@cache
def cases():
    by_operator = {}
    for case in claimed_cases():
        by_operator.setdefault(case.model.graph.node[0].op_type, []).append(case)
    return by_operator


def program_for(case):
    """The case as a graph of one node; inputs that must be known before the run are constants."""
    proto = case.model.graph.node[0]
    inputs, outputs = ([as_array(item) for item in side] for side in case.data_sets[0])
    named = dict(zip([i.name for i in case.model.graph.input], inputs, strict=True))
    results = dict(zip([o.name for o in case.model.graph.output], outputs, strict=True))
    host = implementations()[proto.op_type].host
    constants = {name: named.pop(name) for slot, name in enumerate(proto.input)
                 if slot in host and name in named}
    node = Node(0, proto.name or case.name, proto.op_type, tuple(proto.input),
                tuple(proto.output), {a.name: attribute_value(a) for a in proto.attribute})
    types = {name: type_of(v) for name, v in [*named.items(), *constants.items(),
                                              *results.items()]}
    graph = Graph(23, (node,), tuple(named), (), tuple(results), constants, types)
    outgoing = tuple(
        BoundaryTensor(edge=edge, value=name, kind=BoundaryKind.ACTIVATION, source=0, target=1,
                       type=types[name], differentiable=False, consumers=(1,))
        for edge, name in enumerate(results))
    segment = Segment(index=0, nodes=(0,), parameters=(), data_inputs=tuple(named), incoming=(),
                      outgoing=outgoing, has_loss=False)
    training = TrainingSpec(steps=1, batch_size=1, microbatches=1, seed=1,
                            optimizer=OptimizerSpec(kind="sgd", learning_rate=0.1))
    program = SegmentProgram(
        graph=graph, segment=segment, training=training, trainable=frozenset())
    return program, named, list(results.values())


def run_case(case):
    program, data, expected = program_for(case)
    segment = create("torch", "cpu", 1).load(program, {})
    key = WorkKey(mode="evaluate", step=0, microbatch=0)
    outputs = segment.forward(key, data, {}).outputs
    for edge, wanted in enumerate(expected):
        got = outputs[edge]
        assert got.dtype == wanted.dtype
        np.testing.assert_allclose(
            got.astype(np.float64) if got.dtype.name == "bfloat16" else got,
            wanted.astype(np.float64) if wanted.dtype.name == "bfloat16" else wanted,
            rtol=max(case.rtol, ROUNDING.get(got.dtype.name, 0)), atol=case.atol)


def test_table_equals_closed_list():
    assert set(implementations()) - FUSED_OPERATORS == set(OPERATORS)


def failure_of(case):
    try:
        run_case(case)
    except (AssertionError, HomespunError) as error:
        return str(error).strip()
    return None


@pytest.mark.parametrize("op_type", sorted(OPERATORS))
def test_node_tests(op_type):
    found = {case.name: failure_of(case) for case in cases().get(op_type, ())}
    failed = {name: reason for name, reason in found.items() if reason is not None}
    unexpected = {name: reason for name, reason in failed.items()
                  if name not in EXPECTED_FAILURES}
    assert not unexpected, unexpected
    stale = [name for name in found if name in EXPECTED_FAILURES and name not in failed]
    assert not stale, f"these pass now, take them off the list: {stale}"


def runner_and_leaves(case):
    """The bound implementation of a case, and its inputs with gradients where they are floats."""
    program, data, _ = program_for(case)
    types = program.graph.types
    node, constants = program.graph.nodes[0], program.graph.constants
    known = [to_torch(constants[n], CPU) if n in constants else None for n in node.inputs]
    call = Call(
        node=node, inputs=tuple(types[n] if n else None for n in node.inputs),
        outputs=tuple(types[n] if n else None for n in node.outputs), constants=tuple(known),
        transposed=(False,) * len(known), precision="float32", device=CPU, state=RunState(1))
    leaves = [to_torch(data[n], CPU) if n in data else None for n in node.inputs]
    inert = OPERATORS[node.op_type].inert_inputs
    for slot, leaf in enumerate(leaves):
        if leaf is not None and leaf.is_floating_point() and slot not in inert:
            leaf.requires_grad_()
    return implementations()[node.op_type].build(call), leaves


def uses(roots, leaf):
    """How many autograd edges lead to a leaf."""
    seen, stack, count = set(), [t.grad_fn for t in roots if t.grad_fn is not None], 0
    while stack:
        function = stack.pop()
        if function in seen:
            continue
        seen.add(function)
        for following, _ in function.next_functions:
            if following is not None:
                count += getattr(following, "variable", None) is leaf
                stack.append(following)
    return count


CLAIMING = sorted(op_type for op_type, found in implementations().items()
                  if op_type in OPERATORS and (found.once or found.dense))


@pytest.mark.parametrize("op_type", CLAIMING)
def test_claims_about_gradients(op_type):
    """`once` and `dense` spare work in every node; a wrong claim would cost bit-identity."""
    implementation = implementations()[op_type]
    for case in cases().get(op_type, ()):
        run, leaves = runner_and_leaves(case)
        result = run(*leaves)
        roots = [t for t in (result if isinstance(result, tuple | list) else (result,))
                 if t is not None and t.requires_grad]
        for leaf in leaves if roots else ():
            if implementation.once and leaf is not None:
                assert uses(roots, leaf) <= 1, case.name
        if roots and implementation.dense:
            torch.autograd.backward(roots, [torch.ones_like(t).contiguous() for t in roots])
            assert all(leaf is None or leaf.grad is None or leaf.grad.is_contiguous()
                       for leaf in leaves), case.name


def test_share_of_passing_cases():
    total = sum(len(group) for group in cases().values())
    assert total > 850, "ONNX's node tests were not found"
    assert len(EXPECTED_FAILURES) <= 0.05 * total
