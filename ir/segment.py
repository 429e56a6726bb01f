"""What a cut produces: segments and the tensors that cross between them. Values only.

A *segment* is a convex set of nodes that one peer runs. A *boundary tensor* is one value sent from
the segment that produces it to one other segment that consumes it; a value with consumers in two
other segments is two boundary tensors. Nodes that depend on no parameter and no random draw (masks,
rotary tables, slices of the data columns) are cheap and are replicated into each segment that needs
them instead of being sent.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from ir.graph import TensorType

LEAD = 0
"""Index of the segment whose peer adds what is summed over segments."""


class BoundaryKind(StrEnum):
    """How often a boundary tensor travels."""

    ACTIVATION = "activation"
    """Once per microbatch; its gradient comes back once per microbatch."""
    PARAMETER = "parameter"
    """A parameter used outside its home segment (tied weights): sent once after each update; its
    gradient, summed over the microbatches of the step, comes back once per step."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BoundaryTensor:
    """One value on its way from one segment to another.

    Attributes:
        edge: number of the boundary tensor, unique in the job, from 0.
        value: name of the value in the graph.
        kind: how often it travels.
        source: index of the segment that produces it (home segment for a parameter).
        target: index of the segment that consumes it.
        type: dtype and shape for one microbatch.
        differentiable: whether a gradient comes back.
        consumers: indices of the target's nodes that read it, ascending; of a differentiable tensor
            only those that return a gradient to it (a `Shape` of it does not).
        contributions: leading extent of the gradient frame. 1: the target sums its consumers'
            gradients itself and the gradient has the value's own shape. k > 1: the gradient has
            shape `(k, *shape)`, one slice per consumer in *descending* node index, unsummed,
            because another segment's contribution must be added before them to keep the order of
            floating-point additions independent of the cut (docs/adr/0008-bit-identity.md).
    """

    edge: int
    value: str
    kind: BoundaryKind
    source: int
    target: int
    type: TensorType
    differentiable: bool
    consumers: tuple[int, ...]
    contributions: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class ResultTensor:
    """A graph output that a segment gives.

    Attributes:
        name: name of the value in the graph.
        type: dtype and shape for one microbatch.
    """

    name: str
    type: TensorType


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """A convex part of a graph, as one peer runs it.

    Attributes:
        index: number in the job, from 0; the quotient graph is acyclic and numbered topologically.
        nodes: indices of the nodes to run, ascending, replicated ones included.
        parameters: parameters whose home is here, in graph order: this segment updates them.
        data_inputs: dataset columns it reads, in graph order.
        incoming: boundary tensors that arrive (activations and foreign parameters).
        outgoing: boundary tensors that leave.
        has_loss: whether the loss (first output of a graph to train) is computed here.
        results: graph outputs besides the loss that are given here, in graph order. Each is given
            by exactly one segment, also where several compute it.
    """

    index: int
    nodes: tuple[int, ...]
    parameters: tuple[str, ...]
    data_inputs: tuple[str, ...]
    incoming: tuple[BoundaryTensor, ...]
    outgoing: tuple[BoundaryTensor, ...]
    has_loss: bool
    results: tuple[ResultTensor, ...] = ()


def are_partners(segment: Segment, other: int, *, with_lead: bool) -> bool:
    """Whether a segment exchanges anything with another one.

    Args:
        segment: the one.
        other: index of the other.
        with_lead: whether sums over segments are needed: then the lead knows everybody.
    """
    if other == segment.index:
        return False
    if with_lead and LEAD in (segment.index, other):
        return True
    return any(tensor.source == other for tensor in segment.incoming) or any(
        tensor.target == other for tensor in segment.outgoing)
