"""A loss curve as points of an SVG: at most a few hundred, however many steps there are."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite

from broker.core.views import Metric

WIDTH, HEIGHT = 800.0, 240.0
BUCKETS = 400
"""Each keeps its least and its greatest loss, so that no spike is lost."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """A chart of `WIDTH` x `HEIGHT` units, y downwards.

    Attributes:
        points: of the training losses, as SVG wants them.
        checks: (x, y) of each validation loss.
        recoveries: x of each moment in which a segment had to move.
        least, greatest: losses at the lower and the upper edge.
        last_step: step at the right edge.
    """

    points: str
    checks: tuple[tuple[str, str], ...]
    recoveries: tuple[str, ...]
    least: float
    greatest: float
    last_step: int


def curve(
    losses: Sequence[Metric], checks: Sequence[Metric], recoveries_ns: Sequence[int]
) -> Curve | None:
    """The chart of a job's losses.

    Args:
        losses: of steps, in order; those that are not finite are left out.
        checks: validation losses; their `step` counts the steps before them.
        recoveries_ns: when segments moved.

    Returns:
        None where fewer than two losses are known. Cost: O(losses).
    """
    finite = [each for each in losses if isfinite(each.loss)]
    checks = [each for each in checks if isfinite(each.loss)]
    if len(finite) < 2:
        return None
    values = [each.loss for each in (*finite, *checks)]
    least, greatest = min(values), max(values)
    first, last = finite[0].step, max(each.step for each in (finite[-1], *checks))
    width, height = max(last - first, 1), (greatest - least) or 1.0

    def place(step: int, loss: float) -> tuple[str, str]:
        x = WIDTH * (step - first) / width
        return f"{x:.1f}", f"{HEIGHT * (greatest - loss) / height:.1f}"

    times = [each.at_ns for each in finite]
    moved = sorted({min(bisect_left(times, at_ns), len(finite) - 1) for at_ns in recoveries_ns})
    return Curve(
        points=" ".join(",".join(place(each.step, each.loss)) for each in _thinned(finite)),
        checks=tuple(place(each.step, each.loss) for each in checks[-BUCKETS:]),
        recoveries=tuple(place(finite[index].step, least)[0] for index in moved),
        least=least, greatest=greatest, last_step=last)


def _thinned(losses: Sequence[Metric]) -> list[Metric]:
    """The least and the greatest loss of each bucket, in order."""
    if len(losses) <= 2 * BUCKETS:
        return list(losses)
    found: list[Metric] = []
    for bucket in range(BUCKETS):
        start, end = (len(losses) * each // BUCKETS for each in (bucket, bucket + 1))
        some = losses[start:end]
        low, high = (pick(some, key=lambda each: each.loss) for pick in (min, max))
        found += sorted({low.step: low, high.step: high}.values(), key=lambda each: each.step)
    return found
