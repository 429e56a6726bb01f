"""One segment on a torch device: forward, backward, update (`peer.executor.base.LoadedSegment`)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from homespun.errors import Code, HomespunError
from ir.graph import INFER
from ir.segment import BoundaryKind, BoundaryTensor
from peer.executor.base import Array, ForwardResult, SegmentProgram, WorkKey
from peer.executor.flow import gradient_flow, own_updates
from peer.executor.gradients import (
    EVERY_CONSUMER,
    Term,
    arrived,
    checked_column,
    fold,
    frame_shape,
    gradient_frame,
    gradient_terms,
)
from peer.executor.learning_rate import learning_rate
from peer.executor.state import check_state, optimizer_key, parameter_key
from peer.executor.torch_executor.compilation import compile_plan
from peer.executor.torch_executor.deferred import WeightGradient
from peer.executor.torch_executor.failures import failures
from peer.executor.torch_executor.optimizer import (
    apply_gradients,
    make_optimizer,
    memory_of,
    remember,
    remembered,
)
from peer.executor.torch_executor.parameters import (
    Parameters,
    squared_norm,
)
from peer.executor.torch_executor.plan import check_types, execute
from peer.executor.torch_executor.run_state import RunState
from peer.executor.torch_executor.tensors import to_host, to_numpy, to_torch


@dataclass(frozen=True, slots=True, eq=False)
class _Kept:
    """What backward needs of a forward.

    Attributes:
        roots: value -> tensor: the loss and differentiable outgoing activations.
        leaves: edge -> (consumer, leaf) of each differentiable incoming activation.
    """

    roots: Mapping[str, Tensor]
    leaves: Mapping[int, list[Term]]


@dataclass(frozen=True, slots=True, eq=False)
class _Inputs:
    """What it takes to run a forward again.

    Attributes:
        data: rows of the columns.
        incoming: edge -> activation.
        buffers: slot -> what an updated parameter was.
    """

    data: Mapping[str, Array]
    incoming: Mapping[int, Array]
    buffers: Mapping[int, Tensor | None]


class TorchSegment:
    """A loaded segment. Calls come one at a time, from one thread."""

    def __init__(
        self, program: SegmentProgram, parameters: Mapping[str, Array], device: torch.device
    ) -> None:
        segment = program.segment
        self._program, self._segment, self._device = program, segment, device
        self._state = RunState(program.training.seed)
        flow = gradient_flow(program.graph, program.trainable)
        self._plan = compile_plan(program, flow, device, self._state)
        self._is_checked = False
        self._loss_name = program.graph.outputs[0] if segment.has_loss else None
        self._results = [r.name for r in segment.results] if program.kind == INFER else []
        self._arriving = [t for t in segment.incoming if t.kind == BoundaryKind.ACTIVATION]
        self._leaving = [t for t in segment.outgoing if t.kind == BoundaryKind.ACTIVATION]
        with failures(f"Loading segment {segment.index}", device):
            self._parameters = Parameters(program, flow, parameters, device)
            own = self._parameters.own
            self._optimizer = make_optimizer(
                program.training.optimizer, [own[name] for name in self._parameters.trainable])
        self._initial = list(self._plan.initial)
        for key, leaf in self._parameters.leaves().items():
            self._initial[self._plan.slots[key]] = leaf
        self._updates = own_updates(program)
        self._updated = {name: self._plan.slots[name, None] for name in self._updates}
        self._kept: dict[WorkKey, _Kept | _Inputs] = {}
        self._deferred: dict[WorkKey, list[WeightGradient]] = {}
        self._is_awaited = any(t.differentiable for t in self._arriving)
        self._gradients: dict[str, Tensor] | None = None

    def forward(
        self, key: WorkKey, data: Mapping[str, Array], incoming: Mapping[int, Array]
    ) -> ForwardResult:
        """Run one microbatch forward; see the protocol."""
        training = key.mode == "train"
        with torch.set_grad_enabled(training), failures(
                f"Forward of segment {self._segment.index}", self._device):
            buffers = {slot: self._initial[slot] for slot in self._updated.values()}
            values, leaves = self._run(key, data, incoming, buffers)
            slots = self._plan.slots
            outputs = {t.edge: to_numpy(values[slots[t.value, None]], t.type.dtype)
                       for t in self._leaving}
            loss = None if self._loss_name is None else values[slots[self._loss_name, None]]
            if training:
                again = self._program.training.recompute
                self._kept[key] = (
                    _Inputs(data, incoming, buffers) if again
                    else _Kept(self._roots(values), leaves))
                self._apply_updates(values)
            return ForwardResult(
                outputs=outputs, loss=None if loss is None else float(loss.detach()),
                results={n: to_numpy(values[slots[n, None]]) for n in self._results})

    def backward(self, key: WorkKey, gradients: Mapping[int, Array]) -> Mapping[int, Array]:
        """Differentiate one microbatch; see the protocol."""
        kept = self._kept.pop(key, None)
        if kept is None:
            raise HomespunError(
                Code.CONFLICT,
                f"Segment {self._segment.index} has no forward of step {key.step}, microbatch "
                f"{key.microbatch} to differentiate.", segment=self._segment.index)
        with failures(f"Backward of segment {self._segment.index}", self._device):
            if isinstance(kept, _Inputs):
                with torch.enable_grad():
                    values, leaves = self._run(
                        key, kept.data, kept.incoming, kept.buffers)
                kept = _Kept(self._roots(values), leaves)
                del values
            self._state.deferred = self._deferred[key] = []
            self._differentiate(kept, gradients)
            if not self._is_awaited:
                self.accumulate(key)
            return {
                t.edge: to_numpy(
                    gradient_frame(t, _collected(kept.leaves[t.edge]), torch.stack))
                for t in self._arriving if t.differentiable}

    def has_deferred(self, key: WorkKey) -> bool:
        """Whether `accumulate` has anything to do for a microbatch."""
        return bool(self._deferred.get(key))

    def accumulate(self, key: WorkKey) -> None:
        """Add the weight gradients that backward left; see the protocol."""
        with failures(f"Backward of segment {self._segment.index}", self._device):
            waiting = self._deferred.pop(key, [])
            while waiting:
                waiting.pop(0).add()  # its operands are freed one after the other

    def set_shared(self, values: Mapping[int, Array]) -> None:
        """Set foreign parameters by edge."""
        self._parameters.set_shared(values)

    def shared_values(self) -> Mapping[int, Array]:
        """Copies of the own parameters that other segments use, by edge."""
        return self._parameters.shared_values()

    def shared_gradients(self) -> Mapping[int, Array]:
        """Gradients of foreign parameters, by edge; clears them."""
        self._accumulate_rest()
        return self._parameters.shared_gradients()

    def squared_norms(self, shared: Mapping[int, Array]) -> Mapping[str, float]:
        """Finish the step's gradients and measure them; see the protocol."""
        self._accumulate_rest()
        with torch.no_grad(), failures(
                f"Gradients of segment {self._segment.index}", self._device):
            self._gradients = self._parameters.finish(shared)
            norms = [squared_norm(gradient) for gradient in self._gradients.values()]
            measured = torch.stack(norms).tolist() if norms else []
        result = dict.fromkeys(self._parameters.trainable, 0.0)
        result.update(zip(self._gradients, measured, strict=True))
        return result

    def update(self, step: int, scale: float) -> None:
        """Apply the optimizer once; see the protocol."""
        if self._gradients is None:
            raise HomespunError(
                Code.INTERNAL, "update was called without squared_norms in this step.",
                segment=self._segment.index)
        with failures(f"Update of segment {self._segment.index}", self._device):
            rate = learning_rate(self._program.training, step)
            apply_gradients(
                self._optimizer, self._parameters.own, self._gradients, rate, scale)
        self._gradients = None

    def parameters(self) -> Mapping[str, Array]:
        """Copies of the segment's own parameters, by name."""
        types = self._program.graph.types
        return {name: to_numpy(value.clone(), types[name].dtype)
                for name, value in self._parameters.own.items()}

    def state(self) -> Mapping[str, Array]:
        """A copy of parameters and optimizer state; see the protocol."""
        self._check_between_steps()
        own, types = self._parameters.own, self._program.graph.types
        names = {parameter_key(name): name for name in own}
        tensors = {parameter_key(name): value for name, value in own.items()}
        for name in self._parameters.trainable:
            for key, kept in remembered(self._optimizer, own[name]).items():
                tensors[optimizer_key(name, key)] = kept
        with failures(f"Copying the state of segment {self._segment.index}", self._device):
            return {name: to_numpy(copy, types[names[name]].dtype if name in names else None)
                    for name, copy in to_host(tensors).items()}

    def restore(self, state: Mapping[str, Array]) -> None:
        """Take a state; see the protocol."""
        self._check_between_steps()
        own, types = self._parameters.own, self._program.graph.types
        rule, trainable = self._program.training.optimizer, self._parameters.trainable
        memory = {name: memory_of(rule, types[name]) for name in trainable}
        check_state(state, {name: types[name] for name in own}, memory, trainable)
        with torch.no_grad(), failures(
                f"Restoring segment {self._segment.index}", self._device):
            for name, value in own.items():
                value.copy_(to_torch(state[parameter_key(name)], self._device))
            for name, keys in memory.items():
                found = {key: optimizer_key(name, key) for key in keys}
                remember(self._optimizer, own[name], {
                    key: to_torch(state[full], self._device)
                    for key, full in found.items() if full in state})

    def close(self) -> None:
        """Free device memory."""
        self._kept.clear()
        self._deferred.clear()
        self._initial.clear()
        self._gradients = None
        del self._parameters, self._optimizer, self._plan
        if self._device.type == "cuda":
            torch.cuda.empty_cache()

    def _check_between_steps(self) -> None:
        if self._kept or self._deferred or self._gradients is not None:
            raise HomespunError(
                Code.INTERNAL, "the state of a segment was asked for inside a step.",
                segment=self._segment.index)

    def _accumulate_rest(self) -> None:
        for key in list(self._deferred):
            self.accumulate(key)

    def _run(
        self, key: WorkKey, data: Mapping[str, Array], incoming: Mapping[int, Array],
        buffers: Mapping[int, Tensor | None],
    ) -> tuple[list[Tensor | None], dict[int, list[Term]]]:
        state, slots = self._state, self._plan.slots
        state.training, state.step, state.microbatch = (
            key.mode == "train", key.step, key.microbatch)
        values = self._initial.copy()
        for slot, buffer in buffers.items():
            values[slot] = buffer
        for name in self._segment.data_inputs:
            values[slots[name, None]] = to_torch(
                checked_column(self._program.graph, name, data), self._device)
        leaves = {}
        for tensor in self._arriving:
            value = to_torch(
                arrived(incoming, tensor, tensor.type.shape, "activation"), self._device)
            values[slots[tensor.value, None]] = value
            if tensor.differentiable:
                leaves[tensor.edge] = self._leaf_terms(tensor, value, values)
        plan = self._plan if self._is_checked else check_types(self._plan, self._program.graph)
        execute(plan, values, self._device)
        self._is_checked = True
        return values, leaves

    def _apply_updates(self, values: list[Tensor | None]) -> None:
        """Replace the updated parameters by what this microbatch made of them."""
        for name, slot in self._updated.items():
            value = values[self._plan.slots[self._updates[name], None]]
            assert value is not None
            self._initial[slot] = self._parameters.replace(name, value)

    def _leaf_terms(
        self, tensor: BoundaryTensor, value: Tensor, values: list[Tensor | None]
    ) -> list[Term]:
        """Make leaves of an incoming activation and put them where its consumers read."""
        slots = self._plan.slots
        if tensor.contributions == 1:
            return [(EVERY_CONSUMER, value.requires_grad_(torch.is_grad_enabled()))]
        terms = []
        for consumer in tensor.consumers:
            leaf = value.detach().requires_grad_(torch.is_grad_enabled())
            values[slots[tensor.value, consumer]] = leaf
            terms.append((consumer, leaf))
        return terms

    def _roots(self, values: list[Tensor | None]) -> dict[str, Tensor]:
        names = [t.value for t in self._leaving if t.differentiable]
        if self._loss_name is not None:
            names.append(self._loss_name)
        roots = {}
        for name in names:
            tensor = values[self._plan.slots[name, None]]
            assert tensor is not None
            if tensor.requires_grad:
                roots[name] = tensor
        return roots

    def _differentiate(self, kept: _Kept, gradients: Mapping[int, Array]) -> None:
        external: dict[str, list[Term]] = {}
        for tensor in self._leaving:
            if not tensor.differentiable:
                continue
            frame = to_torch(
                arrived(gradients, tensor, frame_shape(tensor), "gradient"), self._device)
            external.setdefault(tensor.value, []).extend(gradient_terms(tensor, frame))
        if self._loss_name is not None and self._loss_name in kept.roots:
            seed = torch.full_like(
                kept.roots[self._loss_name], 1.0 / self._program.training.microbatches)
            external.setdefault(self._loss_name, []).append((EVERY_CONSUMER, seed))
        names = [name for name in external if name in kept.roots]
        if names:
            torch.autograd.backward(
                [kept.roots[name] for name in names], [fold(external[name]) for name in names])


def _collected(leaves: list[Term]) -> list[Term]:
    """Gradients of leaves; zeros where the result does not depend on one."""
    return [(consumer, torch.zeros_like(leaf) if leaf.grad is None else leaf.grad)
            for consumer, leaf in leaves]
