"""Operators that make a value from a type or a few host numbers; they run at load time."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from peer.executor.torch_executor.table import Call, Runner, operator
from peer.executor.torch_executor.tensors import to_torch

_CPU = torch.device("cpu")


@operator("Constant")
def _constant(call: Call) -> Runner:
    kind = call.out()
    for name in ("value", "value_float", "value_floats", "value_int", "value_ints"):
        literal = call.node.attributes.get(name)
        if literal is None:
            continue
        if isinstance(literal, np.ndarray):
            value = to_torch(literal, _CPU)
        else:
            value = torch.tensor(literal, dtype=call.out_dtype())
        return lambda: value.reshape(kind.shape)
    raise AssertionError(f"Constant node {call.node.name} has no value")


@operator("ConstantOfShape", host=(0,))
def _constant_of_shape(call: Call) -> Runner:
    literal = call.node.attributes.get("value")
    fill = literal.reshape(-1)[0].item() if isinstance(literal, np.ndarray) else 0.0
    shape, dtype = call.out().shape, call.out_dtype()
    return lambda *_: torch.full(shape, fill, dtype=dtype, device=call.device)


@operator("Shape", static=True)
def _shape(call: Call) -> Runner:
    shape = call.shape(0)
    extents = shape[call.integer("start", 0):call.integer("end", len(shape))]
    return lambda *_: torch.tensor(extents, dtype=torch.int64)


@operator("Size", static=True)
def _size(call: Call) -> Runner:
    kind = call.inputs[0]
    assert kind is not None
    return lambda *_: torch.tensor(kind.elements, dtype=torch.int64)


@operator("Range", host=(0, 1, 2))
def _range(call: Call) -> Runner:
    start, delta = call.host_number(0), call.host_number(2)
    count, dtype = call.out().shape[0], call.out_dtype()
    values = torch.tensor([start + index * delta for index in range(count)], dtype=dtype)
    return lambda *_: values.to(call.device)


@operator("OneHot", host=(1,))
def _one_hot(call: Call) -> Runner:
    rank = len(call.shape(0)) + 1
    axis = call.integer("axis", -1) % rank
    depth = call.out().shape[axis]
    view = [1] * rank
    view[axis] = depth

    def run(indices: Tensor, _: None, values: Tensor) -> Tensor:
        classes = torch.arange(depth, device=indices.device).reshape(view)
        whole = indices.to(torch.int64)
        wrapped = torch.where(whole < 0, whole + depth, whole).unsqueeze(axis)
        return torch.where(wrapped == classes, values[1], values[0])

    return run
