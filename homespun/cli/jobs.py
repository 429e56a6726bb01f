"""`homespun jobs`, `job`, `watch`, `cancel`, `download`: look at jobs and fetch results."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from homespun.cli.output import (
    json_option,
    note,
    print_json,
    print_table,
    printable,
    run_command,
)
from homespun.cli.session import broker_options, connected

if TYPE_CHECKING:
    from homespun.status import JobStatus, StepMetric

job_argument = click.argument("job_id", metavar="JOB")


@click.command()
@click.option("--limit", type=click.IntRange(1, 1_000), default=100, show_default=True,
              help="Most jobs to show.")
@broker_options
@json_option
@run_command
def jobs(limit: int, address: str | None, credentials: Path | None, as_json: bool) -> None:
    """List your jobs, newest first."""
    with connected(address, credentials) as client:
        print_jobs(client.jobs(limit), as_json=as_json)


@click.command()
@job_argument
@click.option("--metrics", is_flag=True, help="Print the losses of all steps too.")
@broker_options
@json_option
@run_command
def job(
    job_id: str, metrics: bool, address: str | None, credentials: Path | None, as_json: bool
) -> None:
    """Show one job: state, placement, losses, and why peers are idle."""
    from homespun.progress import RATE_WINDOW_STEPS

    with connected(address, credentials) as client:
        handle = client.job(job_id)
        status = handle.status()
        curves = handle.curves(0 if metrics else max(0, status.steps_done - RATE_WINDOW_STEPS))
    if as_json:
        extra = {"metrics": curves.to_dict()} if metrics else {}
        print_json("job", {"job": status.to_dict(), **extra})
        return
    print_job(status, curves.steps)
    if metrics:
        print_table(("step", "loss"), [(m.step, f"{m.loss:.6f}") for m in curves.steps])
        for evaluation in curves.evaluations:
            click.echo(f"validation after {evaluation.step} steps: {evaluation.loss:.6f}")


@click.command()
@job_argument
@broker_options
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per update.")
@run_command
def watch(job_id: str, address: str | None, credentials: Path | None, as_json: bool) -> None:
    """Follow a job to its end; Ctrl-C only stops watching.

    Exit code: 0 when the job succeeds, else that of its error.
    """
    with connected(address, credentials) as client:
        handle = client.job(job_id)
        if as_json:
            from dataclasses import asdict

            status = handle.watch(lambda update: print_json("job_update", asdict(update)))
        else:
            status = handle.watch()
    exit_with(status, as_json=as_json)


@click.command()
@job_argument
@broker_options
@json_option
@run_command
def cancel(job_id: str, address: str | None, credentials: Path | None, as_json: bool) -> None:
    """End a job; its peers let go of it."""
    with connected(address, credentials) as client:
        status = client.job(job_id).cancel()
    if as_json:
        print_json("job", {"job": status.to_dict()})
    else:
        click.echo(f"{status.job_id} is {status.state}.{left_behind(status)}")


@click.command()
@job_argument
@click.option("-o", "--output", type=click.Path(path_type=Path), metavar="PATH",
              help="File, or directory to write JOB.safetensors into. [default: here]")
@click.option("--partial", is_flag=True,
              help="Of a training job that was cancelled or has failed: the parameters of its "
                   "newest complete snapshot.")
@broker_options
@json_option
@run_command
def download(
    job_id: str, output: Path | None, partial: bool, address: str | None,
    credentials: Path | None, as_json: bool,
) -> None:
    """Fetch the trained parameters of a job, or what it predicted, as one safetensors file."""
    from homespun.units import format_size

    with connected(address, credentials) as client:
        result = client.job(job_id).result(output, partial=partial)
    if as_json:
        print_json("result", {"job_id": result.job_id, "path": str(result.path),
                              "aliases": dict(result.aliases), "step": result.step})
        return
    click.echo(str(result.path))
    when = "" if result.step is None else f" These are the parameters of step {result.step}."
    note(f"{format_size(result.path.stat().st_size)} written.{when}")


def left_behind(status: JobStatus) -> str:
    """What can still be had of a job that has ended without a result, as sentences; or ""."""
    left = status.partial
    if left is None:
        return ""
    if left.missing:
        return f" Its parameters of step {left.position} are lost: {'; '.join(left.missing)}."
    come = f"{left.stored} of {left.pieces} pieces have come" if left.until_unix_ms else "complete"
    return (f" Its parameters of step {left.position} ({come}): "
            f"homespun download {status.job_id} --partial")


def exit_with(status: JobStatus, *, as_json: bool) -> None:
    """End the command as the job ended: 0, or the exit code of its error."""
    error = status.error()
    if error is None:
        return
    if as_json:
        raise error  # `run_command` prints it; in text the display has already said it
    raise SystemExit(error.exit_code)


def print_jobs(
    found: Sequence[JobStatus], *, as_json: bool, with_owners: bool = False
) -> None:
    """Write a list of jobs; `broker jobs` shows the same with everybody's owners."""
    from homespun.job_list import JOB_COLUMNS, job_rows

    if as_json:
        print_json("jobs", {"jobs": [status.to_dict() for status in found]})
        return
    if not with_owners:
        print_table(JOB_COLUMNS, job_rows(found))
        return
    rows = zip(found, job_rows(found), strict=True)
    print_table((*JOB_COLUMNS, "owner"), [(*row, status.owner) for status, row in rows])


def print_job(status: JobStatus, recent: Sequence[StepMetric] = ()) -> None:
    """Write all that is known of one job; `broker job` shows the same.

    Args:
        status: the job.
        recent: its last steps, for the measured speed.
    """
    from homespun.progress import SEGMENT_COLUMNS, Progress, idle_lines, segment_rows
    from homespun.status import JobUpdate
    from homespun.units import format_time

    progress = Progress()
    progress.see(JobUpdate(status=status, steps=tuple(recent), evaluations=()))
    click.echo(f"{status.job_id}  {printable(status.name)}".rstrip())
    click.echo(progress.headline())
    click.echo(f"submitted {format_time(status.submitted_unix_ms)} by {printable(status.owner)}, "
               f"ended {format_time(status.finished_unix_ms)}")
    if status.error_code:
        click.echo(f"{printable(status.error_message)} [{printable(status.error_code)}]"
                   f"{printable(left_behind(status))}")
    if status.segments:
        click.echo(progress.step_line())
        print_table(SEGMENT_COLUMNS, segment_rows(status))
    for line in idle_lines(status):
        click.echo(line)
