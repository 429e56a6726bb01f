"""`homespun fleet save`: keep what the planner knows of the peers in a file."""

from __future__ import annotations

from pathlib import Path

import click

from homespun.cli.output import json_option, note, print_json, print_table, run_command
from homespun.cli.session import broker_options, connected


@click.group()
def fleet() -> None:
    """The live peers as the planner knows them: speeds, memory, links."""


@fleet.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE")
@broker_options
@json_option
@run_command
def save(file: Path, address: str | None, credentials: Path | None, as_json: bool) -> None:
    """Write the live peers to FILE, for homespun plan --cluster FILE."""
    from homespun.fleet import FLEET_COLUMNS, fleet_of, fleet_rows, write_fleet

    with connected(address, credentials) as client:
        found = fleet_of(client.connection)
    file.write_text(write_fleet(found), encoding="utf-8")
    if as_json:
        print_json("fleet_saved", {
            "path": str(file), "peers": len(found.peers), "links": len(found.links)})
        return
    print_table(FLEET_COLUMNS, fleet_rows(found))
    note(f"{len(found.peers)} peers and {len(found.links)} measured links are in {file}. "
         f"Next: homespun plan MODEL.onnx --cluster {file}")
