"""`broker peers`, `jobs`, `job`, `cancel`: what the operator sees, over everybody's jobs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from broker.cli.operator_call import call_operator
from broker.cli.place import broker_directory, directory_option
from homespun.cli.jobs import print_job, print_jobs
from homespun.cli.output import json_option, print_json, print_table, run_command
from homespun.cli.session import connected


@click.command()
@directory_option
@json_option
@run_command
def peers(directory: Path | None, as_json: bool) -> None:
    """List the peers: state, hardware, what they run."""
    from homespun.units import format_size, format_time
    from homespun.v1 import operator_pb2

    found = call_operator(directory, "ListPeers", operator_pb2.ListPeersRequest()).peers
    if as_json:
        print_json("peers", {"peers": [_peer_value(peer) for peer in found]})
        return
    print_table(
        ("peer", "name", "state", "executor", "device", "memory", "GFLOP/s", "runs", "last seen"),
        [(peer.peer_id, peer.name, peer.state, _executor(peer.hardware), peer.hardware.device,
          format_size(peer.hardware.memory_bytes),
          f"{peer.hardware.matmul_flops_per_s / 1e9:.0f}",
          ", ".join(f"{lease.job_id}/{lease.segment}" for lease in peer.leases) or "-",
          format_time(peer.last_seen_unix_ms)) for peer in found])


@click.command()
@click.option("--limit", type=click.IntRange(1, 1_000), default=100, show_default=True,
              help="Most jobs to show.")
@directory_option
@json_option
@run_command
def jobs(limit: int, directory: Path | None, as_json: bool) -> None:
    """List all jobs, newest first."""
    with connected(None, broker_directory(directory).operator) as client:
        print_jobs(client.jobs(limit), as_json=as_json)


@click.command()
@click.argument("job_id", metavar="JOB")
@directory_option
@json_option
@run_command
def job(job_id: str, directory: Path | None, as_json: bool) -> None:
    """Show one job: state, placement, losses, and why peers are idle."""
    with connected(None, broker_directory(directory).operator) as client:
        status = client.job(job_id).status()
    if as_json:
        print_json("job", {"job": status.to_dict()})
        return
    print_job(status)


@click.command()
@click.argument("job_id", metavar="JOB")
@directory_option
@run_command
def cancel(job_id: str, directory: Path | None) -> None:
    """End somebody's job."""
    with connected(None, broker_directory(directory).operator) as client:
        handle = client.job(job_id)
        handle.cancel()
        click.echo(f"Cancelled {handle.id}.")


def _executor(hardware: Any) -> str:
    trains = hardware.support.trainable or not hardware.HasField("support")
    return str(hardware.executor) + ("" if trains else " (inference only)")


def _peer_value(peer: Any) -> dict[str, object]:
    from google.protobuf.json_format import MessageToDict

    value: dict[str, object] = MessageToDict(
        peer, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )
    return value
