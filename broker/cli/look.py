"""`broker peers`, `jobs`, `job`, `cancel`: what the operator sees, over everybody's jobs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from broker.cli.done import say_done
from broker.cli.operator_call import call_jobs, call_operator
from broker.cli.place import directory_option, operator_identity, reason_option
from homespun.cli.jobs import print_job, print_jobs
from homespun.cli.output import (
    json_option,
    note,
    print_json,
    print_table,
    printable,
    run_command,
)
from homespun.cli.session import connected

SEGMENTS_SHOWN = 3
JOBS_MAX = 1_000
PEER_STATES = ("pending", "suspect", "live", "lost", "banned")
JOB_STATES = ("submitted", "planning", "preparing", "running", "recovering", "succeeded", "failed",
              "cancelled")


@click.command()
@click.option("--text", default="", metavar="TEXT", help="Only with this in name, label or id.")
@click.option("--state", type=click.Choice(PEER_STATES), help="Only in this state.")
@directory_option
@json_option
@run_command
def peers(text: str, state: str | None, directory: Path | None, as_json: bool) -> None:
    """List the peers: state, hardware, what they run and stand by for.

    Why one runs nothing says `broker peer`.
    """
    from homespun.units import format_size, format_time
    from homespun.v1 import operator_pb2

    answer = call_operator(directory, "ListPeers", operator_pb2.ListPeersRequest())
    found = [peer for peer in answer.peers if state in (None, shown_state(peer))
             and _has(text, peer.peer_id, peer.name, peer.label)]
    found.sort(key=lambda peer: peer.standing != "pending")
    if as_json:
        print_json("peers", {
            "peers": [plain_value(peer) for peer in found],
            "newcomers": [plain_value(peer) for peer in answer.newcomers]})
        return
    print_table(
        ("peer", "name", "state", "availability", "executor", "device", "memory", "GFLOP/s",
         "runs", "stands by for", "last seen"),
        [(peer.peer_id, called(peer), state_of(peer), availability_of(peer),
          executor_of(peer.hardware), peer.hardware.device, format_size(peer.hardware.memory_bytes),
          f"{peer.hardware.matmul_flops_per_s / 1e9:.0f}", _segments(peer.leases),
          _segments(peer.standbys), format_time(peer.last_seen_unix_ms)) for peer in found])
    for peer in answer.newcomers:
        note(f"{printable(peer.name)} ({peer.peer_id}) has joined and waits: broker admit "
             f"{peer.peer_id}")


@click.command()
@click.option("--limit", type=click.IntRange(1, JOBS_MAX), default=100, show_default=True,
              help="Most jobs to show.")
@click.option("--text", default="", metavar="TEXT", help="Only with this in name or id.")
@click.option("--state", type=click.Choice(JOB_STATES), help="Only in this state.")
@directory_option
@json_option
@run_command
def jobs(
    limit: int, text: str, state: str | None, directory: Path | None, as_json: bool
) -> None:
    """List all jobs, newest first; with --text or --state some of the newest 1,000."""
    with connected(None, operator_identity(directory)) as client:
        known = client.jobs(JOBS_MAX if text or state else limit)
    found = [job for job in known
             if state in (None, job.state) and _has(text, job.job_id, job.name)]
    print_jobs(found[:limit], as_json=as_json, with_owners=True)


@click.command()
@click.argument("job_id", metavar="JOB")
@directory_option
@json_option
@run_command
def job(job_id: str, directory: Path | None, as_json: bool) -> None:
    """Show one job: state, placement, losses, and why peers are idle."""
    with connected(None, operator_identity(directory)) as client:
        status = client.job(job_id).status()
    if as_json:
        print_json("job", {"job": status.to_dict()})
        return
    print_job(status)


@click.command()
@click.argument("job_id", metavar="JOB")
@reason_option
@directory_option
@json_option
@run_command
def cancel(job_id: str, reason: str, directory: Path | None, as_json: bool) -> None:
    """End somebody's job."""
    from homespun.v1 import jobs_pb2

    request = jobs_pb2.CancelJobRequest(job_id=job_id, reason=reason)
    ended = call_jobs(directory, "CancelJob", request).job_id
    say_done("cancel", ended, f"Cancelled {ended}.", as_json=as_json)


def _has(text: str, *names: str) -> bool:
    return any(text.casefold() in name.casefold() for name in names)


def called(peer: Any) -> str:
    """Its name, with what operators call it."""
    return f"{peer.name} ({peer.label})" if peer.label else str(peer.name)


def state_of(peer: Any) -> str:
    """Whether it is there, or what an operator decided."""
    if peer.standing == "banned" and peer.ban_reason:
        return f"banned: {peer.ban_reason}"
    return shown_state(peer)


def shown_state(peer: Any) -> str:
    """A peer's state, or what an operator decided where that goes before it: in one word."""
    return str(peer.state if peer.standing in ("", "admitted") else peer.standing)


def _segments(held: Sequence[Any]) -> str:
    """Segments that a peer runs or stands by for, the first few of many."""
    more = [f"{len(held) - SEGMENTS_SHOWN} more"] if len(held) > SEGMENTS_SHOWN else []
    return ", ".join([f"{one.job_id}/{one.segment}" for one in held[:SEGMENTS_SHOWN]] + more) or "-"


def availability_of(peer: Any) -> str:
    """What a peer may be given, and until when it must be empty."""
    from homespun.units import format_time

    text = str(peer.availability)
    if peer.is_drained:
        text = "drained" if text == "open" else f"drained, {text}"
    return f"{text} by {format_time(peer.drain_unix_ms)}" if peer.drain_unix_ms else text


def executor_of(hardware: Any) -> str:
    """What computes there, and whether it trains."""
    trains = hardware.support.trainable or not hardware.HasField("support")
    return str(hardware.executor) + ("" if trains else " (inference only)")


def plain_value(message: Any) -> dict[str, object]:
    """A message as plain data, for JSON: every field, by its name in the schema."""
    from google.protobuf.json_format import MessageToDict

    value: dict[str, object] = MessageToDict(
        message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )
    return value
