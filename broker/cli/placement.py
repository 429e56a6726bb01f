"""`broker placement`: why segments are where they are."""

from __future__ import annotations

from pathlib import Path

import click

from broker.cli.place import broker_directory, directory_option
from homespun.cli.output import json_option, print_json, run_command
from homespun.cli.session import connected


@click.group()
def placement() -> None:
    """Look at what runs where."""


@placement.command()
@click.argument("job", metavar="JOB")
@click.argument("segment", metavar="[SEGMENT]", type=click.IntRange(0), required=False)
@directory_option
@json_option
@run_command
def explain(job: str, segment: int | None, directory: Path | None, as_json: bool) -> None:
    """Say why each segment of a job is where it is, what was turned down, and what bounds the job.

    JOB is its id or the beginning of it. With SEGMENT only that one, and every other peer it could
    have or could not. homespun explain says the same to the job's owner.

    \b
    Example:
      broker placement explain job_000004
      broker placement explain job_000004 2
    """
    with connected(None, broker_directory(directory).operator) as client:
        found = client.job(job).explain(segment)
    if as_json:
        print_json("explanation", {"explanation": found.to_dict()})
    else:
        click.echo(repr(found))
