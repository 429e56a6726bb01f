"""Jobs as a table: what the commands print and a notebook shows."""

from __future__ import annotations

from collections.abc import Sequence

from homespun.cli.output import table_lines
from homespun.status import JobStatus
from homespun.units import format_time

JOB_COLUMNS = ("job", "name", "state", "done", "of", "", "loss", "submitted", "why")
WHY_SHOWN = 80
"""Characters of a reason in a list; the job itself shows all of it."""


class JobList(tuple[JobStatus, ...]):
    """Jobs at one moment, newest first: a tuple that shows itself as a table."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "\n".join(table_lines(JOB_COLUMNS, job_rows(self))) if self else "no jobs"

    def _repr_html_(self) -> str:
        from homespun import markup

        return markup.table(JOB_COLUMNS, job_rows(self)) or markup.line("no jobs")


def job_rows(found: Sequence[JobStatus]) -> list[tuple[object, ...]]:
    """Jobs as the cells of `JOB_COLUMNS`."""
    return [
        (status.job_id, status.name or "-", status.state, *_progress(status),
         f"{status.last_loss:.4f}" if status.has_loss else "-",
         format_time(status.submitted_unix_ms), _why(status)) for status in found]


def _why(status: JobStatus) -> str:
    """Why a job waits or has failed, in the width of a column."""
    text = status.reason or status.error_code
    return text if len(text) <= WHY_SHOWN else text[: WHY_SHOWN - 3] + "..."


def _progress(status: JobStatus) -> tuple[int, int, str]:
    done, total, unit = status.progress
    return done, total, f"{unit}s"
