"""`peer status`."""

from __future__ import annotations

import json
import time
from pathlib import Path

import click

from homespun.cli.output import json_option, print_json, print_table, run_command
from peer.cli.place import directory_option, peer_directory

STATUS_BYTES_MAX = 1 << 20
FRESH_MS = 10_000
"""A running daemon renews its note every two seconds."""


@click.command()
@directory_option
@json_option
@run_command
def status(directory: Path | None, as_json: bool) -> None:
    """Show whether this machine's peer runs, what it works on and what it waits for."""
    place = peer_directory(directory)
    settings = place.load_settings()
    said: dict[str, object] = {"name": settings.name, "leases": []}
    try:
        with place.status.open("rb") as file:
            said.update(json.loads(file.read(STATUS_BYTES_MAX)))
    except (FileNotFoundError, ValueError):
        pass  # never ran, or was cut off in the middle of writing: not running
    age_ms = time.time_ns() // 1_000_000 - int(str(said.get("updated_unix_ms", 0)))
    said["running"] = age_ms < FRESH_MS
    if as_json:
        print_json("peer_status", said)
        return
    if not said["running"]:
        click.echo(f"{settings.name} is not running. Start it with: peer run")
        return
    state = "connected to" if said["connected"] else "cut off from"
    click.echo(f"{said['name']} ({said['peer_id']}) on {said['device']} with {said['executor']}, "
               f"{state} {said['broker']}")
    leases = said["leases"]
    assert isinstance(leases, list)
    if not leases:
        click.echo("No work at present.")
        return
    print_table(
        ("job", "segment", "phase", "steps", "waits for"),
        [(lease["job_id"], lease["segment"], lease["phase"], lease["steps_done"],
          lease["waiting_for"] or "-") for lease in leases])
