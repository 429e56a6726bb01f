"""Parameters of a segment on the device, their leaves, and the sums of their gradients.

A parameter with several consumer nodes in the whole graph has one leaf per consumer. The leaves
share the parameter's memory, and each collects its own sum over the step's microbatches; the sums
are added once per step in descending order of consumer index. So a tied parameter gets the same
gradient bits wherever its consumers run (docs/adr/0008-bit-identity.md).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import reduce

import torch
from torch import Tensor

from homespun.errors import Code, HomespunError
from ir.segment import BoundaryKind, BoundaryTensor
from peer.executor.base import Array, SegmentProgram
from peer.executor.torch_executor.flow import Flow, separate_leaves
from peer.executor.torch_executor.plan import SlotKey
from peer.executor.torch_executor.tensors import row_major, to_numpy, to_torch

_CHUNK = 1 << 16

Term = tuple[int, Tensor]
"""(consumer index, its part of a gradient)."""


def fold(terms: Iterable[Term]) -> Tensor:
    """Add the terms one after the other in descending order of consumer index."""
    ordered = sorted(terms, key=lambda term: term[0], reverse=True)
    return reduce(torch.add, (tensor for _, tensor in ordered))


def gradient_terms(tensor: BoundaryTensor, gradient: Tensor) -> list[Term]:
    """Split a received gradient into its terms.

    A gradient that the target summed counts as one term of its last consumer.
    """
    if tensor.contributions == 1:
        return [(max(tensor.consumers), gradient)]
    return list(zip(sorted(tensor.consumers, reverse=True), gradient.unbind(0), strict=True))


def gradient_frame(tensor: BoundaryTensor, terms: Sequence[Term]) -> Tensor:
    """What to send for an incoming tensor: the terms stacked, or their sum."""
    if tensor.contributions == 1:
        return fold(terms)
    ordered = sorted(terms, key=lambda term: term[0], reverse=True)
    return torch.stack([term for _, term in ordered])


def frame_shape(tensor: BoundaryTensor) -> tuple[int, ...]:
    """Shape of the gradient that comes back for a boundary tensor."""
    shape = tensor.type.shape
    return shape if tensor.contributions == 1 else (tensor.contributions, *shape)


def received(array: Array, tensor: BoundaryTensor, shape: tuple[int, ...], device: torch.device
             ) -> Tensor:
    """A received array on the device.

    Raises:
        HomespunError: INVALID_ARGUMENT if dtype or shape are not those of the boundary tensor.
    """
    if array.shape != shape or array.dtype.name != tensor.type.dtype:
        raise HomespunError(
            Code.INVALID_ARGUMENT,
            f"Boundary tensor {tensor.edge} ('{tensor.value}') arrived as {array.dtype.name} "
            f"{array.shape}; expected {tensor.type.dtype} {shape}.", edge=tensor.edge)
    return to_torch(array, device)


def squared_norm(gradient: Tensor) -> Tensor:
    """Sum of squared elements as a float64 scalar on the tensor's device.

    On the CPU in chunks that stay in cache: converting the whole tensor to float64 would triple
    the memory traffic. A pure function of the tensor's values and shape.
    """
    flat = gradient.reshape(-1)
    if flat.device.type != "cpu":
        return torch.linalg.vector_norm(flat, dtype=torch.float64).square()
    total = torch.zeros((), dtype=torch.float64)
    for chunk in flat.split(_CHUNK):
        wide = chunk.double()
        total += torch.dot(wide, wide)
    return total


class Parameters:
    """The segment's own and foreign parameters.

    Attributes:
        own: name -> value on the device, for the segment's own parameters.
        trainable: names of the own parameters that the optimizer updates, in order.
    """

    def __init__(
        self, program: SegmentProgram, flow: Flow, values: Mapping[str, Array],
        device: torch.device,
    ) -> None:
        segment = program.segment
        self._device = device
        self._incoming = [t for t in segment.incoming if t.kind == BoundaryKind.PARAMETER]
        self._outgoing = [t for t in segment.outgoing if t.kind == BoundaryKind.PARAMETER]
        names = dict.fromkeys([*segment.parameters, *(t.value for t in self._incoming)])
        self._values = {name: _placed(program, name, values, device) for name in names}
        self.own = {name: self._values[name] for name in segment.parameters}
        self.trainable = tuple(name for name in segment.parameters if name in program.trainable)
        separate = separate_leaves(program, flow)
        self._leaves: dict[str, dict[int | None, Tensor]] = {}
        for name in names:
            if name in flow.differentiable:
                consumers = separate.get(name, (None,))
                self._leaves[name] = {
                    consumer: self._values[name].detach().requires_grad_()
                    for consumer in consumers}

    def leaves(self) -> Mapping[SlotKey, Tensor]:
        """What the parameters' slots hold while a microbatch runs."""
        slots: dict[SlotKey, Tensor] = {
            (name, None): value for name, value in self._values.items()}
        for name, leaves in self._leaves.items():
            slots.update(((name, consumer), leaf) for consumer, leaf in leaves.items())
        return slots

    def replace(self, name: str, value: Tensor) -> Tensor:
        """Give an own parameter another tensor: a copy of `value`, which is returned.

        The old tensor stays as it was, for microbatches that read it.
        """
        self._values[name] = self.own[name] = row_major(value.detach().clone())
        return self.own[name]

    def set_shared(self, values: Mapping[int, Array]) -> None:
        """Overwrite foreign parameters: edge -> value."""
        with torch.no_grad():
            for tensor in self._incoming:
                if tensor.edge in values:
                    value = received(
                        values[tensor.edge], tensor, tensor.type.shape, self._device)
                    self._values[tensor.value].copy_(value)

    def shared_values(self) -> dict[int, Array]:
        """Copies of the parameters that others use, by edge."""
        return {t.edge: to_numpy(self._values[t.value].clone(), t.type.dtype)
                for t in self._outgoing}

    def shared_gradients(self) -> dict[int, Array]:
        """Gradients of foreign parameters, by edge; clears them."""
        result = {}
        for tensor in self._incoming:
            if tensor.differentiable:
                terms = self._terms(tensor.value, tensor.consumers)
                result[tensor.edge] = to_numpy(gradient_frame(tensor, terms))
        return result

    def finish(self, shared: Mapping[int, Array]) -> dict[str, Tensor]:
        """Gradients of the step: the own trainable parameters that have one; clears the leaves."""
        foreign: dict[str, list[Term]] = {}
        for tensor in self._outgoing:
            if tensor.differentiable:
                frame = received(
                    _present(shared, tensor), tensor, frame_shape(tensor), self._device)
                foreign.setdefault(tensor.value, []).extend(gradient_terms(tensor, frame))
        result = {}
        for name in self.trainable:
            terms = foreign.get(name, [])
            for consumer, leaf in self._leaves.get(name, {}).items():
                if leaf.grad is not None:
                    terms.append((-1 if consumer is None else consumer, leaf.grad))
                    leaf.grad = None
            if terms:
                result[name] = fold(terms)
        return result

    def _terms(self, name: str, consumers: Sequence[int]) -> list[Term]:
        leaves, terms = self._leaves[name], []
        for consumer in consumers:
            leaf = leaves[consumer] if consumer in leaves else leaves[None]
            gradient = torch.zeros_like(leaf) if leaf.grad is None else leaf.grad
            terms.append((consumer, gradient))
            leaf.grad = None
        return terms


def own_updates(program: SegmentProgram) -> dict[str, str]:
    """The graph's updates of the segment's own parameters: name -> value that replaces it."""
    updates = program.graph.updates
    return {name: updates[name] for name in program.segment.parameters if name in updates}


def _placed(
    program: SegmentProgram, name: str, values: Mapping[str, Array], device: torch.device
) -> Tensor:
    kind, value = program.graph.types[name], values.get(name)
    if value is None or value.shape != kind.shape or value.dtype.name != kind.dtype:
        had = "nothing" if value is None else f"{value.dtype.name} {value.shape}"
        raise HomespunError(
            Code.INVALID_ARGUMENT,
            f"Parameter '{name}' was given as {had}; the graph says {kind.dtype} {kind.shape}.",
            parameter=name)
    return to_torch(value, device)


def _present(arrays: Mapping[int, Array], tensor: BoundaryTensor) -> Array:
    if tensor.edge not in arrays:
        raise HomespunError(
            Code.INVALID_ARGUMENT,
            f"Nothing was given for boundary tensor {tensor.edge} ('{tensor.value}').",
            edge=tensor.edge)
    return arrays[tensor.edge]
