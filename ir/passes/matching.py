"""Small questions about a graph that every rewrite asks. Exact: no tolerance on constants."""

from __future__ import annotations

import onnx_ir as ir


def producer(value: ir.Value | None, *op_types: str) -> ir.Node | None:
    """The node that makes `value`, if it is one of `op_types` of the default domain."""
    node = value.producer() if value is not None else None
    if node is None or node.domain not in ("", "ai.onnx") or node.op_type not in op_types:
        return None
    return node


def only_user(value: ir.Value, op_type: str | None = None) -> ir.Node | None:
    """The one node that reads `value` once, if there is no other reader and it has `op_type`."""
    uses = value.uses()
    if len(uses) != 1 or value.is_graph_output():
        return None
    node = next(iter(uses)).node
    return node if op_type is None or node.op_type == op_type else None


def constant_numbers(value: ir.Value | None) -> tuple[float, ...] | None:
    """The elements of a small constant, flattened; None if it is not one."""
    tensor = value.const_value if value is not None else None
    if tensor is None or tensor.size > 64:
        return None
    return tuple(tensor.numpy().ravel().tolist())


def constant_number(value: ir.Value | None) -> float | None:
    """The one element of a constant scalar; None if it is not one."""
    numbers = constant_numbers(value)
    return numbers[0] if numbers is not None and len(numbers) == 1 else None
