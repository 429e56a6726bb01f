"""The workloads of `peer.executor.rates` in JAX."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

from dag.cluster import PeerRates
from peer.executor.rates import RateWorkloads, Run, measured_rates


def jax_rates(device: jax.Device) -> PeerRates:
    """Measure float32 rates on a device, about 3 s in all."""
    with jax.default_device(device), jax.default_matmul_precision("highest"):
        return measured_rates(
            RateWorkloads(matmul=_matmul, attention=_attention, addition=_addition))


def _matmul(n: int) -> Run:
    return _finished(jnp.matmul, jnp.ones((n, n)), jnp.ones((n, n)))


def _attention(length: int) -> Run:
    query, key, value = (jnp.ones((1, length, 8, 64)) for _ in range(3))
    return _finished(jax.nn.dot_product_attention, query, key, value)


def _addition(elements: int) -> Run:
    return _finished(jnp.add, jnp.ones(elements), jnp.ones(elements))


def _finished(function: Callable[..., jax.Array], *arguments: jax.Array) -> Run:
    compiled = jax.jit(function)

    def run() -> None:
        compiled(*arguments).block_until_ready()

    return run
