"""The base of callbacks: methods that are called as a job goes on. Override those you want."""

from __future__ import annotations

from abc import ABC, abstractmethod

from homespun.callbacks.events import Beginning, Recovery
from homespun.status import EvaluationMetric, JobStatus, StepMetric


class Callback:
    """Told what a job does, while it is followed.

    A callback cannot fail or delay the training, nor whoever waits for it: its methods run in a
    thread of their own, one after the other. What they raise is reported once and then counted; of
    one that is too slow, events are dropped and counted. So it is told of every event or of fewer,
    always in order.
    """

    def on_begin(self, beginning: Beginning) -> None:
        """The job is followed from here on; called first, and once."""

    def on_step(self, metric: StepMetric) -> None:
        """A training loss: of one step, or the mean of the `logging_steps` up to this one."""

    def on_evaluation(self, metric: EvaluationMetric) -> None:
        """A validation loss, after `metric.step` steps."""

    def on_recovery(self, recovery: Recovery) -> None:
        """The job goes on only when a segment has a peer again; no step is lost or done twice."""

    def on_end(self, status: JobStatus) -> None:
        """The last call. `status.is_final` says whether the job has ended, or only the watching."""


class CurveCallback(Callback, ABC):
    """Writes a job's numbers as named curves; where to is up to `curve`.

    The curves are `train/loss`, `eval/loss` and `train/recoveries`, a running count.
    """

    def __init__(self) -> None:
        self._recoveries = 0

    @abstractmethod
    def curve(self, name: str, value: float, step: int, unix_ms: int) -> None:
        """Add one point to a curve; `unix_ms` is when it was measured."""

    def on_step(self, metric: StepMetric) -> None:
        """A point of the training loss."""
        self.curve("train/loss", metric.loss, metric.step, metric.unix_ms)

    def on_evaluation(self, metric: EvaluationMetric) -> None:
        """A point of the validation loss."""
        self.curve("eval/loss", metric.loss, metric.step, metric.unix_ms)

    def on_recovery(self, recovery: Recovery) -> None:
        """One recovery more."""
        self._recoveries += 1
        self.curve("train/recoveries", self._recoveries, recovery.step, recovery.unix_ms)
