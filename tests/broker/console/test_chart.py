"""Charts: few points, every spike, recoveries where they were, speeds as steps came."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest

from broker.console.axes import BOTTOM, LEFT, RIGHT, TOP, WIDTH, Scale, time_ticks, whole
from broker.console.chart import BUCKETS, HEIGHT, SPEEDS, TEXTS, loss_chart, speed_chart, speeds
from broker.core.event_log import LogLine
from broker.core.views import Metric

SECOND = 10**9
FIELD = WIDTH - LEFT - RIGHT


def losses(values):
    return [Metric(step=step, loss=loss, at_ns=1_000 * step) for step, loss in enumerate(values)]


def line(at_ns, text="It moved."):
    return LogLine(number=1, at_ns=at_ns, subject="job_1", kind="segment_vacant", text=text)


def points(chart):
    """Of the line, as shares of the field: right, up."""
    height = HEIGHT - BOTTOM - TOP
    return [(round((x - LEFT) / FIELD, 3), round((HEIGHT - BOTTOM - y) / height, 3))
            for x, y in (map(float, pair.split(",")) for pair in chart.line.split())]


def steps_of(chart):
    return [round((float(x) - LEFT) / FIELD, 3) for x, _ in chart.marks]


def test_a_curve_fills_its_field_and_has_ticks():
    chart = loss_chart(losses([4.0, 1.0, 2.0]), [Metric(step=3, loss=3.0, at_ns=9)], [])
    assert points(chart) == [(0, 1), (0.333, 0), (0.667, 0.333)]
    ((x, _, text),) = chart.dots
    assert float(x) == WIDTH - RIGHT
    assert text == "validation loss after 3 steps: 3"
    assert [text for _, text in chart.x_ticks] == ["0", "1", "2", "3"]
    assert [text for _, text in chart.y_ticks] == ["1", "2", "3", "4"]
    assert [text for *_, text in chart.spots] == ["step 0: 4", "step 1: 1", "step 2: 2"]


def test_a_long_curve_is_thinned_and_keeps_its_spikes():
    values = [1.0] * 100_000
    values[77_777] = 9.0
    chart = loss_chart(losses(values), [], [])
    found = points(chart)
    assert len(found) <= 2 * BUCKETS
    assert (round(77_777 / 99_999, 3), 1.0) in found
    assert "steps 77 000 to 77 999: 1 to 9" in [text for *_, text in chart.spots]
    assert [text for _, text in chart.x_ticks][:2] == ["0", "20 000"]


def test_recoveries_are_at_the_step_that_came_next_with_what_happened():
    chart = loss_chart(losses([1.0] * 5), [], [
        line(99_999, "<late>"), line(1_500, "one."), *(line(1_600, "more.") for _ in range(TEXTS))])
    assert steps_of(chart) == [0.5, 1.0]
    assert [text for _, text in chart.marks] == [
        "step 2: one. more. more. And 1 more.", "step 4: <late>"]


def test_what_is_not_finite_is_left_out():
    chart = loss_chart(losses([2.0, math.nan, math.inf, 1.0]), [], [])
    assert points(chart) == [(0, 1), (1, 0)]
    assert loss_chart(losses([math.nan, 1.0]), [], []) is None
    assert loss_chart([], [], [line(5)]) is None


def arriving(*batches):
    """Losses of (when, how many) in seconds."""
    found = []
    for at_s, count in batches:
        found += [Metric(step=len(found) + each, loss=1.0, at_ns=round(at_s * SECOND))
                  for each in range(count)]
    return found


def test_a_speed_is_between_arrivals():
    found = speeds(arriving((1, 1), (2, 4), (4, 4)))
    assert [(each.first, each.last, each.steps_per_s) for each in found] == [(0, 4, 4), (4, 8, 2)]
    assert speeds(arriving((1, 9))) == []
    assert speeds([]) == []
    assert speed_chart(arriving((1, 9)), [], 2.0) is None


def test_a_long_run_has_few_speeds_and_loses_no_step():
    found = speeds(arriving(*((0.01 * number, 3) for number in range(5_000))))
    assert len(found) <= SPEEDS
    assert found[0].first == 2
    assert all(before.last == after.first for before, after in pairwise(found))
    assert all(abs(each.steps_per_s - 300) < 1 for each in found)


def test_a_speed_chart_compares_with_what_was_predicted():
    chart = speed_chart(arriving((0, 1), (1, 4), (3, 4)), [line(2 * SECOND)], 8.0)
    assert points(chart) == [(0, 0.5), (0.5, 0.5), (0.5, 0.25), (1, 0.25)]
    assert chart.level == (f"{TOP:.1f}", "predicted: 8 steps/s")
    assert steps_of(chart) == [0.625]
    assert [text for *_, text in chart.spots] == [
        "steps 0 to 4: 4 steps/s", "steps 4 to 8: 2 steps/s"]
    assert speed_chart(arriving((0, 1), (1, 4)), [], 0.0).level is None


@pytest.mark.parametrize(("least", "greatest", "texts"), [
    (0, 7, ["0", "1", "2", "3", "4", "5", "6", "7"]),
    (3, 3, ["3"]),
    (0, 1_000_000, ["0", "200 000", "400 000", "600 000", "800 000", "1 000 000"]),
    (995, 1_004, ["996", "998", "1 000", "1 002", "1 004"]),
])
def test_ticks_are_round_and_inside(least, greatest, texts):
    found = Scale(least, greatest, 0, 100).ticks(8, whole, 1.0)
    assert [text for _, text in found] == texts
    assert all(0 <= float(place) <= 100 for place, _ in found)


@pytest.mark.parametrize(("end_s", "last"), [
    (0.5, "0"), (8, "8.0s"), (100, "1m 30s"), (7_200, "2h 00m"), (10**7, "105d 00h")])
def test_times_are_round(end_s, last):
    found = time_ticks(Scale(0, end_s, 0, 100))
    assert found[-1][1] == last
    assert len(found) <= 9
