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
    from homespun.fleet import fleet_of, write_fleet
    from homespun.units import format_size

    with connected(address, credentials) as client:
        found = fleet_of(client.connection)
    file.write_text(write_fleet(found), encoding="utf-8")
    if as_json:
        print_json("fleet_saved", {
            "path": str(file), "peers": len(found.peers), "links": len(found.links)})
        return
    print_table(("peer", "name", "executor", "device", "memory", "GFLOP/s", "free"), [
        (peer.resources.peer_id, peer.name, peer.resources.executor, peer.device_name,
         format_size(peer.resources.memory_bytes),
         f"{peer.resources.rates.matmul_flops_per_s / 1e9:.0f}", "yes" if peer.is_free else "no")
        for peer in found.peers])
    note(f"{len(found.peers)} peers and {len(found.links)} measured links are in {file}. "
         f"Next: homespun plan MODEL.onnx --cluster {file}")
