"""The workloads of `peer.executor.rates` in JAX."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

from dag.cluster import PeerRates
from peer.executor.overheads import Overheads
from peer.executor.rates import PIXELS, SLIM, WIDE, RateWorkloads, Run, measured_rates


def jax_rates(device: jax.Device, overheads: Overheads) -> PeerRates:
    """Measure the rates of a device, about 8 s in all."""
    with jax.default_device(device), jax.default_matmul_precision("highest"):
        return measured_rates(RateWorkloads(
            matmul=_matmul, attention=_attention, convolution=_convolution, addition=_addition,
            is_asynchronous=device.platform != "cpu"), overheads)


def _matmul(dtype: str, n: int) -> Run:
    return _finished(jnp.matmul, jnp.ones((n, n), dtype), jnp.ones((n, n), dtype))


def _attention(dtype: str, length: int) -> Run:
    query, key, value = (jnp.ones((1, length, 8, 64), dtype) for _ in range(3))
    return _finished(jax.nn.dot_product_attention, query, key, value)


def _convolution(dtype: str, images: int) -> Run:
    def block(*operands: jax.Array) -> jax.Array:
        x, *kernels = operands
        for kernel in kernels:
            x = jax.lax.conv_general_dilated(x, kernel, (1, 1), "SAME")
        return x

    return _finished(
        block, jnp.ones((images, WIDE, PIXELS, PIXELS), dtype), jnp.ones((SLIM, WIDE, 1, 1), dtype),
        jnp.ones((SLIM, SLIM, 3, 3), dtype), jnp.ones((WIDE, SLIM, 1, 1), dtype))


def _addition(elements: int) -> Run:
    return _finished(jnp.add, jnp.ones(elements), jnp.ones(elements))


def _finished(function: Callable[..., jax.Array], *arguments: jax.Array) -> Run:
    compiled = jax.jit(function)

    def run() -> None:
        compiled(*arguments).block_until_ready()

    return run
