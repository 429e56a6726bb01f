"""Follow a job to its end: live on a terminal or in a notebook, in plain lines elsewhere."""

from __future__ import annotations

import os
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, TextIO

from homespun.cli.output import printable
from homespun.notebook import in_notebook, show_in_notebook
from homespun.progress import (
    SEGMENT_COLUMNS,
    Progress,
    idle_lines,
    placement_lines,
    segment_rows,
)
from homespun.status import JobStatus, JobUpdate

if TYPE_CHECKING:
    from rich.console import Group

    from homespun.job import Job

LINE_INTERVAL_S = 5.0


def show(
    job: Job, *, timeout_s: float | None = None, tokens_per_sample: int = 0,
    stream: TextIO | None = None, also: Callable[[JobUpdate], None] | None = None,
) -> JobStatus:
    """Follow a job to its end.

    Args:
        job: which.
        timeout_s: give up after this time; None: as long as the job takes.
        tokens_per_sample: makes speed show in tokens; 0 shows samples.
        stream: where to; None for the notebook's cell, or else standard error.
        also: called with each update.

    Returns:
        The final status.

    Raises:
        HomespunError: as `Job.updates`.
        KeyboardInterrupt: on Ctrl-C. The job goes on; how to come back is printed.
    """
    is_notebook = stream is None and in_notebook()
    stream = stream or sys.stderr
    progress = Progress(tokens_per_sample, also)
    try:
        if is_notebook:
            show_in_notebook(job, progress, timeout_s)
        elif stream.isatty() and os.environ.get("TERM") != "dumb":
            _show_live(job, progress, timeout_s, stream)
        else:
            _show_lines(job, progress, timeout_s, stream)
    except KeyboardInterrupt:
        stream.write(job.way_back() + "\n")
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
