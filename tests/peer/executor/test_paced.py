"""A null executor that takes its time: how long, and that it is one in everything else."""

import math

import pytest

from dag.cost import graph_costs, node_seconds, segment_seconds
from homespun.errors import Code, HomespunError
from peer.executor import paced
from peer.executor.installed import PACE_VARIABLE, pace_asked_for, versions
from peer.executor.null_executor import NullExecutor
from peer.executor.paced import PacedExecutor, rates_at
from peer.executor.registry import create

PACE = 1e-3


@pytest.fixture
def sleeps(monkeypatch):
    """What was slept, on a clock that stands still."""
    slept = []
    monkeypatch.setattr(paced.time, "perf_counter", lambda: 0.0)
    monkeypatch.setattr(paced.time, "sleep", slept.append)
    return slept


def test_tasks_last_as_long_as_the_planner_says(lab, jobs, sleeps, monkeypatch):
    monkeypatch.setenv(PACE_VARIABLE, str(PACE))
    job = jobs("encoder-decoder")
    pipeline = lab.Pipeline(job, lab.contiguous_parts(job.graph, 3), executor="null")
    assert pipeline.run(1) == [(0.0, 0.0)]
    costs = graph_costs(job.graph, frozenset(job.trainable))
    seconds = node_seconds(costs, rates_at(PACE), False)
    spans = [segment_seconds(segment, seconds) for segment, _ in pipeline.pairs()]
    microbatches = pipeline.loaded[0].calls["forward"]
    computed_s = microbatches * sum(map(sum, spans))
    updated_s = math.fsum(sleeps) - computed_s
    assert len(sleeps) == (2 * microbatches + 1) * len(spans)
    assert 0 < updated_s < computed_s


def test_a_pace_is_the_device_that_the_planner_hears_of():
    fast, slow = PacedExecutor("cpu", 0.5).measured_rates(), PacedExecutor("cpu", 0.25)
    assert fast.matmul_flops_per_s == 2 * slow.measured_rates().matmul_flops_per_s
    assert fast.memory_bytes_per_s == 2 * slow.measured_rates().memory_bytes_per_s
    assert NullExecutor().measured_rates() == rates_at(1.0)


def test_the_environment_names_the_pace(monkeypatch):
    monkeypatch.delenv(PACE_VARIABLE, raising=False)
    assert pace_asked_for() is None
    assert type(create("null", "cpu", 1)) is NullExecutor
    before = versions("null")
    monkeypatch.setenv(PACE_VARIABLE, "0.05")
    assert pace_asked_for() == 0.05
    assert type(create("null", "cpu", 1)) is PacedExecutor
    assert versions("null") != before  # a cached measurement must not outlive it


@pytest.mark.parametrize("text", ["fast", "0", "-1", "nan", "inf"])
def test_a_senseless_pace_is_refused(monkeypatch, text):
    monkeypatch.setenv(PACE_VARIABLE, text)
    with pytest.raises(HomespunError) as caught:
        pace_asked_for()
    assert caught.value.code == Code.BAD_CONFIGURATION
