"""A job's losses drawn by matplotlib, with the moments at which it lost time."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from typing import Any

from homespun.extras import load_extra
from homespun.metrics_frame import EXTRA
from homespun.status import JobMetrics
from homespun.timeline import EventLine

RECOVERY = "recovery"


def plot_losses(
    title: str, curves: JobMetrics, recoveries: Sequence[EventLine], axes: Any = None
) -> Any:
    """Draw training and validation losses over steps, and a dashed line at each recovery.

    Args:
        title: over the drawing.
        curves: what to draw.
        recoveries: moments to mark.
        axes: matplotlib axes to draw on; None for a new figure.

    Returns:
        The axes.

    Raises:
        HomespunError: BAD_CONFIGURATION without matplotlib.
    """
    pyplot = load_extra("matplotlib.pyplot", EXTRA, "job.plot()")
    if axes is None:
        _, axes = pyplot.subplots()
    for label, metrics, style in (
        ("training", curves.steps, "-"), ("validation", curves.evaluations, "o-"),
    ):
        if metrics:
            axes.plot([each.step for each in metrics], [each.loss for each in metrics], style,
                      label=label)
    for number, step in enumerate(recovery_steps(curves, recoveries)):
        axes.axvline(step, linestyle="--", color="0.5", label="_" * bool(number) + RECOVERY)
    axes.set_xlabel("step")
    axes.set_ylabel("loss")
    axes.set_title(title)
    if axes.get_legend_handles_labels()[1]:
        axes.legend()
    return axes


def recovery_steps(curves: JobMetrics, recoveries: Sequence[EventLine]) -> list[int]:
    """The first step done after each recovery, each once; the last step where none was."""
    if not curves.steps:
        return []
    times = [metric.unix_ms for metric in curves.steps]
    found = (min(bisect_left(times, event.unix_ms), len(times) - 1) for event in recoveries)
    return sorted({curves.steps[index].step for index in found})
