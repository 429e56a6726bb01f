"""Matrix products. They alone compute in bfloat16 when the job's precision says so.

The rule is that of the torch executor: a product rounds its float32 operands to bfloat16,
multiplies, and returns float32 again, so every value keeps the type that the graph gives it.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import Array

from ir.graph import FLOATS
from ir.semantics.registry import Runner
from peer.executor.jax_executor.table import Call, operator


def rounded(call: Call, run: Runner) -> Runner:
    """`run` with operands in the job's precision and results in the graph's dtype."""
    dtype = call.type(0).dtype
    if call.precision != "bfloat16" or dtype != "float32":
        return run

    def low(*values: Array | None) -> Array:
        result: Array = run(
            *(None if v is None else jnp.asarray(v).astype(jnp.bfloat16) for v in values))
        return result.astype(jnp.float32)

    return low


@operator("MatMul")
def _matmul(call: Call) -> Runner:
    return rounded(call, jnp.matmul)


@operator("Gemm")
def _gemm(call: Call) -> Runner:
    alpha, beta = call.number("alpha", 1.0), call.number("beta", 1.0)
    swap_a, swap_b = bool(call.integer("transA", 0)), bool(call.integer("transB", 0))
    if call.type(0).dtype not in FLOATS:
        alpha, beta = int(alpha), int(beta)

    def run(a: Array, b: Array, c: Array | None = None) -> Array:
        # Contracted where they lie: a transposed weight would be a copy that backward keeps.
        product = jax.lax.dot_general(a, b, (((0,) if swap_a else (1,), (1,) if swap_b else (0,)),
                                             ((), ())))
        product = product if alpha == 1 else product * alpha
        if c is None:
            return product
        return product + (c if beta == 1 else c * beta)

    return rounded(call, run)


@operator("Einsum")
def _einsum(call: Call) -> Runner:
    equation = call.text("equation", "").replace(" ", "")
    return rounded(call, lambda *values: jnp.einsum(equation, *values))
