"""Small questions about a graph that every rewrite asks.

Constants that decide what is computed (axes, epsilons) are compared exactly; only the irrational
factors of an activation are compared to single precision, which is all that a graph can hold.
"""

from __future__ import annotations

from math import isclose, prod

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir
from onnx.reference import ReferenceEvaluator

from ir.operators import OPSET

KNOWN_ELEMENTS_MAX = 1 << 24
"""Largest constant expression that `known_array` computes: a mask over 4096 positions."""
_FACTOR_RELATIVE = 1e-6
_DEPTH = 5
_RANDOM = ("Random", "Bernoulli", "Multinomial", "Dropout")


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


def static_shape(value: ir.Value | None) -> tuple[int, ...] | None:
    """The shape of a value if every extent is known."""
    if value is None or value.shape is None:
        return None
    extents = tuple(value.shape)
    return extents if all(isinstance(extent, int) for extent in extents) else None


def factors(value: ir.Value | None, depth: int = _DEPTH) -> tuple[float, list[ir.Value]]:
    """A product, flattened: the product of its constants, and its other factors.

    Follows `Mul`, `Div` by a constant, and `Pow` with exponent 2 or 3, at most `depth` of them one
    after the other: the cost doubles with each. A value that is no product is its own only factor.
    """
    assert value is not None
    number = constant_number(value)
    if number is not None:
        return float(number), []
    node = producer(value, "Mul", "Div", "Pow")
    if node is None or depth == 0:
        return 1.0, [value]
    other = constant_number(node.inputs[1])
    if node.op_type == "Mul":
        parts = [factors(part, depth - 1) for part in node.inputs]
        return prod(part[0] for part in parts), [item for part in parts for item in part[1]]
    coefficient, rest = factors(node.inputs[0], depth - 1)
    if node.op_type == "Div" and other:
        return coefficient / other, rest
    if node.op_type == "Pow" and other in (2, 3):
        return coefficient ** other, rest * int(other)
    return 1.0, [value]


def is_near(number: float, wanted: float) -> bool:
    """Whether a factor is `wanted` as far as single precision can say."""
    return isclose(number, wanted, rel_tol=_FACTOR_RELATIVE)


def known_array(value: ir.Value | None) -> npt.NDArray[np.generic] | None:
    """The elements of a constant expression of any size up to `KNOWN_ELEMENTS_MAX`, else None.

    Constant folding stops at small results, because they would travel with the graph; a rewrite
    that only has to know a constant computes it here.
    """
    if value is None:
        return None
    if value.const_value is not None:
        return value.const_value.numpy() if value.const_value.size <= KNOWN_ELEMENTS_MAX else None
    nodes: dict[ir.Node, None] = {}
    leaves: dict[str, ir.Value] = {}
    if not _collect(value, nodes, leaves):
        return None
    graph = onnx.helper.make_graph(
        [ir.to_proto(node) for node in nodes], "constant", [],
        [onnx.helper.make_value_info(str(value.name), onnx.TypeProto())],
        [onnx.numpy_helper.from_array(leaf.const_value.numpy(), name)
         for name, leaf in leaves.items()])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", OPSET)])
    (array,) = ReferenceEvaluator(model).run(None, {})
    return np.asarray(array)


def _collect(value: ir.Value, nodes: dict[ir.Node, None], leaves: dict[str, ir.Value]) -> bool:
    """Gather what makes `value`, producers first; False if it depends on an input or is too big."""
    node = value.producer()
    if value.const_value is not None:
        leaves[str(value.name)] = value
        return int(value.const_value.size) <= KNOWN_ELEMENTS_MAX
    extents = static_shape(value)
    if node is None or extents is None or prod(extents) > KNOWN_ELEMENTS_MAX:
        return False
    if node.domain not in ("", "ai.onnx") or node.op_type.startswith(_RANDOM):
        return False
    if node not in nodes:
        if not all(_collect(item, nodes, leaves) for item in node.inputs if item is not None):
            return False
        nodes[node] = None
    return True


def replace(graph: ir.Graph, old: ir.Node, new: list[ir.Node], result: ir.Value) -> None:
    """Put `new` in place of a node with one wanted output, which `result` stands for."""
    output = old.outputs[0]
    result.shape, result.dtype = output.shape, output.dtype
    ir.convenience.replace_nodes_and_values(graph, old, [old], new, [output], [result])
