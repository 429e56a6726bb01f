"""Losses that the exporter gets wrong, written out in simpler operators.

It turns every cross-entropy into `SoftmaxCrossEntropyLoss`, which knows neither label smoothing
(dropped without a word) nor targets that are probabilities. And it takes the logarithm of a
sigmoid, which is minus infinity for logits below about -100, where the loss itself is finite.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

MEAN, SUM = 1, 2
"""ATen's numbers for `reduction`; 0 is none."""


def cross_entropy(
    logits: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    reduction: int = MEAN,
    ignore_index: int = -100,
    label_smoothing: float = 0.0,
) -> Tensor:
    """`aten.cross_entropy_loss` in simpler operators, or NotImplemented to leave it whole.

    Args:
        logits: [N, C, ...] or [C].
        target: class numbers [N, ...], or probabilities of the shape of `logits`.
        weight: [C], factor on each class.
        reduction: `MEAN`, `SUM` or 0.
        ignore_index: class number whose samples do not count.
        label_smoothing: share of the probability spread over all classes, 0 to 1.

    Source: torch.nn.CrossEntropyLoss, both formulas.
    """
    probabilities = target.is_floating_point()
    if not probabilities and label_smoothing == 0.0:
        return NotImplemented
    axis = 0 if logits.ndim == 1 else 1
    classes = logits.shape[axis]
    log_p = F.log_softmax(logits, axis)
    if weight is not None:
        log_p = log_p * weight.reshape([-1 if i == axis else 1 for i in range(logits.ndim)])
    if probabilities:
        smooth = target * (1 - label_smoothing) + label_smoothing / classes
        loss = -(log_p * smooth).sum(axis)
        samples = logits.numel() // classes
        return loss.sum() / samples if reduction == MEAN else _sum_or_none(loss, reduction)
    return _smoothed(log_p, target, weight, reduction, ignore_index, label_smoothing)


def log_sigmoid(x: Tensor) -> Tensor:
    """`log(sigmoid(x))` without overflow, any shape."""
    return -F.softplus(-x)


def binary_cross_entropy_with_logits(
    logits: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    pos_weight: Tensor | None = None,
    reduction: int = MEAN,
) -> Tensor:
    """`aten.binary_cross_entropy_with_logits` without overflow.

    Args:
        logits: any shape.
        target: probabilities, same shape.
        weight: factor on each element's loss, broadcast.
        pos_weight: factor on the positive part, broadcast.
        reduction: `MEAN`, `SUM` or 0.

    Source: torch.nn.BCEWithLogitsLoss: -y log s(x) - (1 - y) log(1 - s(x)), with
        log s(x) = -softplus(-x) and log(1 - s(x)) = -x - softplus(-x).
    """
    factor = 1 if pos_weight is None else 1 + (pos_weight - 1) * target
    loss = (1 - target) * logits + factor * F.softplus(-logits)
    if weight is not None:
        loss = loss * weight
    return loss.mean() if reduction == MEAN else _sum_or_none(loss, reduction)


def _smoothed(
    log_p: Tensor, target: Tensor, weight: Tensor | None, reduction: int, ignore: int, share: float
) -> Tensor:
    """Class numbers with label smoothing; `log_p` carries the class weights already."""
    axis = 0 if log_p.ndim == 1 else 1
    counts = target != ignore
    chosen = torch.where(counts, target, 0)
    own = -log_p.gather(axis, chosen.unsqueeze(axis)).squeeze(axis)
    spread = -log_p.sum(axis) / log_p.shape[axis]
    loss = torch.where(counts, (1 - share) * own + share * spread, 0.0)
    if reduction != MEAN:
        return _sum_or_none(loss, reduction)
    each = counts.to(log_p.dtype)
    if weight is not None:
        each = each * weight[chosen]
    return loss.sum() / each.sum()


def _sum_or_none(loss: Tensor, reduction: int) -> Tensor:
    return loss.sum() if reduction == SUM else loss
