"""Fuse a product with a matrix and the sum with a vector into `Gemm`.

```
MatMul(x, Transpose(w)) + b    ->  Gemm(x, w, b, transB=1)
MatMul(x, w) + b               ->  Gemm(x, w, b)
```
`Gemm` takes two axes; more are flattened around it, which moves nothing. The sum then costs no pass
over memory of its own. ONNX operator Gemm-13.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from ir.passes.matching import constant_numbers, only_user, producer, replace, static_shape

_FLOATS = (ir.DataType.FLOAT, ir.DataType.DOUBLE, ir.DataType.FLOAT16, ir.DataType.BFLOAT16)


def fuse_linear(model: ir.Model) -> int:
    """Replace every match in place.

    Returns:
        How many were replaced.
    """
    flat: dict[ir.Value, ir.Value] = {}
    return sum(_fuse_at(model.graph, node, flat) for node in tuple(model.graph))


def _fuse_at(graph: ir.Graph, product: ir.Node, flat: dict[ir.Value, ir.Value]) -> bool:
    """Try the pattern around one `MatMul`; `flat` holds the flattened values made so far."""
    if product.op_type != "MatMul" or product.outputs[0].dtype not in _FLOATS:
        return False
    add = only_user(product.outputs[0], "Add")
    if add is None:
        return False
    rows, matrix = product.inputs
    bias = add.inputs[1] if add.inputs[0] is product.outputs[0] else add.inputs[0]
    shape = _result_shape(rows, matrix, bias, add.outputs[0])
    if shape is None:
        return False
    assert rows is not None
    swapped = _swapped(matrix)
    weight = matrix if swapped is None else swapped
    notes: dict[str, Any] = dict(product.metadata_props)
    source = rows if len(shape) == 2 else _flattened(graph, rows, flat, notes)
    gemm = ir.node("Gemm", [source, weight, bias], {"transB": int(swapped is not None)},
                   num_outputs=1, metadata_props=notes)
    if len(shape) == 2:
        replace(graph, add, [gemm], gemm.outputs[0])
        return True
    gemm.outputs[0].shape = ir.Shape([None, shape[-1]])
    gemm.outputs[0].dtype = add.outputs[0].dtype
    back = _reshape(graph, gemm.outputs[0], shape, notes)
    replace(graph, add, [gemm, back], back.outputs[0])
    return True


def _result_shape(
    rows: ir.Value | None, matrix: ir.Value | None, bias: ir.Value | None, result: ir.Value
) -> list[int] | None:
    """Shape of rows times one matrix plus one number per column; None if it is not that.

    One extent may be unknown: -1, as `Reshape` takes it.
    """
    factor, vector = static_shape(matrix), static_shape(bias)
    if rows is None or matrix is None or bias is None or rows.shape is None:
        return None
    if factor is None or vector is None or result.shape is None:
        return None
    if len(rows.shape) < 2 or len(factor) != 2 or vector != factor[1:]:
        return None
    if not rows.dtype == matrix.dtype == bias.dtype or len(rows.shape) != len(result.shape):
        return None
    shape = [extent if isinstance(extent, int) else -1 for extent in result.shape]
    return shape if shape.count(-1) <= 1 and shape[-1] == factor[1] else None


def _swapped(matrix: ir.Value | None) -> ir.Value | None:
    """The matrix that `matrix` is the transposed one of."""
    node = producer(matrix, "Transpose")
    if node is None or tuple(node.attributes.get_ints("perm", (1, 0))) != (1, 0):
        return None
    return node.inputs[0]


def _flattened(
    graph: ir.Graph, rows: ir.Value, flat: dict[ir.Value, ir.Value], notes: dict[str, Any]
) -> ir.Value:
    """`rows` with two axes; made once per value, where that value is made."""
    if rows in flat:
        return flat[rows]
    assert rows.shape is not None
    width = rows.shape[-1]
    assert isinstance(width, int)
    node = _reshape(graph, rows, [-1, width], notes)
    maker = rows.producer()
    if maker is None:
        graph.insert_before(graph[0], node)
    else:
        graph.insert_after(maker, node)
    flat[rows] = node.outputs[0]
    return flat[rows]


def _reshape(
    graph: ir.Graph, value: ir.Value, shape: Sequence[int], notes: dict[str, Any]
) -> ir.Node:
    target = _shape_constant(graph, shape)
    node = ir.node("Reshape", [value, target], num_outputs=1, metadata_props=notes)
    node.outputs[0].dtype = value.dtype
    node.outputs[0].shape = ir.Shape([extent if extent != -1 else None for extent in shape])
    return node


def _shape_constant(graph: ir.Graph, shape: Sequence[int]) -> ir.Value:
    """An initializer with these int64 numbers, shared by all who want the same."""
    name = "shape_" + "x".join(str(extent) for extent in shape).replace("-1", "any")
    found = graph.initializers.get(name)
    if found is not None and constant_numbers(found) == tuple(shape):
        return found
    tensor = ir.Tensor(np.array(shape, dtype=np.int64), name=name)
    value = ir.Value(name=name, const_value=tensor, shape=ir.Shape([len(shape)]),
                     type=ir.TensorType(ir.DataType.INT64))
    graph.register_initializer(value)
    return value
