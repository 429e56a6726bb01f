"""Fuse a root-mean-square normalisation that was written out into `RMSNormalization`.

```
x * rsqrt(mean(x * x, -1) + epsilon) * weight      also: x / sqrt(...), x ** 2, weight * (...),
                                                   float32 inside for float16 and bfloat16
```
Source: Zhang and Sennrich 2019 (arXiv:1910.07467), equation 4; ONNX operator RMSNormalization-23.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from ir.passes.matching import constant_number, constant_numbers, only_user, producer

_HALVES = (ir.DataType.FLOAT16, ir.DataType.BFLOAT16)


def fuse_rms_norm(model: ir.Model) -> int:
    """Replace every match in place.

    Returns:
        How many were replaced.
    """
    return sum(_fuse_at(model.graph, node) for node in tuple(model.graph))


def _fuse_at(graph: ir.Graph, mean: ir.Node) -> bool:
    """Try the pattern around one `ReduceMean`."""
    x = _mean_square_of(mean)
    if x is None or x.shape is None:
        return False
    add = only_user(mean.outputs[0], "Add")
    epsilon = _other_number(add, mean.outputs[0])
    normalised = _normalised(add, x)
    if epsilon is None or epsilon <= 0 or normalised is None:
        return False
    source = x
    if x.dtype != ir.DataType.FLOAT:
        return False
    cast = only_user(normalised, "Cast")
    if cast is not None:
        wide = producer(x, "Cast")
        source = wide.inputs[0] if wide is not None else None
        if source is None or source.dtype not in _HALVES or cast.outputs[0].dtype != source.dtype:
            return False
        normalised = cast.outputs[0]
    return _replace(graph, source, normalised, epsilon, x.shape[-1])


def _mean_square_of(mean: ir.Node) -> ir.Value | None:
    """`x`, if the node is `ReduceMean(x * x, axes=[-1], keepdims=1)`."""
    if mean.op_type != "ReduceMean" or len(mean.inputs) != 2:
        return None
    square = producer(mean.inputs[0], "Pow", "Mul")
    if square is None or square.inputs[0].shape is None or not only_user(square.outputs[0]):
        return None
    x, other = square.inputs
    is_square = other is x if square.op_type == "Mul" else constant_number(other) == 2
    last = len(x.shape) - 1
    axes = constant_numbers(mean.inputs[1])
    keeps = mean.attributes.get_int("keepdims", 1) == 1
    return x if is_square and keeps and axes in ((-1,), (last,)) else None


def _other_number(node: ir.Node | None, value: ir.Value) -> float | None:
    """The constant that a binary node combines `value` with."""
    if node is None:
        return None
    left, right = node.inputs
    return constant_number(right if left is value else left)


def _normalised(add: ir.Node | None, x: ir.Value) -> ir.Value | None:
    """The value `x / sqrt(add)` in either of its two spellings."""
    root = only_user(add.outputs[0], "Sqrt") if add is not None else None
    if root is None:
        return None
    division = only_user(root.outputs[0], "Div")
    if division is not None:
        exact = division.inputs[0] is x and division.inputs[1] is root.outputs[0]
        return division.outputs[0] if exact else None
    inverse = only_user(root.outputs[0], "Reciprocal")
    product = only_user(inverse.outputs[0], "Mul") if inverse is not None else None
    return product.outputs[0] if product is not None and x in product.inputs else None


def _replace(
    graph: ir.Graph, x: ir.Value, normalised: ir.Value, epsilon: float, width: object
) -> bool:
    """Put the fused node where the multiplication by the weight is."""
    scale = only_user(normalised, "Mul")
    if scale is None:
        return False
    left, right = scale.inputs
    weight = right if left is normalised else left
    if weight.shape is None or tuple(weight.shape) != (width,) or weight.dtype != x.dtype:
        return False
    fused = ir.node(
        "RMSNormalization", [x, weight],
        {"axis": -1, "epsilon": float(np.float32(epsilon)), "stash_type": 1},
        num_outputs=1, metadata_props=dict(scale.metadata_props),
    )
    fused.outputs[0].shape, fused.outputs[0].dtype = x.shape, weight.dtype
    ir.convenience.replace_nodes_and_values(
        graph, scale, [scale], [fused], scale.outputs, fused.outputs
    )
    return True
