"""`broker placement`: where segments are, and why they are there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from broker.cli.look import plain_value
from broker.cli.operator_call import stream_operator
from broker.cli.place import directory_option, operator_identity
from homespun.cli.output import json_option, print_json, print_table, printable, run_command
from homespun.cli.session import connected


@click.group()
def placement() -> None:
    """Look at what runs where."""


@placement.command()
@click.argument("job", metavar="[JOB]", default="")
@directory_option
@json_option
@run_command
def show(job: str, directory: Path | None, as_json: bool) -> None:
    """Show who holds which segment, who stands by for it, and the links between them.

    JOB is its id or the beginning of it; without it all jobs that have a place, newest first, and
    the peers that neither run nor stand by.

    \b
    Example:
      broker placement show
      broker placement show job_000004 --json
    """
    from homespun.v1 import operator_pb2

    parts = list(stream_operator(
        directory, "GetPlacement", operator_pb2.GetPlacementRequest(job=job)))
    jobs = [each for part in parts for each in part.jobs]
    free = [each for part in parts for each in part.free]
    if as_json:
        print_json("placement", {"jobs": [plain_value(each) for each in jobs],
                                 "free": [plain_value(each) for each in free]})
        return
    for each in jobs:
        _print_placed(each)
    if not jobs:
        click.echo("It has no place now." if job else "No job has a place now.")
    if not job:
        names = ", ".join(_called(peer) for peer in free) or "none"
        click.echo(f"Peers that neither run nor stand by: {printable(names)}")


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
    with connected(None, operator_identity(directory)) as client:
        found = client.job(job).explain(segment)
    if as_json:
        print_json("explanation", {"explanation": found.to_dict()})
    else:
        click.echo(repr(found))


def _print_placed(job: Any) -> None:
    from homespun.units import format_size

    click.echo(f"{job.job_id}  {printable(job.name)}  {job.state}")
    print_table(("  segment", "peer", "phase", "backups", "lacks"), [
        (f"  {one.segment}", _called(one.peer), one.phase,
         ", ".join(f"{_called(each)} ({each.level or 'getting ready'})" for each in one.standbys)
         or "-", one.gap or "-") for one in job.segments])
    if job.links:
        print_table(
            ("  link", "from", "to", "a microbatch", "latency", "bandwidth", "sent"),
            [(f"  {one.source} to {one.target}", _called(one.source_peer),
              _called(one.target_peer), format_size(one.microbatch_bytes),
              f"{one.latency_s * 1000:.1f} ms" if one.HasField("latency_s") else "-",
              f"{format_size(one.bandwidth_bytes_per_s)}/s"
              if one.HasField("bandwidth_bytes_per_s") else "-",
              format_size(one.sent_bytes)) for one in job.links])
    click.echo()


def _called(peer: Any) -> str:
    return str(peer.name or peer.peer_id)
