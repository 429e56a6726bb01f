"""ONNX's own node tests as segments, for any executor.

What is here knows no framework: a case becomes a `SegmentProgram`, any executor runs it, and the
results are compared. Every case of the `onnx` package is here: those that no tensor program can
express are out of scope by name (`outside_scope`), all others count, also those that cannot even
become a program. Which cases an executor is expected to fail, and why, is in
`expected_failures.py`.
"""

import warnings
from dataclasses import dataclass
from functools import cache

import numpy as np
import onnx
from onnx import numpy_helper

from dag.job import OptimizerSpec, TrainingSpec
from dag.support import SupportIndex
from homespun.errors import HomespunError
from ir.frontends.opsets import prepared
from ir.graph import Graph, Node, TensorType
from ir.operators import OPERATORS, misuse
from ir.segment import BoundaryKind, BoundaryTensor, Segment
from ir.shapes import infer
from peer.executor.base import SegmentProgram, WorkKey
from peer.executor.registry import create

ROUNDING = {"bfloat16": 2e-2, "float16": 3e-3}
"""Relative tolerance for short floats: sums are taken in another order than in the reference."""

NOT_CLAIMED = "the executor "
"""How a reason begins that is the executor's own declaration."""

SHAPED_BY_DATA = frozenset({"Compress", "NonZero"})
"""Operators that run only where their data is known before the run; in the cases it is not."""


@dataclass(frozen=True, eq=False)
class NodeCase:
    """One case, ready to run.

    Attributes:
        name: ONNX's name of it.
        op_type: the operator that it is about; for an expanded function, the function.
        program: a segment of the case's nodes; every result leaves it, edge = output number. None
            if the case cannot become one.
        refusal: why it cannot.
        data: data input -> array.
        expected: the results, by edge.
        rtol, atol: what the case allows.
    """

    name: str
    op_type: str
    program: SegmentProgram | None
    refusal: str | None
    data: dict
    expected: list
    rtol: float
    atol: float

    @property
    def node(self):
        return self.program.graph.nodes[0]

    @property
    def mode(self):
        return "train" if self.node.attributes.get("training_mode", 0) else "evaluate"


@cache
def collected():
    """All cases of the `onnx` package, as it gives them."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from onnx.backend.test.case.node import collect_testcases

        return collect_testcases(None)


def outside_scope(case):
    """Why no tensor program can express a case, in words; None if it counts."""
    kinds = [value.type.WhichOneof("value")
             for value in (*case.model.graph.input, *case.model.graph.output)]
    for kind, words in (("sequence_type", "sequences"), ("optional_type", "optionals"),
                        ("map_type", "maps")):
        if kind in kinds:
            return words
    if any(node.op_type.startswith("Optional") for node in case.model.graph.node):
        return "optionals"
    if any(node.domain == "ai.onnx.preview.training" for node in case.model.graph.node):
        return "a training algorithm of ai.onnx.preview.training"
    strings = any(value.type.tensor_type.elem_type == onnx.TensorProto.STRING
                  for value in (*case.model.graph.input, *case.model.graph.output))
    return "strings" if strings else None


@cache
def cases():
    """Operator -> its cases in scope."""
    single = {case.name: case.model.graph.node[0] for case in collected()
              if len(case.model.graph.node) == 1}
    by_operator = {}
    for case in collected():
        if outside_scope(case) is None:
            subject = single.get(case.name) or single.get(case.name.split("_expanded")[0])
            op_type = _qualified(subject) if subject else "several operators"
            known = _known_before_the_run(_nodes_of([subject])) if subject else frozenset()
            by_operator.setdefault(op_type, []).append(node_case(case, op_type, known))
    return by_operator


def single_node_cases(op_type):
    """Cases of an operator that are programs of that one node."""
    return [case for case in cases().get(op_type, ())
            if case.program is not None and len(case.program.graph.nodes) == 1
            and case.node.op_type == op_type]


def node_case(case, op_type, known=frozenset()):
    """An ONNX test case as a segment; inputs that must be known before the run are constants.

    Args:
        case: of the `onnx` package.
        op_type: what it is about.
        known: inputs that the operator must know before the run, of an expanded function.
    """
    inputs, outputs = ([_as_array(item) for item in side] for side in case.data_sets[0])
    data = dict(zip([i.name for i in case.model.graph.input], inputs, strict=True))
    results = dict(zip([o.name for o in case.model.graph.output], outputs, strict=True))
    program = refusal = None
    try:
        graph = _graph(case.model, data, results, known)
        program = _program(graph)
        data = {name: data[name] for name in graph.inputs}
    except (HomespunError, NotImplementedError) as error:
        refusal = str(error)
    return NodeCase(name=case.name, op_type=op_type, program=program, refusal=refusal, data=data,
                    expected=list(results.values()), rtol=case.rtol, atol=case.atol)


def _graph(model, data, results, known):
    """The model as a graph whose types are inferred, never taken from the case."""
    if not _is_plain(model):
        model = prepared(model, {name: data[name] for name in known & data.keys()})
    nodes, constants = _nodes(model)
    left = {value.name for value in model.graph.input}
    needed = _known_before_the_run(nodes)
    constants |= {name: array for name, array in data.items() if name in needed & left}
    inputs = tuple(name for name in data if name in left and name not in constants)
    given = {name: _type_of(array) for name, array in (*data.items(), *constants.items())}
    types = infer(nodes, given, constants).types
    for name, array in results.items():
        if types[name] != _type_of(array):
            raise NotImplementedError(
                f"'{name}' is inferred as {types[name]}, the case has {_type_of(array)}")
    return Graph(opset=23, nodes=nodes, inputs=inputs, parameters=(), outputs=tuple(results),
                 constants=constants, types=types)


def _is_plain(model):
    """Whether every node is one of the closed list as it stands."""
    nodes, _ = _nodes(model)
    return all(node.op_type in OPERATORS and misuse(node) is None for node in nodes)


def _nodes(model):
    """The model's nodes, and its literals."""
    constants = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    literals = [node for node in model.graph.node if node.op_type == "Constant"
                and node.attribute[0].name == "value" and len(model.graph.node) > 1]
    constants |= {node.output[0]: numpy_helper.to_array(node.attribute[0].t) for node in literals}
    return _nodes_of([node for node in model.graph.node if node not in literals]), constants


