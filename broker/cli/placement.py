"""`broker placement`: why segments are where they are."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from broker.cli.place import broker_directory, directory_option
from homespun.cli.output import json_option, print_json, print_table, printable, run_command
from homespun.cli.session import connected

if TYPE_CHECKING:
    from homespun.explanation import Explanation, SegmentExplanation


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
    """Say why each segment of a job is where it is, what else could be, and what bounds the job.

    JOB is its id or the beginning of it. With SEGMENT only that one, and every other peer it could
    have or could not.

    \b
    Example:
      broker placement explain job_000004
      broker placement explain job_000004 2
    """
    with connected(None, broker_directory(directory).operator) as client:
        found = client.job(job).explain(segment)
    if as_json:
        print_json("explanation", {"explanation": found.to_dict()})
        return
    _print_job(found)
    for each in found.segments:
        _print_segment(each)
    if found.idle and segment is None:
        click.echo("\nLeft out by the plan:")
        print_table(("peer", "rule", "why"), [
            (one.subject_name or one.subject, one.rule, one.text) for one in found.idle])


def _print_job(found: Explanation) -> None:
    plan = f"planned by {found.algorithm}: {found.step_s:.3g} s a step" if found.algorithm \
        else "not planned yet"
    click.echo(f"{found.job_id}  {found.state}  {plan}")
    for bound in found.bounds:
        click.echo(f"  {printable(bound.text)} [{bound.rule}]")
    if found.offers:
        click.echo("\nWhat the algorithms offered:")
        print_table(("algorithm", "step", "why it is not the plan"), [
            (one.algorithm, _seconds(one.step_s), one.reason or "it is the plan")
            for one in found.offers])


def _print_segment(one: SegmentExplanation) -> None:
    from homespun.units import format_size

    click.echo(f"\nSegment {one.segment} is on {printable(one.peer_name)} ({one.peer_id}), "
               f"{one.phase}.")
    click.echo(f"  {printable(one.why)} [{one.rule}]")
    click.echo(f"  {one.nodes} nodes, {format_size(one.memory_bytes)} of "
               f"{format_size(one.memory_lent_bytes)}; a microbatch should take "
               f"{_seconds(one.predicted_s)}, took {_seconds(one.measured_s)}")
    if one.alternatives:
        print_table(("  peer", "microbatch", "backup", "rule", "why not"), [
            (f"  {other.peer_name}", _seconds(other.microbatch_s), other.level or "-", other.rule,
             other.text) for other in one.alternatives])
    if one.more_alternatives:
        click.echo(f"  and {one.more_alternatives} more peers")


def _seconds(time_s: float) -> str:
    return f"{time_s:.3g} s" if time_s else "-"
