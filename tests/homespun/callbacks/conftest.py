"""A callback that remembers, and updates of a job as a broker sends them."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from homespun.callbacks import Callback
from homespun.status import EvaluationMetric, JobStatus, JobUpdate, StepMetric
from homespun.v1 import jobs_pb2
from homespun.wire import from_message


class Recorder(Callback):
    """Remembers every call; runs `before` at each."""

    def __init__(self, before=lambda call: None):
        self.calls = []
        self._before = before

    def _call(self, name, value):
        self._before((name, value))
        self.calls.append((name, value))

    def on_begin(self, beginning):
        self._call("begin", beginning.job_id)

    def on_step(self, metric):
        self._call("step", (metric.step, metric.loss))

    def on_evaluation(self, metric):
        self._call("evaluation", (metric.step, metric.loss))

    def on_recovery(self, recovery):
        self._call("recovery", (recovery.step, recovery.reason))

    def on_end(self, status):
        self._call("end", status.state)


def update(state="running", steps=(), evaluations=(), reason="", done=0):
    """`steps` and `evaluations` as (step, loss); each was measured at second `step`."""
    status = jobs_pb2.JobStatus(
        job_id="job_1", name="tiny", state=state, steps_done=done, error_message=reason)
    return JobUpdate(
        status=from_message(status, JobStatus),
        steps=tuple(StepMetric(step=s, loss=loss, unix_ms=1000 * s) for s, loss in steps),
        evaluations=tuple(EvaluationMetric(step=s, loss=loss, unix_ms=1000 * s)
                          for s, loss in evaluations))


def tell(reporter):
    """A whole job: two steps, a recovery, a third step."""
    with reporter as report:
        report(update("running", steps=[(0, 3.0), (1, 2.0)], evaluations=[(0, 3.5)]))
        report(update("recovering", reason="segment 1 moves to attic", done=2))
        report(update("recovering", reason="segment 1 loads", done=2))
        report(update("running", done=2))
        report(update("succeeded", steps=[(2, 1.0)], evaluations=[(3, 1.5)], done=3))


@pytest.fixture(scope="session")
def lab():
    """What is above, for the test modules beside it."""
    return SimpleNamespace(Recorder=Recorder, tell=tell, update=update, calls=[
        ("begin", "job_1"), ("evaluation", (0, 3.5)), ("step", (0, 3.0)), ("step", (1, 2.0)),
        ("recovery", (2, "segment 1 moves to attic")),
        ("step", (2, 1.0)), ("evaluation", (3, 1.5)), ("end", "succeeded")])
