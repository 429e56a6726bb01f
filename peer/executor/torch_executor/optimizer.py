"""The update rule: torch's own optimizers, set up so that no tensor's result depends on others."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from dag.job import OptimizerSpec
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
