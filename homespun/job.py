"""A job that was submitted: look at it, wait for it, cancel it, fetch what it made."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from homespun import markup
from homespun.callbacks.base import Callback
from homespun.callbacks.delivery import Reporter, check_callbacks
from homespun.connection import FIRST_BACKOFF_S, LONGEST_BACKOFF_S, PASSING, Connection
from homespun.errors import Code, HomespunError
from homespun.explained import Explained
from homespun.progress import headline_of
from homespun.result import Result, fetch_outputs, fetch_result, result_path
from homespun.status import JobMetrics, JobStatus, JobUpdate
from homespun.tensor_file import Array
from homespun.timeline import Timeline, timeline_of
from homespun.v1 import jobs_pb2, operator_pb2
from homespun.wire import from_message
from ir.graph import INFER

RECONNECT_S = 900.0
"""A running job outlives a broker outage of ten minutes; whoever watches it waits longer."""

PARTIAL_POLL_S = 0.3

Notice = Callable[[str], None]


class Job:
    """A handle: the job itself lives in the broker and goes on without it.

    Attributes:
        id: the job's id, `job_...`.
    """

    def __init__(self, connection: Connection, job_id: str) -> None:
        """Refer to a job; asks nobody."""
        self.id = job_id
        self._connection = connection
        self._seen: JobStatus | None = None

    def __repr__(self) -> str:
        if self._seen is None:
            return f"Job({self.id!r})"
        name = f" {self._seen.name!r}" if self._seen.name else ""
        return f"Job({self.id!r}{name}, {headline_of(self._seen)}, when last asked)"

    def _repr_html_(self) -> str:
        if self._seen is None:
            return markup.card(self.id, markup.line("status() asks where it stands.", faint=True))
        asked = "" if self._seen.is_final else "As of when it was last asked; status() asks again."
        return self._seen._repr_html_() + markup.line(asked, faint=True)

    def way_back(self) -> str:
        """How to come to this job again from elsewhere, for a person who leaves it alone."""
        if self._connection.is_private:
            return (f"{self.id} goes on as long as this program and its private network do.\n"
                    f"Come back: client.job({self.id!r}).watch(); end it: "
                    f"client.job({self.id!r}).cancel()")
        return (f"{self.id} goes on without you.\n"
                "Come back, also on another machine that has this identity: homespun watch "
                f"{self.id}, or in Python homespun.connect().job({self.id!r}).watch()\n"
                f"End it: homespun cancel {self.id}")

    def status(self) -> JobStatus:
        """Ask where the job stands.

        Raises:
            HomespunError: NOT_FOUND, or UNREACHABLE when the broker does not answer.
        """
        request = jobs_pb2.GetJobRequest(job_id=self.id)
        self._seen = from_message(self._connection.call("GetJob", request), JobStatus)
        return self._seen

    def curves(self, from_step: int = 0) -> JobMetrics:
        """Training losses from a step on, and all validation losses, as plain data."""
        request = jobs_pb2.GetMetricsRequest(job_id=self.id, from_step=from_step)
        return from_message(self._connection.call("GetMetrics", request), JobMetrics)

    def explain(self, segment: int | None = None) -> Explained:
        """Ask why the job's segments are where they are, and what the alternatives are.

        Of a job without a placement, it says what it waits for.

        Args:
            segment: only this one, with all its alternatives.

        Raises:
            HomespunError: NOT_FOUND, for a segment too that the job does not have.
        """
        request = jobs_pb2.ExplainPlacementRequest(job_id=self.id, segment=segment)
        return from_message(self._connection.call("ExplainPlacement", request), Explained)

    def metrics(self, from_step: int = 0) -> Any:
        """The same as a pandas DataFrame.

        Returns:
            Index `step`; columns `loss`, `validation_loss` and `time`
            (`homespun.metrics_frame.metrics_frame` says what they are).

        Raises:
            HomespunError: BAD_CONFIGURATION without pandas: `pip install 'homespun[notebook]'`.
        """
        from homespun.metrics_frame import metrics_frame

        return metrics_frame(self.curves(from_step))

    def timeline(self) -> Timeline:
        """Who has had which segment and when, and what happened: a lane per segment.

        Raises:
            HomespunError: INCOMPATIBLE_VERSION from a broker that is too old to tell.
        """
        request = operator_pb2.GetTimelineRequest(job=self.id)
        return timeline_of(self._connection.call("GetTimeline", request), time.time_ns() // 10**6)

    def plot(self, axes: Any = None) -> Any:
        """Draw the losses with matplotlib, and a dashed line where the job lost time.

        Args:
            axes: to draw on; None for a new figure.

        Returns:
            The axes.

        Raises:
            HomespunError: BAD_CONFIGURATION without matplotlib:
                `pip install 'homespun[notebook]'`.
        """
        from homespun.loss_plot import plot_losses

        name = self.status().name or self.id
        return plot_losses(name, self.curves(), self.timeline().recoveries, axes)

    def cancel(self) -> JobStatus:
        """Ask for the job to end. Its peers release what they hold at once.

        What it has learned up to its newest complete snapshot stays: `result(partial=True)`.

        Raises:
            HomespunError: CONFLICT when the job has ended already.
        """
        request = jobs_pb2.CancelJobRequest(job_id=self.id)
        self._seen = from_message(self._connection.call("CancelJob", request), JobStatus)
        return self._seen

    def updates(
        self, from_step: int = 0, *, timeout_s: float | None = None,
        notice: Notice | None = None, reconnect_s: float = RECONNECT_S,
    ) -> Iterator[JobUpdate]:
        """Yield what changes, until the job has ended; the last update has the final status.

        Each metric comes once, also when the connection breaks and is made again.

        Args:
            from_step: first step whose loss is wanted.
            timeout_s: give up after this time; None: as long as the job takes.
            notice: told in one sentence when the broker is lost and found again.
            reconnect_s: how long to try when the broker does not answer.

        Raises:
            HomespunError: TIMED_OUT after `timeout_s`; NOT_FOUND; the connection's error after
                `reconnect_s` without the broker.
        """
        watch = _Watch(self._connection, self.id, from_step, notice or _say_nothing)
        for update in watch.run(timeout_s, reconnect_s):
            self._seen = update.status
            yield update

    def watch(
        self, callback: Callable[[JobUpdate], None] | None = None, *,
        callbacks: Sequence[Callback] = (), timeout_s: float | None = None,
    ) -> JobStatus:
        """Follow the job to its end.

        Args:
            callback: called with each update; None shows a live display in a terminal or a
                notebook's cell, and plain lines elsewhere.
            callbacks: told beside it of losses, recoveries and the end; none of them can fail or
                delay this. See `homespun.callbacks`.
            timeout_s: give up after this time; None: as long as the job takes.

        Returns:
            The final status. A failed job raises nothing here; `result` does.

        Raises:
            HomespunError: as `updates`.
            KeyboardInterrupt: on Ctrl-C. The job goes on; how to come back is printed.
        """
        with Reporter(check_callbacks(callbacks)) as report:
            if callback is None:
                from homespun.watching import show

                return show(self, timeout_s=timeout_s, also=report)
            for update in self.updates(timeout_s=timeout_s):
                callback(update)
                report(update)
            return update.status

    def wait(self, timeout_s: float | None = None) -> JobStatus:
        """Wait for the job's end without showing anything; raises as `updates`."""
        return self.watch(lambda update: None, timeout_s=timeout_s)

    def outputs(self) -> dict[str, Array]:
        """Fetch what an inference job that has succeeded predicted.

        Returns:
            Output name -> array. Where axis 0 of an output has one entry per row of the
            microbatch, the array has one per row of the dataset, in order; any other output (a
            mean, a table) is given once per microbatch, stacked along a new axis 0.

        Raises:
            HomespunError: as `result`; CONFLICT for a training job.
        """
        with tempfile.TemporaryDirectory() as folder:
            return self.result(Path(folder) / "outputs.safetensors").outputs()

    def result(
        self, path: Path | str | None = None, *, partial: bool = False,
        timeout_s: float | None = None,
    ) -> Result:
        """Fetch the trained parameters, or the predictions, of a job that has succeeded.

        Args:
            path: file to write, or a directory to write `<job id>.safetensors` into; None writes
                it into the current directory.
            partial: take what is left of a training job that was cancelled or has failed: the
                parameters of its newest complete snapshot. `Result.step` says of which step. Of a
                job that has succeeded, the result as ever.
            timeout_s: of a partial result, how long to wait until peers have sent it; None: until
                the broker gives up (`JobStatus.partial` says when).

        Raises:
            HomespunError: the job's own error when it failed or was cancelled; CONFLICT while it
                still runs; DISK_FULL (call again: the download goes on where it stopped). With
                `partial`: NOT_FOUND if nothing is left, with the segment that is missing and why;
                TIMED_OUT after `timeout_s`.
        """
        status = self.status()
        if partial and status.is_final and status.state != "succeeded":
            self._wait_partial(status, timeout_s)
            where = result_path(path, status.job_id)
            return fetch_result(self._connection, status.job_id, where, partial=True)
        if (error := status.error()) is not None:
            raise error
        if not status.is_final:
            done, total, unit = status.progress
            raise HomespunError(
                Code.CONFLICT,
                f"Job {self.id} is {status.state} ({done} of {total} {unit}s): there is no result "
                f"yet{_because(status)}. Wait for it with watch() or wait().",
                job=self.id, state=status.state)
        fetch = fetch_outputs if status.kind == INFER else fetch_result
        return fetch(self._connection, status.job_id, result_path(path, status.job_id))

    def _wait_partial(self, status: JobStatus, timeout_s: float | None) -> None:
        """Wait until nothing more comes of what a job leaves; the broker owns that deadline."""
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        while (left := status.partial) is not None and left.until_unix_ms:
            if deadline is not None and time.monotonic() >= deadline:
                raise HomespunError(
                    Code.TIMED_OUT,
                    f"{left.stored} of the {left.pieces} pieces of what {self.id} leaves have come "
                    "in the time given. The peers go on sending: ask again later.", job=self.id)
            time.sleep(PARTIAL_POLL_S)
            status = self.status()
        if left is None:
            why = ("what it had predicted is not kept" if status.kind == INFER else
                   "it ended before every segment had a snapshot")
            raise HomespunError(
                Code.NOT_FOUND,
                f"Job {self.id} has ended ({status.state}) and leaves nothing: {why}.",
                job=self.id)


