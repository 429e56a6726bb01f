"""Show a running job: a live table on a terminal, plain lines anywhere else.

What is shown is computed by pure functions from updates, so that both forms say the same.
"""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, TextIO

from homespun.cli.output import printable
from homespun.status import EvaluationMetric, JobStatus, JobUpdate, SegmentStatus, StepMetric
from homespun.units import format_duration, format_size
from ir.graph import INFER

if TYPE_CHECKING:
    from rich.console import Group

    from homespun.job import Job

RATE_WINDOW_STEPS = 50
LINE_INTERVAL_S = 5.0
WAITING_SHOWN_MS = 1_000
SEGMENT_COLUMNS = ("segment", "peer", "phase", "step", "parameters", "memory", "sent", "waits for")


class Progress:
    """What a watcher has seen of a job so far."""

    def __init__(self, tokens_per_sample: int = 0) -> None:
        """Start with nothing seen.

        Args:
            tokens_per_sample: makes speed show in tokens; 0 shows samples.
        """
        self.status: JobStatus | None = None
        self.evaluation: EvaluationMetric | None = None
        self._tokens_per_sample = tokens_per_sample
        self._recent: deque[StepMetric] = deque(maxlen=RATE_WINDOW_STEPS)
        self._rows: deque[tuple[float, int]] = deque(maxlen=RATE_WINDOW_STEPS)

    def see(self, update: JobUpdate, now_s: float | None = None) -> None:
        """Take an update in.

        Args:
            update: the next one.
            now_s: when it came, on a clock that never goes back; None: now. Speed of inference is
                measured by it, as no step of it has a metric with a time.
        """
        self.status = update.status
        self._recent.extend(update.steps)
        done = update.status.samples_done
        if update.status.kind == INFER and (not self._rows or self._rows[-1][1] != done):
            self._rows.append((time.monotonic() if now_s is None else now_s, done))
        if update.evaluations:
            self.evaluation = update.evaluations[-1]

    @property
    def steps_per_s(self) -> float:
        """Speed over the last steps; 0 while it is unknown."""
        if self.status is not None and self.status.kind == INFER:
            return self._rows_per_s() / max(1, self.status.batch_size)
        if len(self._recent) < 2:
            return 0.0
        first, last = self._recent[0], self._recent[-1]
        took_ms = last.unix_ms - first.unix_ms
        return 1000.0 * (last.step - first.step) / took_ms if took_ms > 0 else 0.0

    def _rows_per_s(self) -> float:
        if len(self._rows) < 2:
            return 0.0
        (begin_s, first), (end_s, last) = self._rows[0], self._rows[-1]
        return (last - first) / (end_s - begin_s) if end_s > begin_s else 0.0

    def headline(self) -> str:
        """The job in one line."""
        status = self.status
        if status is None:
            return "waiting for the broker"
        parts = [status.state]
        if status.reason:
            parts.append(printable(status.reason))
        done, total, unit = status.progress
        if done or status.state == "running":
            parts.append(f"{unit} {done}/{total}")
        if status.has_loss:
            parts.append(f"loss {status.last_loss:.4f} (first {status.first_loss:.4f})")
        if status.has_validation_loss:
            parts.append(f"validation {status.last_validation_loss:.4f}")
        if self.steps_per_s and status.state == "running":
            parts.append(self._speed(status))
            rate = self._rows_per_s() if status.kind == INFER else self.steps_per_s
            left = (total - done) / rate
            parts.append(f"about {format_duration(left)} left")
        if status.is_final and status.finished_unix_ms:
            took_s = (status.finished_unix_ms - status.submitted_unix_ms) / 1000
            parts.append(f"took {format_duration(took_s)}")
        return ", ".join(parts)

    def step_line(self) -> str:
        """How long a step takes and what was predicted; empty until the job is placed."""
        status = self.status
        if status is None or not status.predicted_step_s:
            return ""
        predicted = _predicted(status)
        if not self.steps_per_s:
            return predicted
        return f"{predicted}, measured {format_duration(1 / self.steps_per_s)}"

    def _speed(self, status: JobStatus) -> str:
        samples = self.steps_per_s * status.batch_size
        if status.kind == INFER:
            return f"{samples:,.1f} rows/s"
        if self._tokens_per_sample:
            return f"{samples * self._tokens_per_sample:,.0f} tokens/s"
        return f"{samples:,.1f} samples/s"


def segment_rows(status: JobStatus) -> list[tuple[str, ...]]:
    """The segments of a job as the cells of `SEGMENT_COLUMNS`."""
    names = {segment.peer_id: segment.peer_name for segment in status.segments}
    return [_segment_row(segment, names) for segment in status.segments]


def _segment_row(segment: SegmentStatus, names: Mapping[str, str]) -> tuple[str, ...]:
    waits = ""
    if segment.waiting_for and segment.waiting_ms >= WAITING_SHOWN_MS:
        waits = f"{segment.waiting_for} ({format_duration(segment.waiting_ms / 1000)})"
    sent = ", ".join(f"{format_size(link.sent_bytes)} to {names.get(link.to_peer) or link.to_peer}"
                     for link in segment.links)
    cells = (
        str(segment.segment), segment.peer_name or segment.peer_id, segment.phase,
        str(segment.step), format_size(segment.parameter_bytes), format_size(segment.memory_bytes),
        sent, waits,
    )
    return tuple(printable(cell) for cell in cells)