def _nodes_of(protos):
    return tuple(
        Node(index, proto.name or f"{proto.op_type}_{index}", _qualified(proto),
             tuple(proto.input), tuple(proto.output),
             {a.name: _attribute_value(a) for a in proto.attribute})
        for index, proto in enumerate(protos))


def _qualified(proto):
    """The operator's name, with its domain where that is not the default one."""
    return proto.op_type if proto.domain in ("", "ai.onnx") else f"{proto.domain}.{proto.op_type}"


def _known_before_the_run(nodes):
    """Values that some node must know before the run, back to what they are computed from."""
    known = set()
    for node in reversed(nodes):
        implementation = _table().get(node.op_type)
        if implementation is None:
            continue
        if node.op_type not in SHAPED_BY_DATA:
            known.update(node.inputs[slot] for slot in implementation.host
                         if slot < len(node.inputs))
        if known.intersection(node.outputs) and not implementation.static:
            known.update(node.inputs)
    return known


def _program(graph):
    outgoing = tuple(
        BoundaryTensor(edge=edge, value=name, kind=BoundaryKind.ACTIVATION, source=0, target=1,
                       type=graph.types[name], differentiable=False, consumers=(1,))
        for edge, name in enumerate(graph.outputs))
    segment = Segment(index=0, nodes=tuple(range(len(graph.nodes))), parameters=(),
                      data_inputs=graph.inputs, incoming=(), outgoing=outgoing, has_loss=False)
    training = TrainingSpec(steps=1, batch_size=1, microbatches=1, seed=1,
                            optimizer=OptimizerSpec(kind="sgd", learning_rate=0.1))
    return SegmentProgram(
        graph=graph, segment=segment, training=training, trainable=frozenset())


@cache
def _table():
    """Torch runs the whole list, so its table says what must be known before the run."""
    from peer.executor.torch_executor.implementations import IMPLEMENTATIONS

    return IMPLEMENTATIONS


@cache
def _executor(name):
    return create(name, "cpu", 1)


@cache
def _capability(executor):
    return _executor(executor).capability()


def claims(executor):
    """Operators that an executor says it runs, sorted."""
    return sorted(_capability(executor).operators)


@cache
def _support(executor):
    return SupportIndex(_capability(executor).support, trains=False)


def obstacle(executor, case):
    """What an executor says it lacks for a case, in words; None if it claims the case."""
    if case.mode == "train" and not _capability(executor).trainable:
        return "does not train"
    graph = case.program.graph
    found = (_support(executor).obstacle(graph, node) for node in graph.nodes)
    return next((obstacle.text for obstacle in found if obstacle is not None), None)


def failure_of(executor, case):
    """Why an executor fails a case, in its own words; None if it passes."""
    if case.program is None:
        return case.refusal
    if lacking := obstacle(executor, case):
        return NOT_CLAIMED + lacking
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
        key = WorkKey(mode=case.mode, step=0, microbatch=0)
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
    """numpy's comparison knows only its own dtypes."""
    return array if array.dtype.isbuiltin == 1 else array.astype(np.float64)


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
    if isinstance(item, onnx.TensorProto):
        return numpy_helper.to_array(item)
    return np.asarray(item)


def _type_of(array):
    return TensorType(array.dtype.name, array.shape)
