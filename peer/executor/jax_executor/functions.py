"""The pure functions of a segment: forward, forward that remembers, backward, finish.

All take the same pytrees first: parameters by name, constants by name, data columns by name,
arriving activations by edge, draws by node. So what backward needs of those is not kept twice: the
forward returns only residuals that are not themselves arguments.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ir.graph import INFER
from ir.segment import BoundaryKind, BoundaryTensor
from ir.tensor_proto import numpy_dtype
from peer.executor.base import SegmentProgram
from peer.executor.carriers import CARRIERS
from peer.executor.flow import Flow, own_updates, separate_leaves
from peer.executor.gradients import (
    EVERY_CONSUMER,
    Term,
    fold,
    gradient_frame,
    gradient_terms,
)
from peer.executor.jax_executor.compilation import Compiler
from peer.executor.jax_executor.plan import Key, Plan, Values, trace

_LITERAL_ELEMENTS = 64
"""A constant up to this size is part of the compiled code, where XLA can simplify by it."""

Arguments = tuple[Any, ...]
Arrays = dict[Any, jax.Array]


@dataclass(frozen=True, slots=True, eq=False)
class Outcome:
    """What a forward gives: activations by edge, the loss, results by name, buffers by name."""

    outputs: Arrays
    loss: jax.Array | None
    results: Arrays
    updates: Arrays


jax.tree_util.register_dataclass(Outcome, ["outputs", "loss", "results", "updates"], [])


@dataclass(frozen=True, slots=True, eq=False)
class _Residuals:
    """How to put a VJP together again: its structure, and which parts are arguments.

    Attributes:
        structure: the VJP's pytree structure.
        places: for each leaf the number of the argument that it is, None if it was returned.
    """

    structure: Any
    places: tuple[int | None, ...]


class SegmentFunctions:
    """The functions, and what they were made from.

    Attributes:
        training, evaluation: the plans.
        arriving, leaving: activations that come and go.
        parameter_leaves: keys of the parameters' leaves, in order.
        trained: own trainable parameters that get a gradient, in order.
    """

    def __init__(self, program: SegmentProgram, flow: Flow) -> None:
        segment = program.segment
        self._program, self._segment, self._flow = program, segment, flow
        self._separate = separate_leaves(program, flow)
        self.arriving = _of_kind(segment.incoming, BoundaryKind.ACTIVATION)
        self.leaving = _of_kind(segment.outgoing, BoundaryKind.ACTIVATION)
        self._lent = [t for t in _of_kind(segment.outgoing, BoundaryKind.PARAMETER)
                      if t.differentiable]
        self._loss = program.graph.outputs[0] if segment.has_loss else None
        self._results = [r.name for r in segment.results] if program.kind == INFER else []
        self._updates = own_updates(program)
        self.parameter_leaves = self._parameter_leaves()
        graded = {name for name, _ in self.parameter_leaves} | {t.value for t in self._lent}
        self.trained = [name for name in segment.parameters
                        if name in program.trainable and name in graded]
        compiler, given = Compiler(program, flow), self._given_names()
        self.evaluation = compiler.plan(given, training=False)
        self.training = compiler.plan([*given, *self._updates.values()], training=True)
        self._residuals: _Residuals | None = None

    def evaluate(self, *arguments: Any) -> Outcome:
        """Forward of evaluation and inference."""
        values = self._values(self.evaluation, arguments)
        trace(self.evaluation, self._program.graph, values, arguments[4])
        return self._outcome(values, {})

    def train(self, *arguments: Any) -> tuple[Outcome, list[jax.Array]]:
        """Forward of training, and what backward needs besides the arguments."""
        parameters, _, _, incoming, draws = arguments
        leaves = {(name, consumer): parameters[name] for name, consumer in self.parameter_leaves}
        leaves |= {key: incoming[t.edge] for t in self.arriving if t.differentiable
                   for key in _activation_leaves(t)}

        def run(leaves: Values) -> tuple[Arrays, Outcome]:
            values = self._values(self.training, arguments) | leaves
            trace(self.training, self._program.graph, values, draws)
            updates = {name: values[value, EVERY_CONSUMER]
                       for name, value in self._updates.items()}
            roots = {name: values[name, EVERY_CONSUMER] for name in self._roots()}
            return roots, self._outcome(values, updates)

        _, pull_back, outcome = jax.vjp(run, leaves, has_aux=True)
        flat, structure = jax.tree.flatten(pull_back)
        numbers = {id(leaf): number for number, leaf in enumerate(jax.tree.leaves(arguments))}
        places = tuple(numbers.get(id(leaf)) for leaf in flat)
        self._residuals = _Residuals(structure, places)
        kept = [leaf for leaf, place in zip(flat, places, strict=True) if place is None]
        return outcome, kept

    def backward(
        self, arguments: Arguments, kept: list[jax.Array], gradients: Arrays, sums: Arrays
    ) -> tuple[Arrays, Arrays]:
        """Gradients of one microbatch.

        Args:
            arguments: of `train`.
            kept: what `train` returned.
            gradients: edge -> frame, for each differentiable leaving activation.
            sums: leaf -> sum over the microbatches before.

        Returns:
            The sums with this microbatch's, and edge -> frame of each differentiable arriving one.
        """
        residuals = self._residuals
        assert residuals is not None, "train is traced first"
        given, rest = jax.tree.leaves(arguments), iter(kept)
        flat = [next(rest) if place is None else given[place] for place in residuals.places]
        pull_back = jax.tree.unflatten(residuals.structure, flat)
        (found,) = pull_back(self._cotangents(gradients))
        frames = {t.edge: gradient_frame(t, [(key[1], found[key]) for key in _activation_leaves(t)],
                                         jnp.stack)
                  for t in self.arriving if t.differentiable}
        return {key: sums[key] + found[key] for key in self.parameter_leaves}, frames

    def finish(self, sums: Arrays, shared: Arrays) -> tuple[Arrays, Arrays]:
        """Gradient and squared norm (float64) of each trained parameter.

        Args:
            sums: leaf -> sum over the step's microbatches.
            shared: edge -> frame from the users of an own parameter.
        """
        terms: dict[str, list[Term]] = {name: [] for name in self.trained}
        for tensor in self._lent:
            terms[tensor.value] += gradient_terms(tensor, shared[tensor.edge])
        for name, consumer in self.parameter_leaves:
            if name in terms:
                terms[name].append((consumer, sums[name, consumer]))
        gradients = {name: fold(parts) for name, parts in terms.items()}
        return gradients, {name: jnp.sum(jnp.square(gradient.astype(np.float64)))
                           for name, gradient in gradients.items()}

    def zeros(self, parameters: Mapping[str, jax.Array]) -> Arrays:
        """The sums before the first microbatch."""
        return {key: jnp.zeros_like(parameters[key[0]]) for key in self.parameter_leaves}

    def _given_names(self) -> list[str]:
        loss = [self._loss] if self._loss and self._program.kind != INFER else []
        return [*loss, *self._results, *(t.value for t in self.leaving)]

    def _roots(self) -> list[str]:
        """Values that backward starts from."""
        names = [t.value for t in self.leaving if t.differentiable]
        if self._loss is not None and self._loss in self._flow.differentiable:
            names.append(self._loss)
        return list(dict.fromkeys(names))

    def _parameter_leaves(self) -> list[Key]:
        here = frozenset(self._segment.nodes)
        foreign = _of_kind(self._segment.incoming, BoundaryKind.PARAMETER)
        keys: list[Key] = []
        for name in dict.fromkeys([*self._segment.parameters, *(t.value for t in foreign)]):
            if name in self._separate:
                keys += [(name, consumer) for consumer in self._separate[name]]
            elif not here.isdisjoint(self._flow.consumers.get(name, ())):
                keys.append((name, EVERY_CONSUMER))
        return keys

    def _values(self, plan: Plan, arguments: Sequence[Any]) -> Values:
        parameters, constants, data, incoming, _ = arguments
        named = {name: constants.get(name, array) for name, array in plan.constants.items()}
        named.update(parameters)
        named.update(data)
        named.update({t.value: incoming[t.edge] for t in self.arriving})
        types = self._program.graph.types
        named.update({name: jnp.asarray(array).astype(numpy_dtype(types[name].dtype))
                      for name, array in named.items() if types[name].dtype in CARRIERS})
        values = {(name, EVERY_CONSUMER): array for name, array in named.items()}
        for name, consumers in self._separate.items():
            values.update({(name, consumer): named[name] for consumer in consumers})
        return values

    def _outcome(self, values: Values, updates: Arrays) -> Outcome:
        at = {name: jnp.asarray(values[name, EVERY_CONSUMER]) for name in self._given_names()}
        loss = at.get(self._loss) if self._loss else None
        return Outcome(
            outputs={t.edge: at[t.value] for t in self.leaving}, loss=loss,
            results={name: at[name] for name in self._results}, updates=updates)

    def _cotangents(self, gradients: Arrays) -> Arrays:
        terms: dict[str, list[Term]] = {name: [] for name in self._roots()}
        for tensor in self.leaving:
            if tensor.differentiable:
                terms[tensor.value] += gradient_terms(tensor, gradients[tensor.edge])
        if self._loss in terms:
            kind = self._program.graph.types[self._loss]
            seed = 1.0 / self._program.training.microbatches
            terms[self._loss].append(
                (EVERY_CONSUMER, jnp.full(kind.shape, seed, numpy_dtype(kind.dtype))))
        return {name: fold(parts) for name, parts in terms.items()}


def passed_constants(plans: Sequence[Plan]) -> dict[str, Any]:
    """Constants too large to be part of the compiled code: they are arguments."""
    return {name: array for plan in plans for name, array in plan.constants.items()
            if array.size > _LITERAL_ELEMENTS}


def _of_kind(tensors: Sequence[BoundaryTensor], kind: BoundaryKind) -> list[BoundaryTensor]:
    return [tensor for tensor in tensors if tensor.kind == kind]


def _activation_leaves(tensor: BoundaryTensor) -> list[Key]:
    """Keys of the leaves of an arriving activation."""
    if tensor.contributions == 1:
        return [(tensor.value, EVERY_CONSUMER)]
    return [(tensor.value, consumer) for consumer in tensor.consumers]
