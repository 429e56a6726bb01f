"""`broker events`, `audit`, `timeline`: what happened, who did it, who had which segment."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from broker.cli.operator_call import call_operator, stream_operator
from broker.cli.place import CALL_TIMEOUT_S, directory_option
from homespun.cli.output import json_option, print_json, print_table, printable, run_command

LINES_MAX = 10_000
ACTIONS_MAX = 1_000


@click.command()
@click.option("-f", "--follow", is_flag=True, help="Go on with what happens, until interrupted.")
@click.option("--since", metavar="TIME", help="Nothing older, such as 1h or 7d.")
@click.option("--subject", default="", metavar="ID",
              help="Only of the job, peer or key whose id begins so.")
@click.option("--kind", default="", metavar="KIND",
              help="Only of kinds that begin so, such as peer_ or job_failed.")
@click.option("--text", default="", metavar="TEXT", help="Only lines with this in them.")
@click.option("--limit", type=click.IntRange(1, LINES_MAX), default=100, show_default=True,
              help="Most lines to begin with, the newest.")
@directory_option
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per line.")
@run_command
def events(
    follow: bool, since: str | None, subject: str, kind: str, text: str, limit: int,
    directory: Path | None, as_json: bool,
) -> None:
    """Show what happened, oldest first.

    \b
    Example:
      broker events --since 1h --kind peer_
      broker events -f --subject job_000004 --json
    """
    from homespun.units import format_time
    from homespun.v1 import operator_pb2

    request = operator_pb2.GetEventsRequest(
        subject=subject, kind=kind, text=text, limit=limit, follow=follow,
        since_unix_ms=_moment_ms(since) if since else 0)
    patience_s = None if follow else CALL_TIMEOUT_S
    for part in stream_operator(directory, "GetEvents", request, timeout_s=patience_s):
        for line in part.lines:
            if as_json:
                print_json("event", event_value(line))
                continue
            click.echo(f"{format_time(line.unix_ms)}  {printable(line.subject)}  {line.kind}  "
                       f"{printable(line.text)}")


@click.command()
@click.option("--limit", type=click.IntRange(1, ACTIONS_MAX), default=100, show_default=True,
              help="Most actions to show, the newest.")
@directory_option
@json_option
@run_command
def audit(limit: int, directory: Path | None, as_json: bool) -> None:
    """Show what operators did, newest first: who, when, what, why, and what was refused."""
    from homespun.units import format_time
    from homespun.v1 import operator_pb2

    request = operator_pb2.GetAuditRequest(limit=limit)
    entries = call_operator(directory, "GetAudit", request).entries
    if as_json:
        print_json("audit", {"entries": [
            {"number": entry.number, "unix_ms": entry.unix_ms, "by": entry.by,
             "action": entry.action, "subject": entry.subject, "details": entry.details,
             "reason": entry.reason, "refusal": entry.refusal} for entry in entries]})
        return
    print_table(
        ("time", "who", "what", "to what", "how", "why", "refused"),
        [(format_time(entry.unix_ms), *(text or "-" for text in (
            entry.by, entry.action, entry.subject, entry.details, entry.reason, entry.refusal)))
         for entry in entries])


@click.command()
@click.argument("job", metavar="JOB")
@directory_option
@json_option
@run_command
def timeline(job: str, directory: Path | None, as_json: bool) -> None:
    """Show who had which segment of a job and when, and what happened to the job."""
    from homespun.units import format_time
    from homespun.v1 import operator_pb2

    found = call_operator(directory, "GetTimeline", operator_pb2.GetTimelineRequest(job=job))
    if as_json:
        from homespun.timeline import timeline_of

        print_json("timeline", timeline_of(found, 0).to_dict())
        return
    click.echo(f"{found.job_id}  {found.state}")
    print_table(
        ("segment", "peer", "token", "position", "assigned", "running", "ended", "end"),
        [(span.segment, span.peer_name or span.peer_id, span.token, span.position,
          *map(format_time, (span.assigned_unix_ms, span.running_unix_ms, span.ended_unix_ms)),
          span.end or "-") for span in found.spans])
    print_lines(found.events)


def event_value(line: Any) -> dict[str, object]:
    """A line of the event log as plain data."""
    return {"number": line.number, "unix_ms": line.unix_ms, "subject": line.subject,
            "kind": line.kind, "text": line.text}


def print_lines(lines: Sequence[Any]) -> None:
    """Print lines of the event log for people, in the order in which they come."""
    from homespun.units import format_time

    for line in lines:
        click.echo(f"{format_time(line.unix_ms)}  {line.kind}  {printable(line.text)}")


def _moment_ms(since: str) -> int:
    """Unix time so long ago; the broker that is asked runs on this machine."""
    import time

    from homespun.units import parse_duration_ms

    return max(0, int(time.time() * 1000) - parse_duration_ms(since))
