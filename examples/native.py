"""The same training in one process, in plain PyTorch: what Homespun is compared with.

It sees the same batches, microbatches, optimizer, learning rates and clipping as a job with the
same `TrainingSpec`, and computes them with nothing but the module, autograd and `torch.optim`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import cos, pi

import numpy as np
import torch
from torch import Tensor, nn

from dag.job import OptimizerSpec, TrainingSpec
from homespun.sampling import batch_rows

Columns = Mapping[str, "np.ndarray[tuple[int, ...], np.dtype[np.generic]]"]
Loss = Callable[[nn.Module, dict[str, Tensor]], Tensor]


def train_native(
    model: nn.Module, loss: Loss, columns: Columns, training: TrainingSpec
) -> list[float]:
    """Train `model` in place.

    Args:
        model: any module; parameters without `requires_grad` stay as they are.
        loss: `(model, batch) -> scalar` mean over the samples of a microbatch.
        columns: column name -> array, rows first.
        training: how to train; evaluation is left out, as it changes no weight.

    Returns:
        The loss of each step: the mean over its microbatches.
    """
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = native_optimizer(training.optimizer, parameters)
    model.train()
    losses = []
    for step in range(training.steps):
        optimizer.zero_grad()
        losses.append(sum(
            _accumulate(model, loss, rows, training.microbatches)
            for rows in _microbatches(columns, training, step)))
        if training.clip_norm:
            nn.utils.clip_grad_norm_(parameters, training.clip_norm)
        for group in optimizer.param_groups:
            group["lr"] = native_learning_rate(training, step)
        optimizer.step()
    return losses


def native_optimizer(spec: OptimizerSpec, parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
    """The optimizer of `torch.optim` that a spec names."""
    if spec.kind == "sgd":
        return torch.optim.SGD(
            parameters, lr=spec.learning_rate, momentum=spec.momentum, nesterov=spec.nesterov,
            weight_decay=spec.weight_decay)
    kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[spec.kind]
    return kind(
        parameters, lr=spec.learning_rate, betas=(spec.beta1, spec.beta2), eps=spec.epsilon,
        weight_decay=spec.weight_decay)


def native_learning_rate(training: TrainingSpec, step: int) -> float:
    """Learning rate of a step, from the definition in `dag.job.ScheduleSpec`."""
    schedule, peak = training.schedule, training.optimizer.learning_rate
    if step < schedule.warmup_steps:
        return peak * (step + 1) / schedule.warmup_steps
    if schedule.kind == "constant":
        return peak
    end = schedule.total_steps or training.steps
    progress = min(1.0, (step - schedule.warmup_steps) / max(1, end - schedule.warmup_steps))
    factor = 1.0 - progress if schedule.kind == "linear" else (1.0 + cos(pi * progress)) / 2.0
    return peak * (schedule.final_ratio + (1.0 - schedule.final_ratio) * factor)


def relative_difference(first: Mapping[str, Tensor], second: Mapping[str, Tensor]) -> float:
    """`||first - second|| / ||second||` over all tensors together, in double precision.

    Raises:
        ValueError: the two do not have the same names.
    """
    if first.keys() != second.keys():
        raise ValueError(f"only one side has {sorted(first.keys() ^ second.keys())}")
    difference = sum((first[n].double() - second[n].double()).square().sum() for n in second)
    size = sum(tensor.double().square().sum() for tensor in second.values())
    return float((difference / size) ** 0.5)


def _accumulate(
    model: nn.Module, loss: Loss, batch: dict[str, Tensor], microbatches: int
) -> float:
    """Add a microbatch's share to the gradients; returns its share of the loss."""
    share = loss(model, batch) / microbatches
    share.backward()
    return float(share.detach())


def _microbatches(columns: Columns, training: TrainingSpec, step: int) -> list[dict[str, Tensor]]:
    """The rows of a step, cut into microbatches."""
    count = len(next(iter(columns.values())))
    rows = batch_rows(training.seed, step, training.batch_size, count)
    return [
        {name: torch.from_numpy(np.asarray(column[part])) for name, column in columns.items()}
        for part in np.split(rows, training.microbatches)]
