"""What the torch executor's table claims about operators, on ONNX's node tests."""

import pytest
import torch

from ir.operators import OPERATORS
from peer.executor.torch_executor.fusion import FUSED_OPERATORS
from peer.executor.torch_executor.implementations import IMPLEMENTATIONS
from peer.executor.torch_executor.run_state import RunState
from peer.executor.torch_executor.table import Call
from peer.executor.torch_executor.tensors import to_torch
from tests.peer.executor.node_tests import single_node_cases

CPU = torch.device("cpu")


def test_table_equals_closed_list():
    assert set(IMPLEMENTATIONS) - FUSED_OPERATORS == set(OPERATORS)


def runner_and_leaves(case):
    """The bound implementation of a case, and its inputs with gradients where they are floats."""
    graph, node = case.program.graph, case.node
    types, constants, data = graph.types, graph.constants, case.data
    known = [constants.get(n) for n in node.inputs]
    call = Call(
        node=node, inputs=tuple(types[n] if n else None for n in node.inputs),
        outputs=tuple(types[n] if n else None for n in node.outputs), constants=tuple(known),
        training=False, transposed=(False,) * len(known), precision="float32", device=CPU,
        state=RunState(1))
    leaves = [to_torch(data[n], CPU) if n in data else None for n in node.inputs]
    inert = OPERATORS[node.op_type].inert_inputs
    for slot, leaf in enumerate(leaves):
        if leaf is not None and leaf.is_floating_point() and slot not in inert:
            leaf.requires_grad_()
    return IMPLEMENTATIONS[node.op_type].build(call), leaves


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


CLAIMING = sorted(op_type for op_type, found in IMPLEMENTATIONS.items()
                  if op_type in OPERATORS and (found.once or found.dense))


@pytest.mark.parametrize("op_type", CLAIMING)
def test_claims_about_gradients(op_type):
    """`once` and `dense` spare work in every node; a wrong claim would cost bit-identity."""
    implementation = IMPLEMENTATIONS[op_type]
    for case in single_node_cases(op_type):
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
