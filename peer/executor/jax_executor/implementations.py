"""Every operator that JAX runs: its own implementation, or else what `ir.semantics` says."""

from __future__ import annotations

from collections.abc import Mapping

from ir.semantics.families import TABLE
from ir.semantics.registry import Semantics
from peer.executor.jax_executor import ops
from peer.executor.jax_executor.table import REGISTERED

assert ops  # importing it registers them
IMPLEMENTATIONS: Mapping[str, Semantics] = {**TABLE, **REGISTERED}
"""op_type -> semantics."""


def is_host_work(op_type: str) -> bool:
    """Whether numpy can compute the operator while a segment is loaded."""
    return op_type not in REGISTERED and not IMPLEMENTATIONS[op_type].by_mode
