"""A job's losses and its speed by step as charts: a few hundred points, however many steps."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise
from math import isfinite
from operator import attrgetter

from broker.console.axes import Scale, Tick, across, at, short, upwards, whole
from broker.core.event_log import LogLine
from broker.core.views import Metric

HEIGHT = 240.0
BUCKETS = 400
"""Each keeps its least and its greatest loss, so that no spike is lost."""
SPOTS = 100
"""Stretches that say what they are when they are pointed at."""
SPEEDS = 60
"""Stretches of time that a speed is taken over."""
TEXTS = 3
"""Recoveries that are told of one step."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """A line by step, `axes.WIDTH` x `HEIGHT` units, y downwards; numbers as SVG wants them.

    Attributes:
        kind: `loss` or `speed`.
        line: points of the line.
        dots: (x, y, what it is) of each validation loss.
        level: y of a line to compare with, and what it is; None for none.
        marks: (x, what happened) of each step at which a segment had to move.
        spots: (x, width, what it is) of stretches to be pointed at.
        x_ticks, y_ticks: what is written along the lower and the left edge.
    """

    kind: str
    line: str
    dots: tuple[tuple[str, str, str], ...]
    level: tuple[str, str] | None
    marks: tuple[tuple[str, str], ...]
    spots: tuple[tuple[str, str, str], ...]
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]


@dataclass(frozen=True, slots=True)
class Stretch:
    """Steps `first` up to `last`, done at one speed."""

    first: int
    last: int
    steps_per_s: float


def loss_chart(
    losses: Sequence[Metric], checks: Sequence[Metric], recoveries: Sequence[LogLine]
) -> Chart | None:
    """The losses of a job.

    Args:
        losses: of steps, in order; those that are not finite are left out.
        checks: validation losses; their `step` counts the steps before them.
        recoveries: what happened when segments moved.

    Returns:
        None where fewer than two losses are known. Cost: O(losses).
    """
    finite = [each for each in losses if isfinite(each.loss)]
    checks = [each for each in checks if isfinite(each.loss)]
    if len(finite) < 2:
        return None
    values = [each.loss for each in (*finite, *checks)]
    x = across(finite[0].step, max(each.step for each in (finite[-1], *checks)))
    y = upwards(min(values), max(values), HEIGHT)
    return Chart(
        kind="loss",
        line=" ".join(f"{at(x(each.step))},{at(y(each.loss))}" for each in _thinned(finite)),
        dots=tuple((at(x(each.step)), at(y(each.loss)),
                    f"validation loss after {whole(each.step)} steps: {short(each.loss)}")
                   for each in checks[-BUCKETS:]),
        level=None, marks=_marks(finite, recoveries, x), spots=tuple(_loss_spots(finite, x)),
        x_ticks=x.ticks(8, whole, 1.0), y_ticks=y.ticks(5, short))


def speed_chart(
    losses: Sequence[Metric], recoveries: Sequence[LogLine], predicted_per_s: float
) -> Chart | None:
    """The speed of a job, in steps per second.

    Args:
        losses: of steps, in order; when each came is what counts.
        recoveries: what happened when segments moved.
        predicted_per_s: the planner's; 0 for none.

    Returns:
        None where all steps came at one time. Cost: O(losses).
    """
    stretches = speeds(losses)
    if not stretches:
        return None
    x = across(losses[0].step, losses[-1].step)
    y = upwards(0.0, max(predicted_per_s, *(each.steps_per_s for each in stretches)), HEIGHT)
    line = [f"{at(x(step))},{at(y(each.steps_per_s))}"
            for each in stretches for step in (each.first, each.last)]
    return Chart(
        kind="speed", line=" ".join(line), dots=(),
        level=(at(y(predicted_per_s)), f"predicted: {short(predicted_per_s)} steps/s")
        if predicted_per_s else None,
        marks=_marks(losses, recoveries, x),
        spots=tuple(_spot(x, each.first, each.last,
                          f"steps {whole(each.first)} to {whole(each.last)}: "
                          f"{short(each.steps_per_s)} steps/s") for each in stretches),
        x_ticks=x.ticks(8, whole, 1.0), y_ticks=y.ticks(5, short))


def speeds(losses: Sequence[Metric]) -> list[Stretch]:
    """How fast the steps came, over stretches of at least a share of the whole time.

    Losses come several at a time: a stretch ends where some came, so that none is cut.
    """
    if not losses:
        return []
    arrivals = [(list(some)[-1].step, at_ns)
                for at_ns, some in groupby(losses, key=attrgetter("at_ns"))]
    least_ns = (arrivals[-1][1] - arrivals[0][1]) / SPEEDS
    ends = arrivals[:1]
    for step, at_ns in arrivals[1:]:
        if at_ns - ends[-1][1] >= max(least_ns, 1):
            ends.append((step, at_ns))
    return [Stretch(first, last, (last - first) * 1e9 / (to_ns - from_ns))
            for (first, from_ns), (last, to_ns) in pairwise(ends)]


def _marks(
    losses: Sequence[Metric], recoveries: Sequence[LogLine], x: Scale
) -> tuple[tuple[str, str], ...]:
    """Recoveries at the step that came next, of several at one step the first few texts."""
    times = [each.at_ns for each in losses]
    found: dict[int, list[str]] = {}
    for line in sorted(recoveries, key=attrgetter("at_ns")):
        step = losses[min(bisect_left(times, line.at_ns), len(losses) - 1)].step
        found.setdefault(step, []).append(line.text)
    return tuple(
        (at(x(step)), f"step {whole(step)}: " + " ".join(texts[:TEXTS])
         + (f" And {len(texts) - TEXTS} more." if len(texts) > TEXTS else ""))
        for step, texts in sorted(found.items()))


def _loss_spots(losses: Sequence[Metric], x: Scale) -> Iterator[tuple[str, str, str]]:
    count = min(SPOTS, len(losses))
    for number in range(count):
        start, end = (len(losses) * each // count for each in (number, number + 1))
        some = losses[start:end]
        first, after = some[0].step, losses[min(end, len(losses) - 1)].step
        values = [each.loss for each in some]
        yield _spot(x, first, after, f"step {whole(first)}: {short(values[0])}"
                    if len(some) == 1 else f"steps {whole(first)} to {whole(some[-1].step)}: "
                    f"{short(min(values))} to {short(max(values))}")


def _spot(x: Scale, first: int, last: int, text: str) -> tuple[str, str, str]:
    return at(x(first)), at(max(x(last) - x(first), 1.0)), text


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
