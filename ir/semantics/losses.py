"""Losses over classes."""

from __future__ import annotations

from typing import Any

from ir.semantics.backend import Array, Backend
from ir.semantics.call import OpCall
from ir.semantics.reductions import log_softmax
from ir.semantics.registry import Runner, semantics

_IGNORED = -100
"""Label that counts for nothing where the node names none, as in torch."""


@semantics("SoftmaxCrossEntropyLoss")
def _cross_entropy(call: OpCall, backend: Backend) -> Runner:
    negative_log = _negative_log_likelihood(call, backend)
    logged = call.wants(1)

    def run(scores: Array, labels: Array, weights: Array | None = None) -> Any:
        logs = log_softmax(backend, scores, 1)
        loss = negative_log(logs, labels, weights)
        return (loss, logs) if logged else loss

    return run


@semantics("NegativeLogLikelihoodLoss")
def _negative_log_likelihood(call: OpCall, backend: Backend) -> Runner:
    xp, dtype = backend.xp, call.type(0).dtype
    reduction, ignored = call.text("reduction", "mean"), call.integer("ignore_index", _IGNORED)

    def run(logs: Array, labels: Array, weights: Array | None = None) -> Array:
        labels = backend.cast(labels, "int64")
        is_counted = labels != ignored
        labels = xp.where(is_counted, labels, xp.zeros_like(labels))
        picked = xp.take_along_axis(logs, xp.expand_dims(labels, axis=1), axis=1)
        share = backend.cast(is_counted, dtype)
        if weights is not None:
            share = share * xp.reshape(
                xp.take(weights, xp.reshape(labels, (-1,)), axis=0), labels.shape)
        losses = xp.where(is_counted, -xp.squeeze(picked, axis=1) * share, xp.zeros_like(share))
        if reduction == "none":
            return losses
        total = xp.sum(losses, dtype=losses.dtype)
        return total if reduction == "sum" else total / xp.sum(share, dtype=share.dtype)

    return run
