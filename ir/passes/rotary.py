"""Fuse a rotary position embedding that was written out into `RotaryEmbedding`.

```
x * cos + concat(-x[..., D/2:], x[..., :D/2]) * sin        x: [B, H, T, D]
```
where cos and sin are constants whose two halves are equal, as each pair turns by one angle.
Source: Su et al. 2021 (arXiv:2104.09864), section 3.4.2; ONNX operator RotaryEmbedding-23.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from ir.passes.matching import constant_number, known_array, producer, replace, static_shape

_Tables = dict[tuple[ir.Value, tuple[int, ...]], ir.Value | None]


def fuse_rotary(model: ir.Model) -> int:
    """Replace every match in place.

    Returns:
        How many were replaced.
    """
    tables: _Tables = {}
    return sum(_fuse_at(model.graph, node, tables) for node in tuple(model.graph))


def _fuse_at(graph: ir.Graph, add: ir.Node, tables: _Tables) -> bool:
    """Try the pattern whose last sum is `add`."""
    if add.op_type != "Add":
        return False
    terms = [node for node in (producer(value, "Mul") for value in add.inputs) if node is not None]
    if len(terms) != 2:
        return False
    for straight, turned in (terms, terms[::-1]):
        for x, cos in (straight.inputs, straight.inputs[::-1]):
            for half, sin in (turned.inputs, turned.inputs[::-1]):
                if _is_half_turn(half, x) and _replace(graph, add, x, cos, sin, tables):
                    return True
    return False


def _is_half_turn(value: ir.Value | None, x: ir.Value | None) -> bool:
    """Whether `value` is `concat(-x[..., D/2:], x[..., :D/2])`."""
    concat = producer(value, "Concat")
    shape = static_shape(x)
    if concat is None or shape is None or len(shape) != 4 or len(concat.inputs) != 2:
        return False
    size = shape[-1]
    if size % 2 or concat.attributes.get_int("axis", 0) not in (-1, 3):
        return False
    minus = producer(concat.inputs[0], "Neg")
    return (
        minus is not None
        and _is_slice(minus.inputs[0], x, size // 2, size)
        and _is_slice(concat.inputs[1], x, 0, size // 2))


def _is_slice(value: ir.Value | None, x: ir.Value | None, start: int, end: int) -> bool:
    """Whether `value` is `x[..., start:end]`, as a `Slice` or a part of a `Split` in two."""
    node, shape = producer(value, "Slice", "Split"), static_shape(x)
    if node is None or node.inputs[0] is not x or shape is None:
        return False
    if node.op_type == "Split":
        part = 1 if start else 0
        return (
            len(node.outputs) == 2 and node.outputs[part] is value
            and node.attributes.get_int("axis", 0) in (-1, 3)
            and static_shape(value) == (*shape[:-1], end - start))
    begin, stop, axis, step = (
        constant_number(node.inputs[slot]) if len(node.inputs) > slot else None
        for slot in (1, 2, 3, 4))
    if begin is None or stop is None or axis not in (-1, 3) or step not in (None, 1):
        return False
    return range(shape[-1])[int(begin):int(stop)] == range(start, end)


def _replace(
    graph: ir.Graph, add: ir.Node, x: ir.Value | None, cos: ir.Value | None, sin: ir.Value | None,
    tables: _Tables,
) -> bool:
    if x is None or cos is None or sin is None or x.dtype not in (
            ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.BFLOAT16):
        return False
    halves = [_table(graph, angle, x, tables) for angle in (cos, sin)]
    if None in halves:
        return False
    fused = ir.node("RotaryEmbedding", [x, *halves], num_outputs=1,
                    metadata_props=dict(add.metadata_props))
    replace(graph, add, [fused], fused.outputs[0])
    return True


def _table(
    graph: ir.Graph, angle: ir.Value, x: ir.Value, tables: _Tables
) -> ir.Value | None:
    """An initializer [B, T, D / 2] for the constant [1 or B, 1, T, D], made once."""
    shape = static_shape(x)
    assert shape is not None
    key = (angle, (shape[0], shape[2], shape[3]))
    if key not in tables:
        half = _half(known_array(angle), shape)
        tables[key] = None if half is None or angle.dtype != x.dtype else _initializer(
            graph, half, f"{angle.name}_half_{len(tables)}", x)
    return tables[key]


def _half(
    angle: npt.NDArray[np.generic] | None, shape: tuple[int, ...]
) -> npt.NDArray[np.generic] | None:
    batch, _, length, size = shape
    if angle is None or angle.ndim > 4:
        return None
    full = angle.reshape((1,) * (4 - angle.ndim) + angle.shape)
    if full.shape not in {(1, 1, length, size), (batch, 1, length, size)}:
        return None
    first, second = full[..., :size // 2], full[..., size // 2:]
    if not np.array_equal(first, second):
        return None
    return np.ascontiguousarray(np.broadcast_to(first[:, 0], (batch, length, size // 2)))


def _initializer(
    graph: ir.Graph, array: npt.NDArray[np.generic], name: str, like: ir.Value
) -> ir.Value:
    value = ir.Value(
        name=name, const_value=ir.Tensor(array, dtype=like.dtype, name=name),
        shape=ir.Shape(array.shape), type=like.type)
    graph.register_initializer(value)
    return value
