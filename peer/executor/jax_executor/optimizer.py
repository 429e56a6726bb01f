"""The update rules of `torch.optim`, element by element, traced into one compiled function."""

from __future__ import annotations

from collections.abc import Mapping
from math import sqrt

import jax
import jax.numpy as jnp
import numpy as np

from dag.job import OptimizerSpec

Arrays = Mapping[str, jax.Array]
State = Mapping[str, tuple[jax.Array, ...]]
"""parameter -> what the rule remembers, see `kept_keys`."""
Factors = Mapping[str, np.float64]


def kept_keys(spec: OptimizerSpec) -> tuple[str, ...]:
    """Names of what the rule remembers of each parameter, in the order of `State`."""
    if spec.kind == "sgd":
        return ("momentum",) if spec.momentum else ()
    return ("mean", "square")


def initial_state(spec: OptimizerSpec, values: Arrays) -> State:
    """Zeros: `torch.optim` starts its running means there, and its momentum at the gradient."""
    return {name: tuple(jnp.zeros_like(value) for _ in kept_keys(spec))
            for name, value in values.items()}


def factors(spec: OptimizerSpec, rate: float, scale: float, updates_done: int) -> Factors:
    """The numbers of one update, in double precision.

    Args:
        spec: the update rule.
        rate: learning rate of this step.
        scale: factor on the gradients.
        updates_done: updates before this one.
    """
    count = updates_done + 1
    is_adam = spec.kind != "sgd"
    first = 1.0 - spec.beta1**count if is_adam else 1.0
    second = sqrt(1.0 - spec.beta2**count) if is_adam else 1.0
    numbers = {"rate": rate, "scale": scale, "step_size": rate / first, "root": second}
    return {name: np.float64(number) for name, number in numbers.items()}


def updated(
    spec: OptimizerSpec, values: Arrays, state: State, gradients: Arrays, numbers: Factors
) -> tuple[Arrays, State]:
    """New values and state; pure.

    Args:
        spec: the update rule.
        values: by parameter.
        state: by parameter, as `initial_state` or this function gave it.
        gradients: by parameter.
        numbers: result of `factors`.
    """
    rule = _sgd if spec.kind == "sgd" else _adam
    results = {}
    for name, value in values.items():
        own = {key: jnp.asarray(number).astype(value.dtype) for key, number in numbers.items()}
        results[name] = rule(spec, value, state[name], gradients[name] * own["scale"], own)
    return ({name: value for name, (value, _) in results.items()},
            {name: kept for name, (_, kept) in results.items()})


def _sgd(
    spec: OptimizerSpec, value: jax.Array, state: tuple[jax.Array, ...], gradient: jax.Array,
    numbers: Mapping[str, jax.Array],
) -> tuple[jax.Array, tuple[jax.Array, ...]]:
    if spec.weight_decay:
        gradient = gradient + spec.weight_decay * value
    if state:
        momentum = spec.momentum * state[0] + gradient
        gradient = gradient + spec.momentum * momentum if spec.nesterov else momentum
        state = (momentum,)
    return value - numbers["rate"] * gradient, state


def _adam(
    spec: OptimizerSpec, value: jax.Array, state: tuple[jax.Array, ...], gradient: jax.Array,
    numbers: Mapping[str, jax.Array],
) -> tuple[jax.Array, tuple[jax.Array, ...]]:
    """Kingma & Ba 2015 (arXiv:1412.6980); decoupled decay: Loshchilov & Hutter 2019."""
    if spec.weight_decay:
        if spec.kind == "adamw":
            value = value - numbers["rate"] * spec.weight_decay * value
        else:
            gradient = gradient + spec.weight_decay * value
    mean = state[0] + (gradient - state[0]) * (1.0 - spec.beta1)
    square = spec.beta2 * state[1] + (1.0 - spec.beta2) * gradient * gradient
    size = jnp.sqrt(square) / numbers["root"] + spec.epsilon
    return value - numbers["step_size"] * mean / size, (mean, square)
