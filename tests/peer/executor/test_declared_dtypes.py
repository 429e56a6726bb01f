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

EXECUTORS = sorted(set(EXPECTED_FAILURES) - {"jax"})  # it compiles each one
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


@cache
def loader(executor):
    """An executor, and what it declares."""
    made = create(executor, "cpu", 1)
    return made, SupportIndex(made.capability().support, trains=False)


@pytest.mark.parametrize(("executor", "op_type"), CLAIMS)
def test_every_declared_dtype_runs(executor, op_type):
    made, index = loader(executor)
    for case, dtype in product(examples(op_type), sorted({*ITEM_BYTES} - {"bool"})):
        found = retyped(case, dtype)
        if found and index.obstacle(found[0].graph, found[0].graph.nodes[0]) is None:
            key = WorkKey(mode="evaluate", step=0, microbatch=0)
            made.load(found[0], {}).forward(key, found[1], {})
