"""One segment on a JAX device: forward, backward, update (`peer.executor.base.LoadedSegment`)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import numpy as np

from homespun.errors import Code, HomespunError
from ir.graph import INFER, TensorType
from ir.segment import BoundaryKind, BoundaryTensor
from ir.tensor_proto import numpy_dtype
from peer.executor.base import Array, ForwardResult, SegmentProgram, WorkKey
from peer.executor.carriers import CARRIERS
from peer.executor.flow import gradient_flow
from peer.executor.gradients import (
    EVERY_CONSUMER,
    Term,
    arrived,
    checked_column,
    checked_parameter,
    frame_shape,
    gradient_frame,
)
from peer.executor.jax_executor import optimizer
from peer.executor.jax_executor.compiled import Compiled, shapes_of
from peer.executor.jax_executor.failures import failures
from peer.executor.jax_executor.functions import Arrays, Outcome, SegmentFunctions, passed_constants
from peer.executor.learning_rate import learning_rate
from peer.executor.state import check_state, optimizer_key, parameter_key
from peer.executor.update_rule import check_rule


@dataclass(frozen=True, slots=True, eq=False)
class _Kept:
    """What backward needs of a forward.

    Attributes:
        arguments: of the forward; arrays never change, so these are references, not copies.
        residuals: what the forward computed on the way; None where it will be computed again.
    """

    arguments: tuple[Any, ...]
    residuals: list[jax.Array] | None


class JaxSegment:
    """A loaded segment. Calls come one at a time, from one thread.

    A training segment is compiled when it is loaded, evaluation with its first microbatch unless
    the job says that there will be one. Arrays on the device are never changed in place.
    """

    def __init__(
        self, program: SegmentProgram, parameters: Mapping[str, Array], device: jax.Device
    ) -> None:
        segment = program.segment
        self._program, self._segment, self._device = program, segment, device
        self._rule = program.training.optimizer
        check_rule(self._rule)
        self._functions = SegmentFunctions(program, gradient_flow(program.graph, program.trainable))
        self._incoming = _parameters(segment.incoming)
        self._outgoing = _parameters(segment.outgoing)
        names = dict.fromkeys([*segment.parameters, *(t.value for t in self._incoming)])
        with self._work("Loading"):
            self._values = {name: self._placed(checked_parameter(program.graph, name, parameters))
                            for name in names}
            plans = (self._functions.training, self._functions.evaluation)
            self._constants = {name: self._placed(array)
                               for name, array in passed_constants(plans).items()}
            trained = {name: self._values[name] for name in self._functions.trained}
            self._state = optimizer.initial_state(self._rule, trained)
            self._make_functions(trained)
        self._kept: dict[WorkKey, _Kept] = {}
        self._sums: Arrays = {}
        self._gradients: Arrays | None = None

    def _make_functions(self, trained: Arrays) -> None:
        """Prepare what may be called; compile what will be."""
        functions = self._functions
        arguments = self._argument_shapes()
        self._evaluate = Compiled(
            functions.evaluate, *arguments(functions.evaluation.draws(0, 0, 0)))
        forward = arguments(functions.training.draws(0, 0, 0))
        self._train = Compiled(functions.train, *forward)
        if self._program.kind == INFER or self._program.training.evaluate_every:
            self._evaluate.compile()
        if not self._program.trainable or self._program.kind == INFER:
            return
        self._train.compile()
        _, residuals = self._train.results
        frames, lent = (
            {t.edge: _carrier(t.type, frame_shape(t)) for t in tensors if t.differentiable}
            for tensors in (functions.leaving, self._outgoing))
        values = shapes_of(self._values)
        self._zeros = Compiled(functions.zeros, values)
        sums = self._zeros.results
        self._backward = Compiled(
            functions.backward, forward, residuals, frames, sums, donated=(3,))
        self._finish = Compiled(functions.finish, sums, lent)
        numbers = optimizer.factors(self._rule, 1.0, 1.0, 0)
        shapes = shapes_of(trained)
        self._update = Compiled(
            partial(optimizer.updated, self._rule), shapes, shapes_of(self._state), shapes,
            shapes_of(numbers), donated=(0, 1))
        for compiled in (self._zeros, self._backward, self._finish, self._update):
            compiled.compile()

    def _argument_shapes(self) -> Any:
        types = self._program.graph.types
        data = {name: _carrier(types[name], types[name].shape)
                for name in self._segment.data_inputs}
        incoming = {t.edge: _carrier(t.type, t.type.shape) for t in self._functions.arriving}
        known = shapes_of(self._values), shapes_of(self._constants), data, incoming
        return lambda draws: (*known, shapes_of(draws))

    def forward(
        self, key: WorkKey, data: Mapping[str, Array], incoming: Mapping[int, Array]
    ) -> ForwardResult:
        """Run one microbatch forward; see the protocol."""
        with self._work("Forward"):
            arguments = self._arguments(key, data, incoming)
            if key.mode != "train":
                return _result(self._evaluate(*arguments))
            outcome, residuals = self._train(*arguments)
            again = self._program.training.recompute
            self._kept[key] = _Kept(arguments, None if again else residuals)
            result = _result(outcome)
            self._values.update(outcome.updates)
            return result

    def backward(self, key: WorkKey, gradients: Mapping[int, Array]) -> Mapping[int, Array]:
        """Differentiate one microbatch; see the protocol."""
        kept = self._kept.pop(key, None)
        if kept is None:
            raise HomespunError(
                Code.CONFLICT,
                f"Segment {self._segment.index} has no forward of step {key.step}, microbatch "
                f"{key.microbatch} to differentiate.", segment=self._segment.index)
        with self._work("Backward"):
            frames = {t.edge: self._sent(arrived(gradients, t, frame_shape(t), "gradient"))
                      for t in self._functions.leaving if t.differentiable}
            residuals = kept.residuals
            if residuals is None:
                _, residuals = self._train(*kept.arguments)
            self._sums, sent = self._backward(
                kept.arguments, residuals, frames, self._started_sums())
            return {edge: np.asarray(frame) for edge, frame in sent.items()}

    def has_deferred(self, key: WorkKey) -> bool:
        """Nothing is ever left for later: backward is one compiled function."""
        return False

    def accumulate(self, key: WorkKey) -> None:
        """Nothing to add."""

    def set_shared(self, values: Mapping[int, Array]) -> None:
        """Set foreign parameters by edge."""
        with self._work("Parameters"):
            for tensor in self._incoming:
                if tensor.edge in values:
                    array = arrived(values, tensor, tensor.type.shape, "parameter")
                    self._values[tensor.value] = self._placed(array)

    def shared_values(self) -> Mapping[int, Array]:
        """Copies of the own parameters that other segments use, by edge."""
        return {t.edge: self._copy(t.value) for t in self._outgoing}

    def shared_gradients(self) -> Mapping[int, Array]:
        """Gradients of foreign parameters, by edge; clears them."""
        with self._work("Gradients"):
            return {t.edge: gradient_frame(t, self._shared_terms(t), np.stack)
                    for t in self._incoming if t.differentiable}

    def squared_norms(self, shared: Mapping[int, Array]) -> Mapping[str, float]:
        """Finish the step's gradients and measure them; see the protocol."""
        trainable = [name for name in self._segment.parameters if name in self._program.trainable]
        with self._work("Gradients"):
            frames = {t.edge: self._sent(arrived(shared, t, frame_shape(t), "gradient"))
                      for t in self._outgoing if t.differentiable}
            self._gradients = {}
            norms: Mapping[str, jax.Array] = {}
            if self._functions.trained:
                self._gradients, norms = self._finish(self._started_sums(), frames)
            self._sums = {}
            return {**dict.fromkeys(trainable, 0.0),
                    **{name: float(norm) for name, norm in jax.device_get(norms).items()}}

    def update(self, step: int, scale: float) -> None:
        """Apply the optimizer once; see the protocol."""
        if self._gradients is None:
            raise HomespunError(
                Code.INTERNAL, "update was called without squared_norms in this step.",
                segment=self._segment.index)
        with self._work("Update"):
            rate = learning_rate(self._program.training, step)
            numbers = optimizer.factors(self._rule, rate, scale, step)
            if self._gradients:
                values = {name: self._values[name] for name in self._gradients}
                changed, self._state = self._update(
                    values, self._state, self._gradients, numbers)
                self._values.update(changed)
        self._gradients = None

    def parameters(self) -> Mapping[str, Array]:
        """Copies of the segment's own parameters, by name."""
        return {name: self._copy(name) for name in self._segment.parameters}

    def state(self) -> Mapping[str, Array]:
        """A copy of parameters and optimizer state; see the protocol."""
        self._check_between_steps()
        with self._work("Copying the state"):
            state = {parameter_key(name): self._copy(name) for name in self._segment.parameters}
            for name, kept in self._state.items():
                for key, array in zip(optimizer.kept_keys(self._rule), kept, strict=True):
                    state[optimizer_key(name, key)] = np.array(array)
            return state

    def restore(self, state: Mapping[str, Array]) -> None:
        """Take a state; see the protocol."""
        self._check_between_steps()
        types, keys = self._program.graph.types, optimizer.kept_keys(self._rule)
        own = self._segment.parameters
        memory = {name: dict.fromkeys(keys, types[name]) for name in self._state}
        check_state(state, {name: types[name] for name in own}, memory)
        with self._work("Restoring"):
            self._values |= {name: self._placed(state[parameter_key(name)]) for name in own}
            self._state = {
                name: tuple(self._placed(state[optimizer_key(name, key)]) for key in keys)
                for name in memory}

    def close(self) -> None:
        """Free device memory: the arrays and the compiled functions."""
        self._kept.clear()
        self._sums, self._gradients = {}, None
        names = ("_values", "_constants", "_state", "_functions", "_evaluate", "_train", "_zeros",
                 "_backward", "_finish", "_update")
        for name in names:
            self.__dict__.pop(name, None)

    def _check_between_steps(self) -> None:
        if self._kept or self._sums or self._gradients is not None:
            raise HomespunError(
                Code.INTERNAL, "the state of a segment was asked for inside a step.",
                segment=self._segment.index)

    @contextmanager
    def _work(self, what: str) -> Iterator[None]:
        """The settings of this executor, for the block only, and its errors as ours."""
        with (failures(f"{what} of segment {self._segment.index}", self._device),
              jax.enable_x64(True), jax.default_matmul_precision("highest"),
              jax.default_device(self._device)):
            yield

    def _placed(self, array: Array) -> jax.Array:
        """A copy on the device that shares no memory, so that an update may take it over."""
        return jax.device_put(_carried(array), self._device, may_alias=False)

    def _copy(self, name: str) -> Array:
        """A parameter's value in memory of its own."""
        array = np.array(self._values[name])
        return array.astype(numpy_dtype(self._program.graph.types[name].dtype), copy=False)

    def _sent(self, array: Array) -> jax.Array:
        """The array on the device, of which only this microbatch's work reads."""
        return jax.device_put(array, self._device)

    def _arguments(
        self, key: WorkKey, data: Mapping[str, Array], incoming: Mapping[int, Array]
    ) -> tuple[Any, ...]:
        graph, functions = self._program.graph, self._functions
        plan = functions.training if key.mode == "train" else functions.evaluation
        columns = {name: _carried(checked_column(graph, name, data))
                   for name in self._segment.data_inputs}
        activations = {t.edge: _carried(arrived(incoming, t, t.type.shape, "activation"))
                       for t in functions.arriving}
        draws = plan.draws(self._program.training.seed, key.step, key.microbatch)
        sent = jax.device_put((columns, activations, draws), self._device)
        return (dict(self._values), self._constants, *sent)

    def _started_sums(self) -> Arrays:
        """The step's sums so far; zeros where there are none yet, or no more."""
        if len(self._sums) == len(self._functions.parameter_leaves):
            return self._sums
        return {**self._zeros(self._values), **self._sums}

    def _shared_terms(self, tensor: BoundaryTensor) -> list[Term]:
        terms = []
        for consumer in tensor.consumers:
            own, joint = (tensor.value, consumer), (tensor.value, EVERY_CONSUMER)
            found = self._sums.pop(own, None)
            found = self._sums.pop(joint, None) if found is None else found
            if found is None:
                found = np.zeros(tensor.type.shape, numpy_dtype(tensor.type.dtype))
            terms.append((consumer, np.asarray(found)))
        return terms


def _parameters(tensors: tuple[BoundaryTensor, ...]) -> list[BoundaryTensor]:
    return [tensor for tensor in tensors if tensor.kind == BoundaryKind.PARAMETER]


def _carrier(kind: TensorType, shape: tuple[int, ...]) -> jax.ShapeDtypeStruct:
    """What an array of a type is on the device."""
    return jax.ShapeDtypeStruct(shape, numpy_dtype(CARRIERS.get(kind.dtype, kind.dtype)))


def _carried(array: Array) -> Array:
    """The array in the dtype that carries it."""
    carrier = CARRIERS.get(array.dtype.name)
    return array if carrier is None else array.astype(numpy_dtype(carrier))


def _result(outcome: Outcome) -> ForwardResult:
    outcome = jax.device_get(outcome)
    return ForwardResult(
        outputs=outcome.outputs, results=outcome.results,
        loss=None if outcome.loss is None else float(outcome.loss))