def placement_lines(status: JobStatus) -> list[str]:
    """Where each segment runs and which peers stay idle, for people."""
    lines = []
    for segment in status.segments:
        peer = printable(segment.peer_name or segment.peer_id)
        lines.append(f"segment {segment.segment} on {peer}: {segment.nodes} nodes, "
                     f"{format_size(segment.parameter_bytes)} of parameters, "
                     f"{format_size(segment.memory_bytes)} of memory")
    lines += idle_lines(status)
    if status.segments and status.predicted_step_s:
        lines.append(_predicted(status))
    if status.growth:
        lines.append(f"the job {printable(status.growth)}")
    return lines


def _predicted(status: JobStatus) -> str:
    step = "microbatch" if status.kind == INFER else "step"
    return (f"predicted {format_duration(status.predicted_step_s)} a {step} "
            f"({printable(status.algorithm)})")


def idle_lines(status: JobStatus) -> list[str]:
    """A line for each peer that is left out: which, and why."""
    return [f"{printable(refusal.subject_name or refusal.subject)} stays idle: "
            f"{printable(refusal.text)}" for refusal in status.idle]


def show(
    job: Job, *, timeout_s: float | None = None, tokens_per_sample: int = 0,
    stream: TextIO | None = None,
) -> JobStatus:
    """Follow a job to its end on `stream` (standard error by default).

    Returns:
        The final status. On Ctrl-C the job goes on; how to come back is printed.

    Raises:
        HomespunError: as `Job.updates`.
    """
    stream = stream or sys.stderr
    progress = Progress(tokens_per_sample)
    try:
        if stream.isatty():
            _show_live(job, progress, timeout_s, stream)
        else:
            _show_lines(job, progress, timeout_s, stream)
    except KeyboardInterrupt:
        stream.write(f"{job.id} goes on. Follow it: homespun watch {job.id}; "
                     f"end it: homespun cancel {job.id}\n")
        raise
    status = progress.status
    assert status is not None  # `updates` ends with the final status
    if (error := status.error()) is not None:
        stream.write(f"{printable(error.message)} [{error.code}]\n  {error.remedy}\n")
    return status


def _show_lines(
    job: Job, progress: Progress, timeout_s: float | None, stream: TextIO
) -> None:
    """A line for each change of state or of its reason, each placement, and now and then a step."""
    write = _line_writer(stream)
    known, samples, next_at = ("", ""), 0, 0.0
    placed: tuple[tuple[int, str], ...] = ()
    for update in job.updates(timeout_s=timeout_s, notice=write):
        progress.see(update)
        status = update.status
        placement = tuple((segment.token, segment.peer_id) for segment in status.segments)
        if placement and placement != placed:
            placed = placement
            for line in placement_lines(status):
                write(line)
        for evaluation in update.evaluations:
            write(f"validation loss {evaluation.loss:.4f} after {evaluation.step} steps")
        now = time.monotonic()
        is_news = bool(update.steps) or status.samples_done != samples
        state = status.state, status.reason
        if state != known or (is_news and now >= next_at) or status.is_final:
            samples = status.samples_done
            known, next_at = state, now + LINE_INTERVAL_S
            write(progress.headline())


def _line_writer(stream: TextIO) -> Callable[[str], None]:
    def write(text: str) -> None:
        stream.write(text + "\n")
        stream.flush()

    return write


def _show_live(job: Job, progress: Progress, timeout_s: float | None, stream: TextIO) -> None:
    from rich.console import Console
    from rich.live import Live

    notices: deque[str] = deque(maxlen=3)
    console = Console(file=stream)
    with Live(_picture(job.id, progress, notices), console=console, refresh_per_second=4) as live:

        def notice(text: str) -> None:
            notices.append(text)
            live.update(_picture(job.id, progress, notices), refresh=True)

        for update in job.updates(timeout_s=timeout_s, notice=notice):
            progress.see(update)
            live.update(_picture(job.id, progress, notices))


def _picture(job_id: str, progress: Progress, notices: Iterable[str]) -> Group:
    """What the live display shows: headline, bar, segments, idle peers, notices."""
    from rich.console import Group
    from rich.padding import Padding
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    status = progress.status
    parts: list[Text | Padding | Table] = [Text(f"{job_id}  {progress.headline()}")]
    if status is not None:
        bar = ProgressBar(total=max(1, status.steps_total), completed=status.steps_done, width=60)
        parts.append(Padding(bar))  # a bar alone ends without a line break
        if status.segments:
            table = Table(*SEGMENT_COLUMNS, box=None, pad_edge=False)
            for row in segment_rows(status):
                table.add_row(*(Text(cell) for cell in row))
            parts.append(table)
        lines = [progress.step_line(), *idle_lines(status)]
        parts += [Text(line, style="dim") for line in lines if line]
    parts += [Text(text, style="yellow") for text in notices]
    return Group(*parts)
