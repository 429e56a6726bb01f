"""Losses as a DataFrame and as a drawing; without the libraries, what to install."""

from __future__ import annotations

import math
import sys

import pytest

from homespun.errors import BadConfiguration
from homespun.loss_plot import plot_losses, recovery_steps
from homespun.metrics_frame import metrics_frame
from homespun.status import EvaluationMetric, JobMetrics, StepMetric
from homespun.timeline import EventLine

CURVES = JobMetrics(
    steps=tuple(StepMetric(step=n, loss=3.0 - n, unix_ms=1_000 * (n + 1)) for n in range(3)),
    evaluations=(EvaluationMetric(step=0, loss=4.0, unix_ms=500),
                 EvaluationMetric(step=3, loss=1.5, unix_ms=4_000)))


def event(unix_ms):
    return EventLine(number=1, unix_ms=unix_ms, subject="j", kind="segment_vacant", text="Gone.")


def test_losses_of_the_same_parameters_share_a_row():
    pytest.importorskip("pandas")
    frame = metrics_frame(CURVES)
    assert list(frame.columns) == ["loss", "validation_loss", "time"]
    assert (frame.index.name, list(frame.index)) == ("step", [0, 1, 2, 3])
    assert frame["loss"].dropna().to_dict() == {0: 3.0, 1: 2.0, 2: 1.0}
    assert frame["validation_loss"].dropna().to_dict() == {0: 4.0, 3: 1.5}
    assert frame.loc[0, "time"].isoformat() == "1970-01-01T00:00:01+00:00"
    assert frame.loc[3, "time"].isoformat() == "1970-01-01T00:00:04+00:00"
    assert math.isnan(frame.loc[3, "loss"])


def test_a_job_without_losses_has_an_empty_frame():
    pytest.importorskip("pandas")
    frame = metrics_frame(JobMetrics(steps=(), evaluations=()))
    assert list(frame.columns) == ["loss", "validation_loss", "time"]
    assert frame.empty
    assert str(frame["time"].dtype).startswith("datetime64[")


def test_without_pandas_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(BadConfiguration) as caught:
        metrics_frame(CURVES)
    assert "job.metrics() needs pandas" in caught.value.message
    assert "pip install 'homespun[notebook]'" in caught.value.message


def test_without_matplotlib_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    with pytest.raises(BadConfiguration) as caught:
        plot_losses("x", CURVES, ())
    assert "job.plot() needs matplotlib" in caught.value.message


@pytest.fixture
def axes():
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots()
    yield axes
    pyplot.close(figure)


def test_both_losses_and_the_recoveries_are_drawn(axes):
    assert plot_losses("tiny", CURVES, (event(1_500), event(1_600), event(2_500)), axes) is axes
    training, validation, first, second = axes.get_lines()
    assert (list(training.get_xdata()), list(training.get_ydata())) == ([0, 1, 2], [3.0, 2.0, 1.0])
    assert list(validation.get_ydata()) == [4.0, 1.5]
    assert (list(first.get_xdata()), list(second.get_xdata())) == ([1, 1], [2, 2])
    assert [text.get_text() for text in axes.get_legend().get_texts()] == [
        "training", "validation", "recovery"]
    assert (axes.get_title(), axes.get_xlabel()) == ("tiny", "step")


def test_a_job_without_losses_is_an_empty_drawing(axes):
    plot_losses("tiny", JobMetrics(steps=(), evaluations=()), (event(1),), axes)
    assert len(axes.get_lines()) == 0


def test_a_recovery_stands_where_the_next_step_was_done():
    assert recovery_steps(CURVES, [event(0), event(2_000), event(99_000)]) == [0, 1, 2]
