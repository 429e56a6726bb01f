"""A job's losses as a pandas DataFrame."""

from __future__ import annotations

from typing import Any

from homespun.extras import load_extra
from homespun.status import JobMetrics

EXTRA = "notebook"


def metrics_frame(curves: JobMetrics) -> Any:
    """Losses by step.

    Returns:
        A DataFrame with the index `step` and the columns `loss` (of the step, before its update;
        NaN where there is none), `validation_loss` (after so many updates; NaN where it was not
        evaluated) and `time` (UTC, when the broker heard of it). So one row's losses are of the
        same parameters, and the last evaluation has a row of its own.

    Raises:
        HomespunError: BAD_CONFIGURATION without pandas.
    """
    pandas = load_extra("pandas", EXTRA, "job.metrics()")
    losses = {metric.step: metric for metric in curves.steps}
    checks = {metric.step: metric for metric in curves.evaluations}
    steps = sorted(losses.keys() | checks.keys())
    nothing = float("nan")
    return pandas.DataFrame(
        {
            "loss": [losses[step].loss if step in losses else nothing for step in steps],
            "validation_loss": [checks[step].loss if step in checks else nothing for step in steps],
            "time": pandas.to_datetime(
                [(losses.get(step) or checks[step]).unix_ms for step in steps],
                unit="ms", utc=True),
        },
        index=pandas.Index(steps, name="step", dtype="int64"))
