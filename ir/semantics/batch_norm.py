"""Batch normalisation: by the batch's own statistics in training, by the stored ones otherwise."""

from __future__ import annotations

from typing import Any

from ir.semantics.backend import Backend
from ir.semantics.call import OpCall
from ir.semantics.registry import Runner, semantics


def by_batch(call: OpCall) -> bool:
    """Whether a node uses the statistics of its batch in this mode.

    A graph is one for training and evaluation, as with dropout: `training_mode` 1 holds while
    training; evaluation and inference use the stored statistics and hand them on unchanged.
    """
    return call.training and call.integer("training_mode", 0) == 1


@semantics("BatchNormalization", by_mode=True)
def _batch_norm(call: OpCall, backend: Backend) -> Runner:
    """Source: ONNX operator BatchNormalization-15; Ioffe and Szegedy 2015 (arXiv:1502.03167)."""
    xp, rank, kept = backend.xp, len(call.shape(0)), call.number("momentum", 0.9)
    axes = (0, *range(2, rank))
    epsilon, outputs = call.number("epsilon", 1e-5), len(call.node.outputs)
    statistics = call.type(3).dtype

    def across(values: Any) -> Any:
        return xp.reshape(values, (1, -1) + (1,) * (rank - 2))

    def run(x: Any, scale: Any, bias: Any, mean: Any, variance: Any) -> Any:
        wide = backend.cast(x, statistics)
        running = (mean, variance)
        if by_batch(call):
            found = xp.mean(wide, axis=axes), xp.var(wide, axis=axes)
            running = tuple(
                old * kept + new * (1 - kept) if kept else new
                for old, new in zip(running, found, strict=True))
            mean, variance = found
        scale, bias = (across(backend.cast(v, statistics)) for v in (scale, bias))
        y = (wide - across(mean)) / xp.sqrt(across(variance) + epsilon) * scale + bias
        return (backend.cast(y, call.type(0).dtype), *running)[:outputs] if outputs > 1 else (
            backend.cast(y, call.type(0).dtype))

    return run
