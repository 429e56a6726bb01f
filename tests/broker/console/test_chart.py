"""The loss curve: few points, every spike, recoveries where they were."""

from __future__ import annotations

import math

from broker.console.chart import BUCKETS, HEIGHT, WIDTH, curve
from broker.core.views import Metric


def losses(values):
    return [Metric(step=step, loss=loss, at_ns=1_000 * step) for step, loss in enumerate(values)]


def points(chart):
    return [tuple(map(float, pair.split(","))) for pair in chart.points.split()]


def test_a_curve_fills_its_field():
    chart = curve(losses([4.0, 1.0, 2.0]), [Metric(step=3, loss=3.0, at_ns=9)], [])
    assert points(chart) == [(0, 0), (round(WIDTH / 3, 1), HEIGHT), (
        round(2 * WIDTH / 3, 1), round(HEIGHT * 2 / 3, 1))]
    assert chart.checks == ((f"{WIDTH:.1f}", "80.0"),)
    assert (chart.least, chart.greatest, chart.last_step) == (1.0, 4.0, 3)


def test_a_long_curve_is_thinned_and_keeps_its_spikes():
    values = [1.0] * 100_000
    values[77_777] = 9.0
    chart = curve(losses(values), [], [])
    found = points(chart)
    assert len(found) <= 2 * BUCKETS
    assert (round(WIDTH * 77_777 / 99_999, 1), 0.0) in found


def test_recoveries_are_at_the_step_that_came_next():
    chart = curve(losses([1.0, 1.0, 1.0, 1.0, 1.0]), [], [1_500, 1_600, 99_999])
    assert chart.recoveries == (f"{WIDTH / 2:.1f}", f"{WIDTH:.1f}")


def test_what_is_not_finite_is_left_out():
    chart = curve(losses([2.0, math.nan, math.inf, 1.0]), [], [])
    assert points(chart) == [(0, 0), (WIDTH, HEIGHT)]
    assert curve(losses([math.nan, 1.0]), [], []) is None
    assert curve([], [], [5]) is None
