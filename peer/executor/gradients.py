"""How gradients travel between segments, on arrays of any framework.

A gradient frame is what goes back for one boundary tensor: the gradient itself, or one slice per
consumer where the receiver must add another segment's contribution first (docs/adr/0008).
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import reduce
from typing import Any

from homespun.errors import Code, HomespunError
from ir.graph import Graph
from ir.segment import BoundaryTensor
from peer.executor.base import Array

EVERY_CONSUMER = -1
"""Consumer index of a term that is not one consumer's own; it is added last."""

Term = tuple[int, Any]
"""(consumer index, its part of a gradient)."""


def fold(terms: Iterable[Term]) -> Any:
    """Add the terms one after the other in descending order of consumer index."""
    return reduce(operator.add, (part for _, part in _descending(terms)))


def gradient_terms(tensor: BoundaryTensor, frame: Any) -> list[Term]:
    """Split a received gradient into its terms.

    A gradient that the target summed counts as one term of its last consumer.
    """
    if tensor.contributions == 1:
        return [(max(tensor.consumers), frame)]
    return [(consumer, frame[position])
            for position, consumer in enumerate(sorted(tensor.consumers, reverse=True))]


def gradient_frame(
    tensor: BoundaryTensor, terms: Sequence[Term], stack: Callable[[list[Any]], Any]
) -> Any:
    """What to send for an incoming tensor: the terms stacked along a new first axis, or summed."""
    if tensor.contributions == 1:
        return fold(terms)
    return stack([part for _, part in _descending(terms)])


def frame_shape(tensor: BoundaryTensor) -> tuple[int, ...]:
    """Shape of the gradient that comes back for a boundary tensor."""
    shape = tensor.type.shape
    return shape if tensor.contributions == 1 else (tensor.contributions, *shape)


def arrived(
    arrays: Mapping[int, Array], tensor: BoundaryTensor, shape: tuple[int, ...], what: str
) -> Array:
    """The array that came for a boundary tensor.

    Args:
        arrays: edge -> array.
        tensor: which.
        shape: the shape it must have.
        what: `activation`, `gradient` or `parameter`, for the message.

    Raises:
        HomespunError: INVALID_ARGUMENT if there is none, or its dtype or shape are not as planned.
    """
    array = arrays.get(tensor.edge)
    if array is None:
        raise HomespunError(
            Code.INVALID_ARGUMENT,
            f"No {what} was given for boundary tensor {tensor.edge} ('{tensor.value}').",
            edge=tensor.edge)
    if array.shape != shape or array.dtype.name != tensor.type.dtype:
        raise HomespunError(
            Code.INVALID_ARGUMENT,
            f"Boundary tensor {tensor.edge} ('{tensor.value}') arrived as {array.dtype.name} "
            f"{array.shape}; expected {tensor.type.dtype} {shape}.", edge=tensor.edge)
    return array


def checked_column(graph: Graph, name: str, data: Mapping[str, Array]) -> Array:
    """The rows given for a data input.

    Raises:
        HomespunError: INVALID_ARGUMENT if they are missing or not of the graph's type.
    """
    return _checked(graph, name, data, "Data input", "column")


def checked_parameter(graph: Graph, name: str, values: Mapping[str, Array]) -> Array:
    """The initial value given for a parameter.

    Raises:
        HomespunError: INVALID_ARGUMENT if it is missing or not of the graph's type.
    """
    return _checked(graph, name, values, "Parameter", "parameter")


def _checked(
    graph: Graph, name: str, values: Mapping[str, Array], what: str, detail: str
) -> Array:
    kind, array = graph.types[name], values.get(name)
    if array is None or array.shape != kind.shape or array.dtype.name != kind.dtype:
        had = "nothing" if array is None else f"{array.dtype.name} {array.shape}"
        raise HomespunError(
            Code.INVALID_ARGUMENT,
            f"{what} '{name}' was given as {had}; the graph says {kind.dtype} {kind.shape}.",
            **{detail: name})
    return array


def _descending(terms: Iterable[Term]) -> list[Term]:
    return sorted(terms, key=lambda term: term[0], reverse=True)
