"""A running job as HTML in a notebook's cell. Needs nothing but the notebook's own IPython."""

from __future__ import annotations

import importlib
import sys
import time
from collections import deque
from collections.abc import Iterable
from typing import TYPE_CHECKING

from homespun import markup
from homespun.progress import SEGMENT_COLUMNS, Progress, idle_lines, segment_rows

if TYPE_CHECKING:
    from homespun.job import Job

REDRAW_S = 0.5
"""Between two pictures, each of which goes through the notebook's server to a browser."""


def in_notebook() -> bool:
    """Whether this program is a notebook's kernel, which shows HTML."""
    ipython = sys.modules.get("IPython")  # a kernel has imported it; nobody else needs to
    shell = None if ipython is None else ipython.get_ipython()
    return shell is not None and hasattr(shell, "kernel")


def show_in_notebook(job: Job, progress: Progress, timeout_s: float | None) -> None:
    """Follow a job to its end in the cell that runs; raises as `Job.updates`."""
    shown = importlib.import_module("IPython.display")
    notices: deque[str] = deque(maxlen=3)
    picture = shown.display(shown.HTML(job_html(job.id, progress)), display_id=True)
    next_at = 0.0

    def notice(text: str) -> None:
        notices.append(text)
        picture.update(shown.HTML(job_html(job.id, progress, notices)))

    for update in job.updates(timeout_s=timeout_s, notice=notice):
        progress.see(update)
        now = time.monotonic()
        if now >= next_at or update.status.is_final:
            next_at = now + REDRAW_S
            picture.update(shown.HTML(job_html(job.id, progress, notices)))


def job_html(job_id: str, progress: Progress, notices: Iterable[str] = ()) -> str:
    """What is known of a job: headline, bar, segments, idle peers, notices."""
    status = progress.status
    parts = [markup.line(progress.headline())]
    if status is not None:
        parts += [
            markup.bar(status.steps_done, status.steps_total),
            markup.table(SEGMENT_COLUMNS, segment_rows(status)),
            *(markup.line(words, faint=True)
              for words in (progress.step_line(), *idle_lines(status)))]
    name = f"{job_id}  {status.name}" if status is not None and status.name else job_id
    return markup.card(name, *parts, *map(markup.line, notices))