class _Watch:
    """The state of one `updates` iteration: what was seen, and since when the broker is silent."""

    def __init__(
        self, connection: Connection, job_id: str, from_step: int, notice: Notice
    ) -> None:
        self._connection = connection
        self._job_id = job_id
        self._next_step = from_step
        self._evaluated = -1
        self._notice = notice
        self._heard = False  # on the present stream: a watch begins with the status
        self._lost_at_s: float | None = None
        self._status: JobStatus | None = None

    def run(self, timeout_s: float | None, reconnect_s: float) -> Iterator[JobUpdate]:
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        backoff_s = FIRST_BACKOFF_S
        while True:
            try:
                for update in self._one_stream(deadline):
                    backoff_s = FIRST_BACKOFF_S
                    yield update
                    if update.status.is_final:
                        return
            except HomespunError as error:
                self._check_time(deadline)
                if error.code is not Code.TIMED_OUT or not self._heard:
                    self._tolerate(error, reconnect_s)
            self._check_time(deadline)
            time.sleep(backoff_s)
            backoff_s = min(LONGEST_BACKOFF_S, 2 * backoff_s)

    def _one_stream(self, deadline: float | None) -> Iterator[JobUpdate]:
        request = jobs_pb2.WatchJobRequest(job_id=self._job_id, from_step=self._next_step)
        self._heard = False
        for message in self._connection.stream("WatchJob", request):
            self._heard = True
            if self._lost_at_s is not None:
                self._lost_at_s = None
                self._notice(f"The broker at {self._connection.address} answers again.")
            update = from_message(message, JobUpdate)
            self._status = update.status
            yield self._only_new(update)
            self._check_time(deadline)

    def _only_new(self, update: JobUpdate) -> JobUpdate:
        """Drop metrics that came before the connection broke."""
        steps = tuple(item for item in update.steps if item.step >= self._next_step)
        evaluations = tuple(item for item in update.evaluations if item.step > self._evaluated)
        if steps:
            self._next_step = steps[-1].step + 1
        if evaluations:
            self._evaluated = evaluations[-1].step
        return JobUpdate(status=update.status, steps=steps, evaluations=evaluations)

    def _tolerate(self, error: HomespunError, reconnect_s: float) -> None:
        """Take a passing error as an outage, unless that has lasted too long."""
        if error.code not in PASSING:
            raise error
        now = time.monotonic()
        if self._lost_at_s is None:
            self._lost_at_s = now
            self._notice(
                f"Lost the broker at {self._connection.address}; the job goes on without it. "
                f"Trying again for {reconnect_s:.0f} s.")
        elif now - self._lost_at_s > reconnect_s:
            raise error

    def _check_time(self, deadline: float | None) -> None:
        if deadline is not None and time.monotonic() >= deadline:
            raise HomespunError(
                Code.TIMED_OUT,
                f"Job {self._job_id} has not ended in the time given; it goes on"
                f"{_because(self._status)}.",
                job=self._job_id)


def _because(status: JobStatus | None) -> str:
    """The end of a sentence that says why a job waits, if it does."""
    return f" ({status.state}: {status.reason})" if status is not None and status.reason else ""


def _say_nothing(text: str) -> None:
    """Ignore a notice."""
