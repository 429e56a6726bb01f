"""The update rule: torch's own optimizers, set up so that no tensor's result depends on others."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from dag.job import OptimizerSpec
from ir.graph import TensorType
from peer.executor.update_rule import check_rule


def make_optimizer(spec: OptimizerSpec, parameters: list[Tensor]) -> torch.optim.Optimizer | None:
    """An optimizer over the parameters, None where there are none.

    The fused implementation is element-wise per tensor: which other tensors are updated in the
    same call changes no bit, so a cut cannot change the result.

    Raises:
        HomespunError: INVALID_JOB if the kind is unknown or a number is out of range.
    """
    check_rule(spec)
    return _make(spec, parameters) if parameters else None


def _make(spec: OptimizerSpec, parameters: list[Tensor]) -> torch.optim.Optimizer:
    if spec.kind == "sgd":
        return torch.optim.SGD(
            parameters, lr=spec.learning_rate, momentum=spec.momentum, nesterov=spec.nesterov,
            weight_decay=spec.weight_decay, fused=True)
    kind = torch.optim.Adam if spec.kind == "adam" else torch.optim.AdamW
    return kind(
        parameters, lr=spec.learning_rate, betas=(spec.beta1, spec.beta2), eps=spec.epsilon,
        weight_decay=spec.weight_decay, fused=True)


def memory_of(spec: OptimizerSpec, type_: TensorType) -> dict[str, TensorType]:
    """What the optimizer remembers of a parameter once that has had a gradient, by torch's keys."""
    if spec.kind == "sgd":
        return {"momentum_buffer": type_} if spec.momentum else {}
    return {"step": TensorType("float32", ()), "exp_avg": type_, "exp_avg_sq": type_}


def remembered(optimizer: torch.optim.Optimizer | None, value: Tensor) -> dict[str, Tensor]:
    """What the optimizer remembers of a parameter now, not copied."""
    kept = {} if optimizer is None else optimizer.state.get(value, {})
    return {key: item for key, item in kept.items() if isinstance(item, Tensor)}


def remember(
    optimizer: torch.optim.Optimizer | None, value: Tensor, kept: Mapping[str, Tensor]
) -> None:
    """Replace what the optimizer remembers of a parameter; empty: it is as it began."""
    if optimizer is not None:
        optimizer.state.pop(value, None)
        if kept:
            optimizer.state[value] = dict(kept)


@torch.no_grad()
def apply_gradients(
    optimizer: torch.optim.Optimizer | None,
    parameters: Mapping[str, Tensor],
    gradients: Mapping[str, Tensor],
    rate: float,
    scale: float,
) -> None:
    """Update the parameters in place with gradients times `scale`.

    Args:
        optimizer: over the values of `parameters`.
        parameters: name -> value.
        gradients: name -> gradient; a parameter without one is left alone.
        rate: learning rate of this step.
        scale: factor of global clipping; with 1.0 the gradients are used as they are.
    """
    if optimizer is None:
        return
    for name, gradient in gradients.items():
        parameters[name].grad = gradient
    if scale != 1.0 and gradients:
        torch._foreach_mul_(list(gradients.values()), scale)
    for group in optimizer.param_groups:
        group["lr"] = rate
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
