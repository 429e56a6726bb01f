"""JAX's update rules against `torch.optim`, over several steps with changing rates."""

import jax
import numpy as np
import pytest
import torch

from dag.job import OptimizerSpec
from peer.executor.jax_executor.optimizer import factors, initial_state, updated
from peer.executor.torch_executor.optimizer import apply_gradients, make_optimizer

RULES = [
    {"kind": "sgd"}, {"kind": "sgd", "momentum": 0.9, "weight_decay": 0.1},
    {"kind": "sgd", "momentum": 0.9, "nesterov": True}, {"kind": "adam"},
    {"kind": "adam", "weight_decay": 0.1, "beta1": 0.8, "beta2": 0.99},
    {"kind": "adamw", "weight_decay": 0.1, "epsilon": 1e-6}]
TOLERANCE = {"float64": 1e-12, "float32": 2e-6}


@pytest.mark.parametrize("dtype", sorted(TOLERANCE))
@pytest.mark.parametrize("rule", RULES, ids=str)
def test_equals_torch(rule, dtype):
    spec, draws = OptimizerSpec(learning_rate=0.1, **rule), np.random.default_rng(0)
    start = {name: draws.standard_normal(shape).astype(dtype)
             for name, shape in (("a", (3, 4)), ("b", ()))}
    theirs = {name: torch.from_numpy(np.array(value)) for name, value in start.items()}
    native = make_optimizer(spec, list(theirs.values()))
    with jax.enable_x64(True):
        ours = {name: jax.numpy.asarray(value) for name, value in start.items()}
        state = initial_state(spec, ours)
        for step in range(4):
            rate, scale = 0.1 / (step + 1), 0.5 if step == 2 else 1.0
            gradients = {name: draws.standard_normal(value.shape).astype(dtype)
                         for name, value in start.items()}
            apply_gradients(
                native, theirs, {n: torch.from_numpy(np.array(g)) for n, g in gradients.items()},
                rate, scale)
            ours, state = updated(spec, ours, state, gradients, factors(spec, rate, scale, step))
    for name, value in theirs.items():
        assert ours[name].dtype == dtype
        np.testing.assert_allclose(
            ours[name], value, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype], err_msg=name)
