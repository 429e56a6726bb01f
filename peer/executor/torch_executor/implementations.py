"""Every operator that torch runs: its own implementation, or else what `ir.semantics` says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ir.semantics.families import TABLE
from ir.semantics.registry import Semantics
from peer.executor.torch_executor import ops
from peer.executor.torch_executor.backend import TorchBackend
from peer.executor.torch_executor.table import (
    REGISTERED,
    Builder,
    Call,
    Implementation,
    Runner,
)


def _builder(entry: Semantics) -> Builder:
    def build(call: Call) -> Runner:
        backend = TorchBackend(call.device)
        if not entry.by_mode:
            return entry.build(call, backend)
        modes = {mode: replace(call, training=mode) for mode in (False, True)}
        runners = {mode: entry.build(as_mode, backend) for mode, as_mode in modes.items()}

        def run(*values: Any) -> Any:
            mode = call.state.training
            drawn = () if entry.draw is None else entry.draw(
                modes[mode], call.state.key(call.node.index))
            return runners[mode](*values, *(backend.constant(array) for array in drawn))

        return run

    return build


assert ops  # importing it registers torch's own
IMPLEMENTATIONS: Mapping[str, Implementation] = {
    **{name: Implementation(_builder(entry), entry.host, static=entry.static)
       for name, entry in TABLE.items()},
    **REGISTERED,
}
"""op_type -> implementation."""
