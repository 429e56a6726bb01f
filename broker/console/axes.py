"""Where values stand in a chart, and the round ones that are written along its edges."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import ceil, floor

from homespun.plan.svg import round_step
from homespun.units import format_duration

WIDTH = 800.0
"""Of every chart, in units of its SVG."""
LEFT, RIGHT, TOP, BOTTOM = 74.0, 14.0, 10.0, 24.0
"""Room for labels around the field."""
LABEL_GAP = 6.0
TIME_STEPS_S = (
    1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1_800, 3_600, 7_200, 21_600, 43_200, 86_400,
    172_800, 604_800)
Tick = tuple[str, str]
"""Where along an edge, and what is written there."""


@dataclass(frozen=True, slots=True)
class Edges:
    """The edges of a chart's field, and where the labels on its left end."""

    left: float
    right: float
    top: float
    bottom: float
    labels: float


def edges(height: float) -> Edges:
    """Of a chart that is `height` units high."""
    return Edges(LEFT, WIDTH - RIGHT, TOP, height - BOTTOM, LEFT - LABEL_GAP)


@dataclass(frozen=True, slots=True)
class Scale:
    """A range of values on a stretch of a drawing: `least` at `start`, `greatest` at `end`."""

    least: float
    greatest: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        """Where a value stands; what is out of range at the nearer end."""
        span = (self.greatest - self.least) or 1.0
        share = min(max((value - self.least) / span, 0.0), 1.0)
        return self.start + (self.end - self.start) * share

    def ticks(
        self, most: int, text: Callable[[float], str], smallest: float = 0.0
    ) -> tuple[Tick, ...]:
        """Round values within the range, about `most`, at least `smallest` apart."""
        span = self.greatest - self.least
        if span <= 0:
            return ((at(self(self.least)), text(self.least)),)
        step = max(round_step(span, most), smallest)
        numbers = range(ceil(self.least / step - 1e-9), floor(self.greatest / step + 1e-9) + 1)
        return tuple((at(self(number * step)), text(number * step)) for number in numbers)


def across(least: float, greatest: float) -> Scale:
    """Over the width of a chart's field."""
    return Scale(least, greatest, LEFT, WIDTH - RIGHT)


def upwards(least: float, greatest: float, height: float) -> Scale:
    """Over the height of a chart's field; the chart is `height` units high."""
    return Scale(least, greatest, height - BOTTOM, TOP)


def time_ticks(scale: Scale, most: int = 8) -> tuple[Tick, ...]:
    """Round times along a scale of seconds that begins at 0."""
    step_s = next((step for step in TIME_STEPS_S if scale.greatest <= most * step),
                  TIME_STEPS_S[-1] * ceil(scale.greatest / most / TIME_STEPS_S[-1]))
    return tuple((at(scale(number * step_s)), format_duration(number * step_s) if number else "0")
                 for number in range(floor(scale.greatest / step_s) + 1))


def at(value: float) -> str:
    """A coordinate as SVG wants it."""
    return f"{value:.1f}"


def whole(value: float) -> str:
    """A count: `12 000`."""
    return f"{value:,.0f}".replace(",", " ")


def short(value: float) -> str:
    """A number in few digits."""
    return f"{value:.4g}"
