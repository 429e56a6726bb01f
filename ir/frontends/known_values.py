"""Compute here what follows from constants and shapes: conditions, trip counts, indices."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np
import onnx
from onnx.reference import ReferenceEvaluator

from ir.frontends.flat_value import FlatValue, Scope
from ir.tensor_proto import DTYPES, Array

MAX_ELEMENTS = 4096
"""Largest input and output of a node that is computed here: larger ones would swell the graph."""

_BOUNDED = frozenset({"NonZero", "Unique", "Compress"})
"""Operators whose result has no static shape, but is no larger than their inputs times the rank."""


def compute(
    node: onnx.NodeProto, inputs: Sequence[FlatValue], types: Sequence[onnx.TypeProto | None],
    scope: Scope,
) -> list[Array] | None:
    """The outputs of a node, where its inputs are known and everything is small; else None.

    Args:
        node: of the default domain, without subgraphs; draws nothing.
        inputs: in its order.
        types: of its outputs, as far as they could be inferred.
        scope: tells the opset.
    """
    if node.op_type in ("Shape", "Size"):
        return _from_shape(node, inputs[0].shape)
    if any(value.name and value.array is None for value in inputs):
        return None
    sizes = [value.array.size for value in inputs if value.array is not None]
    if max(sizes, default=0) > MAX_ELEMENTS or not _is_small(node, types):
        return None
    return _evaluated(node, inputs, scope)


def _from_shape(node: onnx.NodeProto, shape: tuple[int, ...] | None) -> list[Array] | None:
    if shape is None:
        return None
    if node.op_type == "Size":
        return [np.array(prod(shape), np.int64)]
    ends = {entry.name: entry.i for entry in node.attribute}
    return [np.array(shape[ends.get("start", 0):ends.get("end", len(shape))], np.int64)]


def _is_small(node: onnx.NodeProto, types: Sequence[onnx.TypeProto | None]) -> bool:
    if node.op_type in _BOUNDED:
        return True
    found = [FlatValue("output", type_) for type_, name in zip(types, node.output, strict=True)
             if name]
    return all(
        value.shape is not None and prod(value.shape) <= MAX_ELEMENTS
        and value.element_type in DTYPES for value in found)


def _evaluated(
    node: onnx.NodeProto, inputs: Sequence[FlatValue], scope: Scope
) -> list[Array] | None:
    bare = onnx.NodeProto()
    bare.CopyFrom(node)
    del bare.input[:]
    bare.domain = ""
    places = [f"{place}" if value.name else "" for place, value in enumerate(inputs)]
    bare.input.extend(places)
    try:
        with np.errstate(all="ignore"):
            results = ReferenceEvaluator(bare, opsets={"": scope.opset}).run(
                None, {place: value.array for place, value in zip(places, inputs, strict=True)
                       if place})
    # The evaluator lacks operators and is strict in places; then the node is run with the others.
    except Exception:
        return None
    arrays = [np.asarray(result) for result in results]
    if any(array.dtype.name not in DTYPES.values() for array in arrays):
        return None
    return arrays
