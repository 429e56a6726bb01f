"""`homespun explain`, `timeline`: why a job runs where it does, and who had which segment when."""

from __future__ import annotations

import json
from pathlib import Path

import click

from homespun.cli.jobs import job_argument
from homespun.cli.output import json_option, note, print_json, run_command
from homespun.cli.session import broker_options, connected


@click.command()
@job_argument
@click.argument("segment", metavar="[SEGMENT]", type=click.IntRange(0), required=False)
@broker_options
@json_option
@run_command
def explain(
    job_id: str, segment: int | None, address: str | None, credentials: Path | None, as_json: bool
) -> None:
    """Say why a job runs where it does, what was turned down, or what it waits for.

    With SEGMENT only that one, and the other peers it could have or could not.
    """
    with connected(address, credentials) as client:
        found = client.job(job_id).explain(segment)
    if as_json:
        print_json("explanation", {"explanation": found.to_dict()})
    else:
        click.echo(repr(found))


@click.command()
@job_argument
@click.option("--chrome", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE",
              help="Write it for Perfetto (ui.perfetto.dev) or chrome://tracing too.")
@broker_options
@json_option
@run_command
def timeline(
    job_id: str, chrome: Path | None, address: str | None, credentials: Path | None, as_json: bool
) -> None:
    """Show who had which segment of a job and when (`.` loading, `#` working), and why."""
    with connected(address, credentials) as client:
        found = client.job(job_id).timeline()
    if chrome is not None:
        from homespun.chrome_trace import trace_of

        chrome.write_text(json.dumps(trace_of(found)), encoding="utf-8")
        note(f"{chrome} written: open it in ui.perfetto.dev or chrome://tracing.")
    if as_json:
        print_json("timeline", found.to_dict())
    else:
        click.echo(repr(found))
