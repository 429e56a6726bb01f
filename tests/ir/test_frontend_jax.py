"""`ir.frontends.jax_function`: names, loss and gradients as JAX has them, and what is refused.

Tolerance: float32, 1e-4 relative to the largest entry; sums are taken in another order.
"""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from homespun.errors import Code, HomespunError
from ir.check import check
from ir.frontends.jax_function import import_function
from tests.pipeline import loss_and_gradients

RANDOM = np.random.default_rng(7)
IMAGES = RANDOM.normal(size=(2, 6, 6, 1)).astype(np.float32)
LABELS = np.array([1, 3])
TOKENS = RANDOM.normal(size=(2, 5, 8)).astype(np.float32)


class Convolutional(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.relu(nn.Conv(3, (3, 3))(x))
        x = nn.LayerNorm()(x.reshape(x.shape[0], -1))
        return nn.Dense(4)(nn.gelu(nn.Dense(8)(x)))


class Block(nn.Module):
    """Self-attention and a layer after it, with residuals."""

    @nn.compact
    def __call__(self, x):
        x = x + nn.MultiHeadDotProductAttention(num_heads=2)(nn.LayerNorm()(x))
        return x + nn.Dense(8)(nn.relu(nn.Dense(16)(nn.LayerNorm()(x))))


def cross_entropy(model):
    def loss(params, batch):
        logs = jax.nn.log_softmax(model.apply(params, batch["x"]))
        return -jnp.take_along_axis(logs, batch["y"][:, None], axis=1).mean()

    return loss


def squares(model):
    return lambda params, batch: (model.apply(params, batch["x"]) ** 2).mean()


def variables(model, x):
    """Flax's variables with numbers of ours, no two equal, so that none can be mixed up."""
    shapes = jax.eval_shape(model.init, jax.random.key(0), x)
    return jax.tree_util.tree_map(
        lambda leaf: RANDOM.normal(size=leaf.shape).astype(np.float32) / 3, shapes)


@pytest.mark.parametrize(("model", "loss_of", "sample"), [
    (Convolutional(), cross_entropy, {"x": IMAGES, "y": LABELS}),
    (Block(), squares, {"x": TOKENS}),
])
def test_loss_and_gradients_are_those_of_jax(model, loss_of, sample):
    params = variables(model, sample["x"])
    imported = import_function(loss_of(model), params, sample)
    check(imported.graph)
    assert imported.graph.inputs == tuple(sample)
    assert "params/Dense_0/kernel" in imported.graph.parameters
    wanted_loss, gradients = jax.jit(jax.value_and_grad(loss_of(model)))(
        params, {name: jnp.asarray(array) for name, array in sample.items()})
    loss, found = loss_and_gradients(imported, sample)
    assert loss == pytest.approx(float(wanted_loss), rel=1e-5)
    for path, wanted in jax.tree_util.tree_flatten_with_path(gradients)[0]:
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        scale = max(1e-3, float(np.abs(wanted).max()))
        np.testing.assert_allclose(found[name], wanted, atol=1e-4 * scale + 2e-6, err_msg=name)


PARAMS = {"layer": {"kernel": np.ones((3, 2), np.float32), "bias": np.zeros(2, np.float32)},
          "scale": np.full((2,), 2.0, np.float32)}
X = np.arange(6, dtype=np.float32).reshape(2, 3)


def line(params, batch):
    return (batch["x"] @ params["layer"]["kernel"] + params["layer"]["bias"]) * params["scale"]


def test_predictions_get_a_loss_and_places_can_be_frozen():
    target = np.ones((2, 2), np.float32)
    imported = import_function(
        line, PARAMS, {"x": X, "wanted": target}, loss="mse", target="wanted", frozen=("layer",))
    check(imported.graph)
    assert imported.graph.inputs == ("x", "wanted")
    assert {p.name: p.trainable for p in imported.parameters} == {
        "layer/bias": False, "layer/kernel": False, "scale": True}
    loss, _ = loss_and_gradients(imported, {"x": X, "wanted": target})
    assert loss == pytest.approx(float(np.mean((line(PARAMS, {"x": X}) - 1) ** 2)), rel=1e-5)


def test_columns_keep_the_types_that_jax_narrows():
    imported = import_function(
        lambda params, batch: params["scale"][batch["index"]].mean(), PARAMS,
        {"index": np.array([0, 1, 1])})
    assert imported.graph.types["index"].dtype == "int64"


@jax.custom_vjp
def straight_through(x):
    return jnp.round(x)


straight_through.defvjp(lambda x: (jnp.round(x), None), lambda _, g: (g,))


@pytest.mark.parametrize(("function", "code", "parts"), [
    (lambda p, b: (jax.lax.stop_gradient(line(p, b)) * p["scale"]).mean(),
     Code.UNSUPPORTED_OP, ("'layer/bias'", "stop_gradient at test_frontend_jax.py, line")),
    (lambda p, b: straight_through(line(p, b)).mean(),
     Code.UNSUPPORTED_OP, ("'layer/bias'", "custom_vjp")),
    (lambda p, b: (line(p, b) * jax.random.normal(jax.random.key(0), (2, 2))).mean(),
     Code.UNSUPPORTED_OP, ("draws random numbers", "column")),
    (lambda p, b: jax.pure_callback(np.sin, p["scale"], p["scale"]).mean(),
     Code.UNSUPPORTED_OP, ("calls back into Python", "pure_callback")),
    (line, Code.INVALID_ARGUMENT, ("one floating-point scalar", "(2, 2)")),
    (lambda p, b: b["missing"].mean(), Code.EXPORT_FAILED, ("KeyError", "missing")),
    (lambda p, b: jax.lax.while_loop(
        lambda v: v.sum() < 100, lambda v: v * 2, line(p, b)).mean(),
     Code.UNSUPPORTED_OP, ("(Loop)", "depends on data", "constant trip count")),
])
def test_what_a_graph_cannot_carry_is_refused(function, code, parts):
    with pytest.raises(HomespunError) as caught:
        import_function(function, PARAMS, {"x": X})
    assert caught.value.code == code, caught.value
    for part in parts:
        assert part in caught.value.message


@pytest.mark.parametrize(("params", "sample", "parts"), [
    ({}, {"x": X}, ("needs parameters",)),
    (PARAMS, {}, ("sample",)),
    (PARAMS, {"scale": X}, ("'scale'",)),
    ({"key": np.array(["a"])}, {"x": X}, ("'key'", "keys of random numbers")),
])
def test_arguments_that_cannot_work_are_refused(params, sample, parts):
    with pytest.raises(HomespunError) as caught:
        import_function(line, params, sample)
    assert caught.value.code == Code.INVALID_ARGUMENT
    for part in parts:
        assert part in caught.value.message
