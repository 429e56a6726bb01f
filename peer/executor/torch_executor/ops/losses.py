"""Losses over classes, mapped to torch's own."""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from peer.executor.torch_executor.table import Call, Runner, operator


@operator("SoftmaxCrossEntropyLoss", dense=True)
def _cross_entropy(call: Call) -> Runner:
    reduction, ignored = call.text("reduction", "mean"), call.integer("ignore_index", -100)
    logged = call.wants(1)

    def run(scores: Tensor, labels: Tensor, weights: Tensor | None = None) -> Any:
        target = labels.long()
        if not logged:
            return F.cross_entropy(
                scores, target, weights, ignore_index=ignored, reduction=reduction)
        logs = F.log_softmax(scores, 1)
        return F.nll_loss(logs, target, weights, ignore_index=ignored, reduction=reduction), logs

    return run


@operator("NegativeLogLikelihoodLoss", dense=True)
def _nll(call: Call) -> Runner:
    reduction, ignored = call.text("reduction", "mean"), call.integer("ignore_index", -100)
    return lambda scores, target, weights=None: F.nll_loss(
        scores, target.long(), weights, ignore_index=ignored, reduction=reduction)
