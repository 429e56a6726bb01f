"""What there is to say about a running job, computed from its updates.

Terminal, notebook and plain lines all show this, so that they say the same.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping

from homespun.cli.output import printable
from homespun.status import EvaluationMetric, JobStatus, JobUpdate, SegmentStatus, StepMetric
from homespun.units import format_duration, format_size
from ir.graph import INFER

RATE_WINDOW_STEPS = 50
WAITING_SHOWN_MS = 1_000
SEGMENT_COLUMNS = ("segment", "peer", "phase", "step", "parameters", "memory", "sent", "waits for")


class Progress:
    """What a watcher has seen of a job so far."""

    def __init__(
        self, tokens_per_sample: int = 0, also: Callable[[JobUpdate], None] | None = None
    ) -> None:
        """Start with nothing seen.

        Args:
            tokens_per_sample: makes speed show in tokens; 0 shows samples.
            also: who else is to see each update, such as callbacks.
        """
        self._also = also
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
        if self._also is not None:
            self._also(update)

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


def headline_of(status: JobStatus) -> str:
    """A job's status in one line."""
    progress = Progress()
    progress.see(JobUpdate(status=status, steps=(), evaluations=()))
    return progress.headline()


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
