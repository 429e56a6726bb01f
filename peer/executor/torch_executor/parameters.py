"""Parameters of a segment on the device, their leaves, and the sums of their gradients.

A parameter with several consumer nodes in the whole graph has one leaf per consumer. The leaves
share the parameter's memory, and each collects its own sum over the step's microbatches; the sums
are added once per step in descending order of consumer index. So a tied parameter gets the same
gradient bits wherever its consumers run (docs/adr/0008-bit-identity.md).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from ir.segment import BoundaryKind
from peer.executor.base import Array, SegmentProgram
from peer.executor.flow import Flow, separate_leaves
from peer.executor.gradients import (
    EVERY_CONSUMER,
    Term,
    arrived,
    checked_parameter,
    fold,
    frame_shape,
    gradient_frame,
    gradient_terms,
)
from peer.executor.torch_executor.plan import SlotKey
from peer.executor.torch_executor.tensors import row_major, to_numpy, to_torch

_CHUNK = 1 << 16

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
        self._values = {name: to_torch(
            checked_parameter(program.graph, name, values), device) for name in names}
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
                    value = arrived(values, tensor, tensor.type.shape, "parameter")
                    self._values[tensor.value].copy_(to_torch(value, self._device))

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
                result[tensor.edge] = to_numpy(gradient_frame(tensor, terms, torch.stack))
        return result

    def finish(self, shared: Mapping[int, Array]) -> dict[str, Tensor]:
        """Gradients of the step: the own trainable parameters that have one; clears the leaves."""
        foreign: dict[str, list[Term]] = {}
        for tensor in self._outgoing:
            if tensor.differentiable:
                frame = to_torch(
                    arrived(shared, tensor, frame_shape(tensor), "gradient"), self._device)
                foreign.setdefault(tensor.value, []).extend(gradient_terms(tensor, frame))
        result = {}
        for name in self.trainable:
            terms = foreign.get(name, [])
            for consumer, leaf in self._leaves.get(name, {}).items():
                if leaf.grad is not None:
                    terms.append((EVERY_CONSUMER if consumer is None else consumer, leaf.grad))
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
