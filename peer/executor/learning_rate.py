"""The learning rate of a step: a pure function, the same for every executor."""

from __future__ import annotations

from math import cos, pi

from dag.job import TrainingSpec
from homespun.errors import Code, HomespunError


def learning_rate(training: TrainingSpec, step: int) -> float:
    """Learning rate that the update of `step` uses.

    While `step < warmup_steps` the factor is `(step + 1) / warmup_steps`. Afterwards a decaying
    schedule goes from factor 1 at step `warmup_steps` to `final_ratio` at step `total_steps`, and
    stays there.

    Args:
        training: optimizer (its `learning_rate` is multiplied), schedule, number of steps.
        step: optimizer steps done before this one, >= 0.

    Raises:
        HomespunError: INVALID_JOB if the schedule's kind is unknown.
    """
    schedule, peak = training.schedule, training.optimizer.learning_rate
    if schedule.kind not in ("constant", "linear", "cosine"):
        raise HomespunError(
            Code.INVALID_JOB,
            f"Unknown schedule '{schedule.kind}'; use constant, linear or cosine.",
            kind=schedule.kind)
    if step < schedule.warmup_steps:
        return peak * ((step + 1) / schedule.warmup_steps)
    if schedule.kind == "constant":
        return peak
    total = schedule.total_steps or training.steps
    length = max(total - schedule.warmup_steps, 1)
    progress = min((step - schedule.warmup_steps) / length, 1.0)
    falling = 1.0 - progress if schedule.kind == "linear" else 0.5 * (1.0 + cos(pi * progress))
    return peak * (schedule.final_ratio + (1.0 - schedule.final_ratio) * falling)
