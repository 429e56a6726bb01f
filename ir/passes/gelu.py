"""Fuse a Gaussian error linear unit that was written out into `Gelu`.

```
0.5 * x * (1 + erf(x / sqrt(2)))                                 approximate="none"
0.5 * x * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 * x ** 3)))     approximate="tanh"
```
with the factors in any order and grouping. Source: Hendrycks and Gimpel 2016 (arXiv:1606.08415),
section 2; ONNX operator Gelu-20.
"""

from __future__ import annotations

from math import pi, sqrt

import onnx_ir as ir

from ir.passes.matching import constant_number, factors, is_near, producer, replace


def fuse_gelu(model: ir.Model) -> int:
    """Replace every match in place.

    Returns:
        How many were replaced.
    """
    return sum(_fuse_at(model.graph, node) for node in tuple(model.graph))


def _fuse_at(graph: ir.Graph, node: ir.Node) -> bool:
    """Try the pattern whose last multiplication or division is `node`."""
    if node.op_type not in ("Mul", "Div"):
        return False
    coefficient, parts = factors(node.outputs[0])
    if len(parts) != 2 or not is_near(coefficient, 0.5):
        return False
    for x, gate in (parts, parts[::-1]):
        form = _form(gate, x)
        if form is not None and x.dtype == node.outputs[0].dtype:
            fused = ir.node("Gelu", [x], {"approximate": form}, num_outputs=1,
                            metadata_props=dict(node.metadata_props))
            replace(graph, node, [fused], fused.outputs[0])
            return True
    return False


def _form(gate: ir.Value, x: ir.Value) -> str | None:
    """Which approximation `gate`, 1 + erf(...) or 1 + tanh(...), belongs to."""
    inner = producer(_plus(gate, 1.0), "Erf", "Tanh")
    if inner is None:
        return None
    coefficient, parts = factors(inner.inputs[0])
    if inner.op_type == "Erf":
        return "none" if parts == [x] and is_near(coefficient, sqrt(0.5)) else None
    if len(parts) == 1 and is_near(coefficient, sqrt(2 / pi)) and _is_cubic(parts[0], x):
        return "tanh"
    return None


def _plus(value: ir.Value, number: float) -> ir.Value | None:
    """`y`, if `value` is `y + number`."""
    add = producer(value, "Add")
    if add is None:
        return None
    left, right = add.inputs
    if constant_number(left) == number:
        return right
    return left if constant_number(right) == number else None


def _is_cubic(value: ir.Value, x: ir.Value) -> bool:
    """Whether `value` is `x + 0.044715 * x ** 3`."""
    add = producer(value, "Add")
    if add is None or x not in add.inputs:
        return False
    coefficient, parts = factors(add.inputs[1] if add.inputs[0] is x else add.inputs[0])
    return parts == [x, x, x] and is_near(coefficient, 0.044715)
