"""What callbacks are told about a job, and how it follows from the job's updates."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from homespun.status import EvaluationMetric, JobStatus, JobUpdate, StepMetric


@dataclass(frozen=True, slots=True, kw_only=True)
class Beginning:
    """A job as it begins to be followed.

    Attributes:
        job_id: its id.
        name: its name for people; empty if it has none.
        settings: how it trains, name -> value, such as `learning_rate`; empty where that is not
            known here, as of a job that another program has submitted.
    """

    job_id: str
    name: str
    settings: Mapping[str, object]

    @property
    def label(self) -> str:
        """What to call the job: its name, or else its id."""
        return self.name or self.job_id


@dataclass(frozen=True, slots=True, kw_only=True)
class Recovery:
    """A segment of the job lost its peer, and moves to another one or waits for one.

    Attributes:
        step: steps that were done when it was noticed.
        reason: what happened, as the broker says it.
        unix_ms: when it was noticed here.
    """

    step: int
    reason: str
    unix_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """The job's last status; not a final one where following it ended before the job did."""

    status: JobStatus


Event = Beginning | StepMetric | EvaluationMetric | Recovery | Ending


class EventReader:
    """Turns the updates of one job into events, in the order of their steps."""

    def __init__(self, logging_steps: int = 1) -> None:
        """Start with nothing seen.

        Args:
            logging_steps: one training loss for so many steps, >= 1: their mean, at the last one.
        """
        self._logging_steps = logging_steps
        self._losses: list[float] = []
        self._last: StepMetric | None = None
        self._is_recovering = False

    def read(self, update: JobUpdate, now_ms: int) -> Iterator[Event]:
        """The events of the next update; a recovery is dated `now_ms`, milliseconds since 1970."""
        status = update.status
        if (status.state == "recovering") != self._is_recovering:
            self._is_recovering = not self._is_recovering
            if self._is_recovering:
                yield Recovery(step=status.steps_done, reason=status.reason, unix_ms=now_ms)
        # The validation loss "after k steps" was measured before step k, which is numbered from 0.
        metrics: list[StepMetric | EvaluationMetric] = [*update.evaluations, *update.steps]
        metrics.sort(key=lambda metric: (metric.step, isinstance(metric, StepMetric)))
        for metric in metrics:
            if isinstance(metric, StepMetric):
                yield from self._mean_of(metric)
            else:
                yield metric
        if status.is_final:
            yield from self._rest()

    def _mean_of(self, metric: StepMetric) -> Iterator[StepMetric]:
        self._losses.append(metric.loss)
        self._last = metric
        if (metric.step + 1) % self._logging_steps == 0:
            yield from self._rest()

    def _rest(self) -> Iterator[StepMetric]:
        """The mean of what was kept back."""
        if self._last is not None and self._losses:
            mean = sum(self._losses) / len(self._losses)
            yield StepMetric(step=self._last.step, loss=mean, unix_ms=self._last.unix_ms)
        self._losses.clear()
