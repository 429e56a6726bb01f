"""What an executor declares about dtypes, it runs: each declaration on ONNX's own examples."""

from dataclasses import replace
from functools import cache
from itertools import product

import numpy as np
import pytest

from dag.support import SupportIndex
from homespun.errors import HomespunError
from ir.graph import ITEM_BYTES
from ir.shapes import verify_types
from ir.tensor_proto import numpy_dtype
from peer.executor.base import WorkKey
from peer.executor.registry import create
from tests.peer.executor.expected_failures import EXPECTED_FAILURES
from tests.peer.executor.node_tests import claims, single_node_cases

EXECUTORS = sorted(EXPECTED_FAILURES)
CLAIMS = [(executor, op_type) for executor in EXECUTORS for op_type in claims(executor)]


def retyped(case, dtype):
    """A case with all its float32 values as another dtype; None if it makes no sense then."""
    def as_dtype(arrays):
        with np.errstate(all="ignore"):  # what does not fit need not: nothing is compared
            return {name: array.astype(numpy_dtype(dtype)) if array.dtype == np.float32 else array
                    for name, array in arrays.items()}

    graph, segment = case.program.graph, case.program.segment
    types = {name: replace(kind, dtype=dtype) if kind.dtype == "float32" else kind
             for name, kind in graph.types.items()}
    graph = replace(graph, types=types, constants=as_dtype(graph.constants))
    try:
        verify_types(graph)
    except HomespunError:
        return None
    outgoing = tuple(replace(t, type=types[t.value]) for t in segment.outgoing)
    segment = replace(segment, outgoing=outgoing)
    return replace(case.program, graph=graph, segment=segment), as_dtype(case.data)


def examples(op_type):
    """One case for each way in which the cases of an operator use its attributes and slots."""
    found = {}
    for case in single_node_cases(op_type):
        node = case.node
        use = (tuple(map(bool, node.inputs)), len(node.outputs), repr(sorted(
            node.attributes.items())))
        # Of integers, the edge cases divide by zero.
        if case.mode == "evaluate" and "edge_cases" not in case.name:
            found.setdefault(use, case)
    return found.values()


def side_by_side(runs):
    """One segment of many one-node segments: it is compiled once, and its errors name the node.

    Args:
        runs: name -> (program, its data); each node gets the name of its run.

    Returns:
        The program, and its data.
    """
    nodes, types, constants, data, outgoing = [], {}, {}, {}, []
    for number, (name, (program, given)) in enumerate(runs.items()):
        def own(value, number=number):
            return value and f"{number}/{value}"

        (node,) = program.graph.nodes
        nodes.append(replace(node, index=number, name=name, inputs=tuple(map(own, node.inputs)),
                             outputs=tuple(map(own, node.outputs))))
        types |= {own(value): kind for value, kind in program.graph.types.items()}
        constants |= {own(value): array for value, array in program.graph.constants.items()}
        data |= {own(value): array for value, array in given.items()}
        outgoing += [replace(tensor, edge=len(outgoing) + place, value=own(tensor.value))
                     for place, tensor in enumerate(program.segment.outgoing)]
    graph = replace(program.graph, nodes=tuple(nodes), inputs=tuple(data), constants=constants,
                    outputs=tuple(tensor.value for tensor in outgoing), types=types)
    segment = replace(program.segment, nodes=tuple(range(len(nodes))), data_inputs=tuple(data),
                      outgoing=tuple(outgoing))
    return replace(program, graph=graph, segment=segment), data


@cache
def loader(executor):
    """An executor, and what it declares."""
    made = create(executor, "cpu", 1)
    return made, SupportIndex(made.capability().support, trains=False)


@pytest.mark.parametrize(("executor", "op_type"), CLAIMS)
def test_every_declared_dtype_runs(executor, op_type):
    made, index = loader(executor)
    declared = {}
    for case, dtype in product(examples(op_type), sorted({*ITEM_BYTES} - {"bool"})):
        found = retyped(case, dtype)
        if found and index.obstacle(found[0].graph, found[0].graph.nodes[0]) is None:
            declared[f"{case.name} in {dtype}"] = found
    if not declared:
        pytest.skip("ONNX has no case of this one node")
    program, data = side_by_side(declared)
    made.load(program, {}).forward(WorkKey(mode="evaluate", step=0, microbatch=0), data, {})
