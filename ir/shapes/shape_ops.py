"""Types of operators that make, reshape, join, split or repeat tensors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod

import numpy as np

from ir.graph import FLOATS, ITEM_BYTES, TensorType
from ir.shapes.call import ALL, INDICES, WIDE, Call, Rule, Value
from ir.shapes.limits import MAX_EXTENT, check_limits


def constant_value(call: Call) -> Value:
    """The literal of a `Constant` node."""
    attributes = call.node.attributes
    if len(attributes) != 1:
        raise call.fail(f"exactly one value attribute is needed; it has {len(attributes)}")
    (name, value), = attributes.items()
    if name == "value" and isinstance(value, np.ndarray):
        return value
    if name in ("value_int", "value_ints") and isinstance(value, (int, tuple)):
        return np.asarray(value, dtype=np.int64)
    if name in ("value_float", "value_floats") and isinstance(value, (int, float, tuple)):
        return np.asarray(value, dtype=np.float32)
    raise call.fail(f"attribute '{name}' is not a supported literal")


def fill_value(call: Call) -> Value:
    """The one element that `ConstantOfShape` repeats; float32 zero by default."""
    value = call.node.attributes.get("value")
    if value is None:
        return np.zeros(1, dtype=np.float32)
    if not isinstance(value, np.ndarray) or value.size != 1:
        raise call.fail("attribute 'value' must be a tensor of one element")
    return value.reshape(1)


def dtype_name(call: Call, value: Value) -> str:
    """Dtype of a literal, which must be one of the supported ones."""
    name = str(value.dtype)
    if name not in ITEM_BYTES:
        raise call.fail(f"literal has dtype {name}, which is unsupported")
    return name


def _constant(call: Call) -> Sequence[TensorType]:
    value = constant_value(call)
    return [TensorType(dtype_name(call, value), value.shape)]


def _constant_of_shape(call: Call) -> Sequence[TensorType]:
    return [TensorType(dtype_name(call, fill_value(call)), _extents(call, call.known(0)))]


def _extents(call: Call, shape: Sequence[int]) -> tuple[int, ...]:
    if any(extent < 0 for extent in shape):
        raise call.fail(f"shape {tuple(shape)} has a negative extent")
    return tuple(shape)


def _reshape(call: Call) -> Sequence[TensorType]:
    data = call.type(0, ALL)
    wanted = list(call.known(1))
    if not call.integer("allowzero", 0):
        for place, extent in enumerate(wanted):
            if extent == 0:
                if place >= len(data.shape):
                    raise call.fail(f"extent 0 at axis {place} copies from no axis of {data.shape}")
                wanted[place] = data.shape[place]
    if wanted.count(-1) > 1 or any(extent < -1 for extent in wanted):
        raise call.fail(f"shape {tuple(wanted)} may hold one -1 and no other negative extent")
    if -1 in wanted:
        rest = prod(extent for extent in wanted if extent != -1)
        if rest == 0 or data.elements % rest:
            raise call.fail(f"shape {data.shape} cannot become {tuple(wanted)}")
        wanted[wanted.index(-1)] = data.elements // rest
    if prod(wanted) != data.elements:
        raise call.fail(
            f"shape {data.shape} has {data.elements} elements, {tuple(wanted)} has {prod(wanted)}")
    return [TensorType(data.dtype, tuple(wanted))]


def _flatten(call: Call) -> Sequence[TensorType]:
    data = call.type(0, ALL)
    axis, rank = call.integer("axis", 1), len(data.shape)
    if not -rank <= axis <= rank:
        raise call.fail(f"axis {axis} is outside [{-rank}, {rank}]")
    axis = axis + rank if axis < 0 else axis
    return [TensorType(data.dtype, (prod(data.shape[:axis]), prod(data.shape[axis:])))]


def _squeeze(call: Call) -> Sequence[TensorType]:
    data = call.type(0, ALL)
    if call.has(1):
        axes = call.axes(call.known(1), len(data.shape))
    else:
        axes = tuple(place for place, extent in enumerate(data.shape) if extent == 1)
    for axis in axes:
        if data.shape[axis] != 1:
            raise call.fail(f"axis {axis} of {data.shape} cannot be dropped: its extent is not 1")
    kept = (extent for place, extent in enumerate(data.shape) if place not in axes)
    return [TensorType(data.dtype, tuple(kept))]


def _unsqueeze(call: Call) -> Sequence[TensorType]:
    data = call.type(0, ALL)
    added = call.known(1)
    shape = list(data.shape)
    for axis in call.axes(added, len(shape) + len(added)):
        shape.insert(axis, 1)
    return [TensorType(data.dtype, tuple(shape))]


def _transpose(call: Call) -> Sequence[TensorType]:
    data = call.type(0, ALL)
    rank = len(data.shape)
    order = call.integers("perm")
    if order is None:
        order = tuple(reversed(range(rank)))
    if sorted(order) != list(range(rank)):
        raise call.fail(f"perm {order} is no permutation of {rank} axes")
    return [TensorType(data.dtype, tuple(data.shape[axis] for axis in order))]


def _concat(call: Call) -> Sequence[TensorType]:
    dtype = call.same_dtype(range(len(call.types)))
    shapes = [call.type(position).shape for position in range(len(call.types))]
    axis = call.axis(call.integer("axis"), len(shapes[0]))
    first = shapes[0]
    for shape in shapes:
        if len(shape) != len(first) or any(
            extent != other
            for place, (extent, other) in enumerate(zip(shape, first, strict=True))
            if place != axis
        ):
            raise call.fail(f"shapes {first} and {shape} differ outside axis {axis}")
    total = sum(shape[axis] for shape in shapes)
    return [TensorType(dtype, (*first[:axis], total, *first[axis + 1:]))]


def split_extents(call: Call) -> tuple[int, tuple[int, ...]]:
    """Axis of a `Split` and the extents of its parts along it."""
    data = call.type(0)
    axis = call.axis(call.integer("axis", 0), len(data.shape))
    extent, parts = data.shape[axis], len(call.node.outputs)
    if call.has(1):
        sizes = _extents(call, call.known(1))
    else:
        count = call.integer("num_outputs", parts)
        if count < 1:
            raise call.fail(f"num_outputs is {count}; it must be at least 1")
        if count != parts:
            raise call.fail(f"num_outputs is {count}, but the node has {parts} outputs")
        chunk = -(-extent // count)
        sizes = tuple(max(0, min(chunk, extent - chunk * part)) for part in range(count))
    if len(sizes) != parts or sum(sizes) != extent:
        raise call.fail(f"parts {sizes[:8]} for {parts} outputs do not make up extent {extent}")
    return axis, sizes


def _split(call: Call) -> Sequence[TensorType]:
    data = call.type(0)
    axis, sizes = split_extents(call)
    return [
        TensorType(data.dtype, (*data.shape[:axis], size, *data.shape[axis + 1:]))
        for size in sizes]


def _expand(call: Call) -> Sequence[TensorType]:
    data = call.type(0)
    return [TensorType(
        data.dtype, call.broadcast([data.shape, _extents(call, call.known(1))]))]


def _tile(call: Call) -> Sequence[TensorType]:
    data = call.type(0)
    repeats = _extents(call, call.known(1))
    if len(repeats) != len(data.shape):
        raise call.fail(f"{len(repeats)} repeats for {len(data.shape)} axes")
    shape = tuple(extent * times for extent, times in zip(data.shape, repeats, strict=True))
    return [TensorType(data.dtype, shape)]


def _pad(call: Call) -> Sequence[TensorType]:
    data = call.type(0, ALL)
    rank = len(data.shape)
    if call.has(2) and call.type(2, frozenset({data.dtype})).elements != 1:
        raise call.fail("input 2 (the fill value) must be a scalar")
    mode = call.text("mode", "constant")
    if mode not in ("constant", "reflect", "edge", "wrap"):
        raise call.fail(f"mode '{mode}' is none of constant, reflect, edge, wrap")
    axes = call.known(3) if call.has(3) else tuple(range(rank))
    call.axes(axes, rank)
    pads = call.known(1)
    if len(pads) != 2 * len(axes):
        raise call.fail(f"{len(pads)} pads for {len(axes)} axes; two per axis are needed")
    shape = list(data.shape)
    for place, axis in enumerate(axes):
        shape[axis] += pads[place] + pads[place + len(axes)]
    return [TensorType(data.dtype, _extents(call, shape))]


def _shape(call: Call) -> Sequence[TensorType]:
    rank = len(call.type(0, ALL).shape)
    start, end, _ = slice(call.integer("start", 0), call.integer("end", rank)).indices(rank)
    return [TensorType("int64", (max(0, end - start),))]


def _size(call: Call) -> Sequence[TensorType]:
    call.type(0, ALL)
    return [TensorType("int64", ())]


def _range(call: Call) -> Sequence[TensorType]:
    dtypes = FLOATS | {"int16", "int32", "int64"}
    dtype = call.same_dtype((0, 1, 2), dtypes)
    for position in range(3):
        if call.type(position).elements != 1:
            raise call.fail(f"input {position} must be a scalar")
    start, limit, step = (call.value(position).reshape(-1)[0].item() for position in range(3))
    if step == 0:
        raise call.fail("the step is 0")
    if isinstance(start, int):
        return [TensorType(dtype, (max(0, -(-(limit - start) // step)),))]
    quotient = (limit - start) / step
    if not abs(quotient) <= MAX_EXTENT:
        check_limits(TensorType(dtype, (MAX_EXTENT + 1,)), f"output of node '{call.node.name}'")
    return [TensorType(dtype, (max(0, int(np.ceil(quotient))),))]


def _depth_to_space(call: Call) -> Sequence[TensorType]:
    data, block = _image(call)
    batch, channels, height, width = data.shape
    if channels % (block * block):
        raise call.fail(f"{channels} channels are no multiple of blocksize squared, {block**2}")
    if call.text("mode", "DCR") not in ("DCR", "CRD"):
        raise call.fail("mode must be DCR or CRD")
    return [TensorType(
        data.dtype, (batch, channels // (block * block), height * block, width * block))]


def _space_to_depth(call: Call) -> Sequence[TensorType]:
    data, block = _image(call)
    batch, channels, height, width = data.shape
    if call.text("mode", "DCR") not in ("DCR", "CRD"):
        raise call.fail("mode must be DCR or CRD")
    if height % block or width % block:
        raise call.fail(f"pixels {height} x {width} are no multiple of blocksize {block}")
    return [TensorType(
        data.dtype, (batch, channels * block * block, height // block, width // block))]


def _image(call: Call) -> tuple[TensorType, int]:
    data, block = call.type(0), call.integer("blocksize")
    if len(data.shape) != 4 or block < 1:
        raise call.fail(f"shape {data.shape} must have 4 axes and blocksize {block} be positive")
    return data, block


def _trilu(call: Call) -> Sequence[TensorType]:
    data = call.type(0, ALL)
    if len(data.shape) < 2:
        raise call.fail(f"shape {data.shape} must have at least 2 axes")
    if call.has(1) and call.type(1, INDICES).elements != 1:
        raise call.fail("input 1 (the diagonal) must be a scalar")
    return [data]


def _one_hot(call: Call) -> Sequence[TensorType]:
    indices = call.type(0, WIDE | {"int16", "int8", "uint16", "uint8"})
    depth = call.value(1).reshape(-1)
    values = call.type(2)
    if depth.size != 1 or int(depth[0].item()) < 1 or values.shape != (2,):
        raise call.fail("depth must be one positive integer and values a pair")
    rank = len(indices.shape) + 1
    axis = call.axis(call.integer("axis", -1), rank)
    shape = (*indices.shape[:axis], int(depth[0].item()), *indices.shape[axis:])
    return [TensorType(values.dtype, shape)]


RULES: Mapping[str, Rule] = {
    "Concat": _concat, "Constant": _constant, "ConstantOfShape": _constant_of_shape,
    "DepthToSpace": _depth_to_space, "Expand": _expand, "Flatten": _flatten, "OneHot": _one_hot,
    "Pad": _pad, "Range": _range, "Reshape": _reshape, "Shape": _shape, "Size": _size,
    "SpaceToDepth": _space_to_depth, "Split": _split, "Squeeze": _squeeze, "Tile": _tile,
    "Transpose": _transpose, "Trilu": _trilu, "Unsqueeze": _unsqueeze,
}
