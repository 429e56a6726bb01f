"""Operators that torch runs as `ir.semantics` says, where it has no implementation of its own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ir.semantics.registry import Semantics, table
from peer.executor.torch_executor.backend import TorchBackend
from peer.executor.torch_executor.table import Builder, Call, Implementation, Runner


def shared_implementations() -> Mapping[str, Implementation]:
    """op_type -> implementation, for every operator of the shared table."""
    return {
        name: Implementation(_builder(entry), entry.host, static=entry.static)
        for name, entry in table().items()
    }


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
