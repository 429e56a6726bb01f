"""`broker top`: the network in a terminal, kept up to date."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from broker.cli.history import event_value
from broker.cli.look import shown_state
from broker.cli.operator_call import ask
from broker.cli.place import directory_option
from homespun.cli.output import json_option, print_json, printable, run_command

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.table import Table

LOOK_TIMEOUT_S = 5.0
EVERY_S = (0.2, 3_600.0)
"""Shortest and longest time between two looks."""
JOBS_MAX = 1_000
JOBS_SHOWN = 12
GAPS_SHOWN = 4
EVENTS_SHOWN = 8
QUIT = ("q", "Q", "\x03", "\x04")


@click.command()
@click.option("--once", is_flag=True, help="Print one picture and end, as where the output is no "
              "terminal.")
@click.option("--every", default="2s", show_default=True, metavar="TIME",
              help="How often to look, such as 500ms or 10s.")
@directory_option
@json_option
@run_command
def top(once: bool, every: str, directory: Path | None, as_json: bool) -> None:
    """Watch the network: peers, jobs, what lacks a backup, what happened last. q quits.

    \b
    Example:
      broker top
      broker top --once --json
    """
    from rich.console import Console

    from homespun.units import parse_duration_ms

    every_s = min(max(parse_duration_ms(every) / 1_000, EVERY_S[0]), EVERY_S[1])
    said = look(directory)
    if as_json:
        print_json("top", said)
        return
    console = Console()
    if once or not console.is_terminal:
        console.print(picture(said, None))
        return
    _watch(directory, said, console, every_s)


def look(directory: Path | None) -> dict[str, Any]:
    """Ask the broker for everything that is shown; plain data.

    Raises:
        HomespunError: UNREACHABLE or TIMED_OUT after `LOOK_TIMEOUT_S`.
    """
    import time

    from homespun.v1 import jobs_pb2, jobs_pb2_grpc, operator_pb2, operator_pb2_grpc

    with ask(directory, operator_pb2_grpc.OperatorServiceStub, LOOK_TIMEOUT_S) as operator:
        peers = operator("ListPeers", operator_pb2.ListPeersRequest())
        backups = operator("GetBackups", operator_pb2.GetBackupsRequest())
        events = operator("GetEvents", operator_pb2.GetEventsRequest(limit=EVENTS_SHOWN))
        gaps = [segment for part in backups for segment in part.segments if segment.gap]
        lines = [line for part in events for line in part.lines]
    with ask(directory, jobs_pb2_grpc.JobServiceStub, LOOK_TIMEOUT_S) as jobs:
        found = jobs("ListJobs", jobs_pb2.ListJobsRequest(limit=JOBS_MAX)).jobs
    return {
        "unix_ms": time.time_ns() // 1_000_000,
        **_of_peers(peers),
        "jobs": dict(Counter(job.state for job in found)),
        "unfinished": [_of_job(job) for job in found if not job.finished_unix_ms],
        "gaps": [{"job_id": one.job_id, "segment": one.segment, "gap": one.gap} for one in gaps],
        "events": [event_value(line) for line in lines],
    }


def _of_peers(answer: Any) -> dict[str, Any]:
    live = [peer for peer in answer.peers if shown_state(peer) == "live"]
    return {
        "peers": dict(Counter(map(shown_state, answer.peers))),
        "waiting_to_be_admitted": len(answer.newcomers) + sum(
            shown_state(peer) == "pending" for peer in answer.peers),
        "free": sum(not peer.leases and not peer.is_drained and peer.availability == "open"
                    for peer in live),
        "memory_bytes": sum(peer.hardware.memory_bytes for peer in live),
        "matmul_flops_per_s": sum(peer.hardware.matmul_flops_per_s for peer in live),
    }


def _of_job(job: Any) -> dict[str, Any]:
    return {
        "job_id": job.job_id, "name": job.name, "state": job.state, "kind": job.kind,
        "steps_done": job.steps_done, "steps_total": job.steps_total,
        "last_loss": job.last_loss if job.has_loss else None,
        "segments": len(job.segments), "reason": job.error_message}


# --- for people ---------------------------------------------------------------------------------


def picture(
    said: Mapping[str, Any], before: Mapping[str, Any] | None, trouble: str = ""
) -> RenderableType:
    """What `look` gave as a picture.

    Args:
        said: the newest.
        before: an earlier one, to tell speeds by; None for none.
        trouble: why there is nothing newer; "" for nothing.
    """
    from rich.console import Group
    from rich.panel import Panel
    from rich.text import Text

    from homespun.units import format_size, format_time

    lines = [Text(f"peers: {_counts(said['peers'])}; {said['free']} free, "
                  f"{format_size(said['memory_bytes'])}, "
                  f"{said['matmul_flops_per_s'] / 1e12:.3g} TFLOP/s"),
             Text(f"jobs: {_counts(said['jobs'])}")]
    if said["waiting_to_be_admitted"]:
        lines.append(Text(
            f"{said['waiting_to_be_admitted']} peers wait: broker peers", style="yellow"))
    lines += [Text(f"{one['job_id']}/{one['segment']} lacks: {printable(one['gap'])}",
                   style="yellow") for one in said["gaps"][:GAPS_SHOWN]]
    if len(said["gaps"]) > GAPS_SHOWN:
        lines.append(Text(f"and {len(said['gaps']) - GAPS_SHOWN} more: broker backups"))
    if trouble:
        lines.append(Text(printable(trouble), style="red"))
    events = [Text(f"{format_time(line['unix_ms'])}  {printable(line['text'])}", no_wrap=True,
                   overflow="ellipsis") for line in said["events"]]
    return Panel(Group(*lines, _jobs(said, before), *events),
                 title=f"network at {format_time(said['unix_ms'])}", subtitle="q quits")


def _jobs(said: Mapping[str, Any], before: Mapping[str, Any] | None) -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table("job", "name", "state", "steps", "steps/s", "loss", "segments", "waits for",
                  expand=True)
    for job in said["unfinished"][:JOBS_SHOWN]:
        loss = "-" if job["last_loss"] is None else f"{job['last_loss']:.5g}"
        cells = (job["job_id"], job["name"], job["state"],
                 f"{job['steps_done']}/{job['steps_total']}", _speed(job, said, before), loss,
                 str(job["segments"] or "-"), job["reason"] or "-")
        table.add_row(*(Text(printable(cell), no_wrap=True, overflow="ellipsis")
                        for cell in cells))
    more = len(said["unfinished"]) - JOBS_SHOWN
    if more > 0:
        table.caption = f"and {more} more: broker jobs"
    return table


def _speed(
    job: Mapping[str, Any], said: Mapping[str, Any], before: Mapping[str, Any] | None
) -> str:
    earlier = next((each for each in (before or {}).get("unfinished", ())
                    if each["job_id"] == job["job_id"]), None)
    if before is None or earlier is None or said["unix_ms"] <= before["unix_ms"]:
        return "-"
    seconds = (said["unix_ms"] - before["unix_ms"]) / 1_000
    return f"{(job['steps_done'] - earlier['steps_done']) / seconds:.2f}"


def _counts(numbers: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in sorted(numbers.items())) or "none"


def _watch(
    directory: Path | None, said: dict[str, Any], console: Console, every_s: float
) -> None:
    """Look again and again until somebody presses q; an unreachable broker is waited for."""
    from rich.live import Live

    from homespun.cli.keyboard import Keyboard
    from homespun.errors import HomespunError

    with Keyboard() as keyboard, Live(
            picture(said, None), console=console, screen=True, auto_refresh=False) as live:
        while keyboard.wait(every_s) not in QUIT:
            try:
                before, said, trouble = said, look(directory), ""
            except HomespunError as error:
                before, trouble = said, error.message
            live.update(picture(said, before, trouble), refresh=True)
