"""`broker drain` and `broker backups`: empty a peer, and see who could take what over."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import click

from broker.cli.look import plain_value
from broker.cli.operator_call import call_operator, stream_operator
from broker.cli.place import directory_option, reason_option
from homespun.cli.output import json_option, note, print_json, print_table, run_command


@click.command()
@click.argument("peer", metavar="PEER")
@click.option("--deadline", metavar="TIME",
              help="When its segments move even if no backup is ready, such as 30s or 10m. "
              "[default: never]")
@click.option("--undo", is_flag=True, help="Use the peer again.")
@reason_option
@directory_option
@json_option
@run_command
def drain(
    peer: str, deadline: str | None, undo: bool, reason: str, directory: Path | None,
    as_json: bool,
) -> None:
    """Move what a peer holds to its backups, and give it nothing new.

    PEER is its id, the beginning of it, or its name. The command does not wait: `broker peers`
    shows what it still holds.

    \b
    Example:
      broker drain box-2 --deadline 2m
      broker drain box-2 --undo
    """
    from homespun.units import parse_duration_ms
    from homespun.v1 import operator_pb2

    if undo and deadline is not None:
        raise click.UsageError("--deadline makes no sense with --undo.")
    request = operator_pb2.DrainPeerRequest(
        peer=peer, undo=undo, reason=reason,
        deadline_ms=parse_duration_ms(deadline) if deadline else 0)
    found = call_operator(directory, "DrainPeer", request).peer
    if as_json:
        print_json("peer", {"peer": plain_value(found)})
        return
    what = "may be used again" if undo else "is drained"
    click.echo(f"{found.name} ({found.peer_id}) {what}.")
    if found.leases and not undo:
        held = ", ".join(f"{lease.job_id}/{lease.segment}" for lease in found.leases)
        note(f"It still holds {held}. Who takes over: broker backups")


@click.command()
@directory_option
@json_option
@run_command
def backups(directory: Path | None, as_json: bool) -> None:
    """Show for each segment that runs who could take it over, from where, and what is missing."""
    from homespun.v1 import operator_pb2

    parts = stream_operator(directory, "GetBackups", operator_pb2.GetBackupsRequest())
    found = [segment for part in parts for segment in part.segments]
    if as_json:
        print_json("backups", {"segments": [_segment_value(segment) for segment in found]})
        return
    print_table(
        ("segment", "peer", "position", "age", "newest", "snapshots on", "backups", "lacks"),
        [(f"{one.job_id}/{one.segment}", _name(one.peer), one.position, _age(one),
          one.latest_position, _joined(map(_name, one.holders)),
          _joined(f"{_name(backup)} ({backup.level or 'getting ready'})"
                  for backup in one.standbys),
          one.gap or "-") for one in found])


def _segment_value(segment: Any) -> dict[str, object]:
    return {
        "job_id": segment.job_id, "segment": segment.segment, "peer": plain_value(segment.peer),
        "position": segment.position, "position_unix_ms": segment.position_unix_ms,
        "latest_position": segment.latest_position,
        "holders": [plain_value(holder) for holder in segment.holders],
        "standbys": [plain_value(standby) for standby in segment.standbys],
        "gap": segment.gap}


def _name(peer: Any) -> str:
    return str(peer.name or peer.peer_id)


def _joined(texts: Iterable[str]) -> str:
    return ", ".join(texts) or "-"


def _age(segment: Any) -> str:
    """How old the complete position is; the broker that said it runs on this machine."""
    import time

    from homespun.units import format_duration

    if not segment.position_unix_ms:
        return "-"
    return format_duration(max(0.0, time.time() - segment.position_unix_ms / 1000))
