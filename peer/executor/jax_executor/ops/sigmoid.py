"""The logistic function, which XLA has as one operation."""

from __future__ import annotations

import jax

from ir.semantics.registry import Runner
from peer.executor.jax_executor.table import Call, operator


@operator("Sigmoid")
def _sigmoid(call: Call) -> Runner:
    return jax.nn.sigmoid
