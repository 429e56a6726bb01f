"""The shared table of operator semantics on ONNX's node tests, on backends that need no compiler.

Executors put implementations of their own over the table; here every entry of it runs.
"""

import numpy as np
import pytest
import torch

from homespun.errors import HomespunError
from ir.semantics.call import OpCall
from ir.semantics.families import TABLE
from ir.semantics.numpy_backend import NumpyBackend
from peer.executor.torch_executor.backend import TorchBackend
from peer.executor.torch_executor.tensors import to_numpy
from tests.peer.executor.expected_failures import SEMANTICS_FAILURES
from tests.peer.executor.node_tests import compare, single_node_cases

BACKENDS = {"numpy": NumpyBackend(), "torch": TorchBackend(torch.device("cpu"))}
TORCH_ONLY_STORES = {"uint16", "uint32", "uint64"}
"""Types that torch does not compute with; its executor has implementations of its own for them."""


def results(case, name):
    """What the table gives for a case, as numpy arrays."""
    backend, graph, node = BACKENDS[name], case.program.graph, case.node
    entry = TABLE[node.op_type]
    known = [graph.constants.get(value) for value in node.inputs]
    call = OpCall(
        node=node, inputs=tuple(graph.types.get(value) for value in node.inputs),
        outputs=tuple(graph.types.get(value) for value in node.outputs),
        constants=tuple(known), training=bool(node.attributes.get("training_mode", 0)))
    given = [None if slot in entry.host or not value
             else backend.constant(graph.constants.get(value, case.data.get(value)))
             for slot, value in enumerate(node.inputs)]
    with np.errstate(all="ignore"):
        found = entry.build(call, backend)(*given)
    found = found if isinstance(found, tuple | list) else (found,)
    return [to_numpy(value, graph.types[output].dtype) if isinstance(value, torch.Tensor)
            else np.asarray(value)
            for value, output in zip(found, node.outputs, strict=False) if output]


def dtypes(case):
    return {kind.dtype for kind in case.program.graph.types.values()}


def failure(case, name):
    try:
        for got, wanted in zip(results(case, name), case.expected, strict=True):
            compare(got, wanted, case)
    except (AssertionError, HomespunError, TypeError, ValueError, RuntimeError) as error:
        return f"{type(error).__name__}: {str(error).strip()}"
    return None


@pytest.mark.parametrize("name", sorted(BACKENDS))
@pytest.mark.parametrize("op_type", sorted(TABLE))
def test_node_tests(op_type, name):
    expected = SEMANTICS_FAILURES[name]
    found = {case.name: failure(case, name) for case in single_node_cases(op_type)
             if name != "torch" or dtypes(case).isdisjoint(TORCH_ONLY_STORES)}
    unexpected = {case: reason for case, reason in found.items()
                  if reason is not None and case not in expected}
    assert not unexpected, unexpected
    stale = [case for case in found if case in expected and found[case] is None]
    assert not stale, f"these pass now, take them off the list: {stale}"
