"""What crosses a segment's boundary is of the planned type, and finite where it must be."""

from __future__ import annotations

import numpy as np

from homespun.errors import Code, HomespunError
from ir.gradient import differentiable_values
from ir.graph import Graph
from ir.segment import BoundaryTensor
from peer.core.events import Task
from peer.executor.base import Array
from peer.executor.finiteness import must_be_finite
from peer.executor.gradients import frame_shape
from peer.frames import Kind

_CHUNK = 1 << 16
"""Elements looked at in one go, so that what is made of them stays in cache."""
_LARGEST_FINITE = {"float16": 0xF7FF, "bfloat16": 0xFEFF}
"""Dtypes of two bytes -> bits of the largest finite number, shifted left by the sign bit."""
_BLAMED = "blamed_segment"
_GRADIENTS = (Kind.GRADIENT, Kind.PARAMETER_GRADIENT)


class BoundaryCheck:
    """Checks what a segment is given before it is used, and what it gives before it is sent.

    Both by one rule: of a correct segment nobody gets what he would refuse. So whoever is blamed
    for a tensor has altered it after the check, or has not checked.
    """

    def __init__(self, graph: Graph, trainable: frozenset[str], segment: int) -> None:
        """Work out the rule. Cost: see `must_be_finite`."""
        self._finite = must_be_finite(
            graph, trainable, differentiable_values(graph, trainable))
        self._segment = segment

    def arriving(self, array: Array, tensor: BoundaryTensor, kind: Kind, task: Task) -> None:
        """Refuse what a neighbour should not have sent.

        Raises:
            HomespunError: INVALID_ARGUMENT for another type than planned, NOT_FINITE; both with
                `blamed_segment`.
        """
        is_gradient = kind in _GRADIENTS
        sender = tensor.target if is_gradient else tensor.source
        shape = frame_shape(tensor) if is_gradient else tensor.type.shape
        if array.shape != shape or array.dtype.name != tensor.type.dtype:
            raise HomespunError(
                Code.INVALID_ARGUMENT,
                f"{_title(tensor, kind, task)} from segment {sender} has {array.dtype.name} of "
                f"shape {array.shape}; the plan says {tensor.type.dtype} of shape {shape}",
                edge=tensor.edge, **{_BLAMED: sender})
        if self._is_bad(array, tensor, kind):
            raise HomespunError(
                Code.NOT_FINITE,
                f"{_title(tensor, kind, task)} came from segment {sender} with {_where(array)}; it "
                "was not used", edge=tensor.edge, **{_BLAMED: sender})

    def leaving(self, array: Array, tensor: BoundaryTensor, kind: Kind, task: Task) -> None:
        """Refuse what this segment should not send: all that it was given was finite.

        Raises:
            HomespunError: LOSS_NOT_FINITE, as when the loss itself is the first that is not; nobody
                else is to blame.
        """
        if self._is_bad(array, tensor, kind):
            raise HomespunError(
                Code.LOSS_NOT_FINITE,
                f"{_title(tensor, kind, task)} came out of segment {self._segment} with "
                f"{_where(array)}; nothing like it went in, and it was not sent",
                edge=tensor.edge)

    def _is_bad(self, array: Array, tensor: BoundaryTensor, kind: Kind) -> bool:
        wanted = self._finite.gradients if kind in _GRADIENTS else self._finite.values
        return tensor.value in wanted and not is_finite(array)


def blamed_segment(error: Exception) -> int:
    """The segment that caused an error by what it sent, -1 if none did."""
    found = error.details.get(_BLAMED) if isinstance(error, HomespunError) else None
    return -1 if found is None else int(found)


def is_finite(array: Array) -> bool:
    """Whether no element is NaN or infinite. Cost: as of reading the array once from memory."""
    flat = array.reshape(-1)
    largest = _LARGEST_FINITE.get(array.dtype.name)
    bits = None if largest is None else flat.view(np.uint16)
    for first in range(0, flat.size, _CHUNK):
        if bits is None:
            is_good = np.isfinite(flat[first:first + _CHUNK]).all()
        else:  # numpy converts numbers of two bytes one by one: their bits are looked at instead
            is_good = (bits[first:first + _CHUNK] << 1).max() <= largest
        if not is_good:
            return False
    return True


def _where(array: Array) -> str:
    """The first element that is not finite, for a message."""
    index = tuple(int(i) for i in np.argwhere(~np.isfinite(array))[0])
    return f"{array[index]} at {list(index)}"


def _title(tensor: BoundaryTensor, kind: Kind, task: Task) -> str:
    place = f"edge {tensor.edge}, {task.mode} step {task.step}"
    if kind in (Kind.ACTIVATION, Kind.GRADIENT):
        place += f", microbatch {task.microbatch}"
    return f"{kind} of '{tensor.value}' ({place})"
