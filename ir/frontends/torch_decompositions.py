"""Operators that the exporter gets wrong, written out in simpler ones that it gets right.

* Every cross-entropy becomes `SoftmaxCrossEntropyLoss`, which knows neither label smoothing
  (dropped without a word) nor targets that are probabilities.
* Attention loses its dropout without a word.
* The logarithm of a sigmoid is taken literally: minus infinity for logits below about -100, where
  the loss itself is finite.
* A three-dimensional convolution without a bias gets one of the wrong shape.

And one that the tracer itself gets wrong: it records a reshape as a view where the memory layout it
sees allows that, and decompositions change layouts afterwards.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

MEAN, SUM = 1, 2
"""ATen's numbers for `reduction`; 0 is none."""


def attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    *,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """`aten.scaled_dot_product_attention` with dropout, or NotImplemented to leave it whole.

    Args:
        query: [..., H, L, E].
        key: [..., G, S, E]; G divides H where `enable_gqa`.
        value: [..., G, S, D].
        attn_mask: true or 0 where attention is allowed, broadcast to [..., H, L, S].
        dropout_p: share of the attention weights set to zero.
        is_causal: position i sees positions up to i.
        scale: factor on the scores; None: 1 / sqrt(E).
        enable_gqa: whether groups of query heads share a key head.

    Source: torch.nn.functional.scaled_dot_product_attention, the reference in its documentation.
    """
    if dropout_p == 0.0:
        return NotImplemented
    if enable_gqa:
        group = query.shape[-3] // key.shape[-3]
        key, value = key.repeat_interleave(group, -3), value.repeat_interleave(group, -3)
    factor = query.shape[-1] ** -0.5 if scale is None else scale
    scores = query @ key.transpose(-2, -1) * factor
    if is_causal:
        length, sources = scores.shape[-2:]
        attn_mask = torch.ones(length, sources, dtype=torch.bool, device=query.device).tril()
    if attn_mask is not None:
        allowed = attn_mask.dtype == torch.bool
        scores = (
            scores.masked_fill(~attn_mask, float("-inf")) if allowed else scores + attn_mask
        )
    return F.dropout(scores.softmax(-1), dropout_p, training=True) @ value


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


def cumprod(x: Tensor, dim: int, *, dtype: torch.dtype | None = None) -> Tensor:
    """`aten.cumprod`: running products, doubling their reach in each of log2(extent) passes.

    Source: Hillis and Steele 1986, Data parallel algorithms, "sum of an array of numbers".
    """
    x = x if dtype is None else x.to(dtype)
    extent, reach = x.shape[dim] if x.ndim else 1, 1
    while reach < extent:
        rest = extent - reach
        joined = x.narrow(dim, reach, rest) * x.narrow(dim, 0, rest)
        x = torch.cat([x.narrow(dim, 0, reach), joined], dim)
        reach *= 2
    return x


def conv3d(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, stride: list[int] | int = 1,
    padding: list[int] | int = 0, dilation: list[int] | int = 1, groups: int = 1,
) -> Tensor:
    """`aten.conv3d` with a bias of zeros where there is none; else NotImplemented."""
    if bias is not None:
        return NotImplemented
    zeros = torch.zeros(weight.shape[0], dtype=weight.dtype, device=weight.device)
    return F.conv3d(x, weight, zeros, stride, padding, dilation, groups)


def view(x: Tensor, size: list[int]) -> Tensor:
    """`aten.view` of any memory layout; NotImplemented to leave it whole."""
    return NotImplemented if x.is_contiguous() else x.contiguous().view(size)


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
