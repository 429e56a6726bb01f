"""Operators that make a value from a type or a few host numbers."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from homespun.errors import Code, HomespunError
from ir.graph import TensorType
from ir.semantics.backend import Array, Backend
from ir.semantics.call import OpCall
from ir.semantics.registry import Runner, semantics

_LITERALS = ("value", "value_float", "value_floats", "value_int", "value_ints")


def fixed(backend: Backend, value: npt.NDArray[np.generic]) -> Runner:
    """A runner that always gives the same value, whatever it is handed."""
    made = backend.constant(value)
    return lambda *_: made


@semantics("Constant")
def _constant(call: OpCall, backend: Backend) -> Runner:
    kind = call.out()
    for name in _LITERALS:
        literal = call.node.attributes.get(name)
        if literal is not None:
            return fixed(backend, np.asarray(literal, dtype=kind.dtype).reshape(kind.shape))
    raise HomespunError(
        Code.INVALID_GRAPH, f"Node '{call.node.name}' (Constant) has no value.",
        node=call.node.name)


@semantics("ConstantOfShape", host=(0,))
def _constant_of_shape(call: OpCall, backend: Backend) -> Runner:
    literal, kind = call.node.attributes.get("value"), call.out()
    fill = literal.reshape(-1)[0] if isinstance(literal, np.ndarray) else 0
    xp, dtype = backend.xp, backend.dtype(kind.dtype)
    return lambda *_: xp.full(kind.shape, fill, dtype=dtype)


@semantics("Shape", static=True)
def _shape(call: OpCall, backend: Backend) -> Runner:
    shape = call.shape(0)
    extents = shape[call.integer("start", 0):call.integer("end", len(shape))]
    return fixed(backend, np.array(extents, dtype=np.int64))


@semantics("Size", static=True)
def _size(call: OpCall, backend: Backend) -> Runner:
    return fixed(backend, np.array(call.type(0).elements, dtype=np.int64))


@semantics("Range", host=(0, 1, 2))
def _range(call: OpCall, backend: Backend) -> Runner:
    start, delta, kind = call.host_number(0), call.host_number(2), call.out()
    # One product and one sum per element, in the widest type: no error adds up.
    values = [start + index * delta for index in range(kind.shape[0])]
    return fixed(backend, np.array(values).astype(kind.dtype))


@semantics("OneHot", host=(1,))
def _one_hot(call: OpCall, backend: Backend) -> Runner:
    xp, kind = backend.xp, call.out()
    axis = call.integer("axis", -1) % len(kind.shape)
    classes = backend.constant(_along(axis, kind))
    depth = kind.shape[axis]

    def run(indices: Array, _: None, values: Array) -> Array:
        whole = backend.cast(indices, "int64")
        wrapped = xp.expand_dims(xp.where(whole < 0, whole + depth, whole), axis=axis)
        return xp.where(wrapped == classes, values[1], values[0])

    return run


def _along(axis: int, kind: TensorType) -> npt.NDArray[np.generic]:
    view = [1] * len(kind.shape)
    view[axis] = kind.shape[axis]
    return np.arange(kind.shape[axis], dtype=np.int64).reshape(view)
