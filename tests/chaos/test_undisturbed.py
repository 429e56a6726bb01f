"""Nothing is injected: what the harness compares with is itself sound."""

import itertools

import pytest

from tests.chaos.proxy import Condition
from tests.chaos.runs import Run, arguments

pytestmark = pytest.mark.chaos
STEPS = 30


def test_the_same_job_twice(network, start, tmp_path):
    """Bit-identical weights, each step committed once, every byte through the proxy."""
    run = start(STEPS)
    status = run.finished()
    assert len(status.segments) == 3
    assert run.violations(tmp_path, run.reference) == []
    history = run.history()
    assert len(history.grants) == 3
    assert history.commits == tuple(sorted(history.commits))
    names = [segment.peer_name for segment in status.segments]
    for one, other in itertools.pairwise(names):
        assert network.proxy.moved(one, other) > 0
        assert network.proxy.moved(other, one) > 0
    for name in names:
        assert network.proxy.moved(name, "broker") > 0


def test_another_seed_is_noticed(network, client, start, tmp_path):
    """The comparison can fail."""
    run = start(STEPS)
    other = Run.submit(network, client, arguments(STEPS, seed=8))
    assert any("differ" in what for what in other.violations(tmp_path, run.reference))
    run.finished()


def test_a_home_line_changes_nothing_but_time(network, start, tmp_path):
    for one in network.names:
        for other in network.names:
            network.proxy.impose(one, other, Condition(
                latency_s=0.005, jitter_s=0.005, slice_bytes=1_000))
    run = start(STEPS)
    assert run.violations(tmp_path, run.reference) == []
