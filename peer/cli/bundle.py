"""`peer bundle`."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from homespun.cli.output import json_option, note, print_json, run_command
from peer.cli.place import directory_option, peer_directory


@click.command()
@click.option("--output", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE",
              default=Path("peer-bundle.zip"), show_default=True, help="Where to write it.")
@click.option("--log", type=click.Path(path_type=Path, dir_okay=False, exists=True),
              metavar="FILE", help="A log of the daemon to put into it.")
@click.option("--show", is_flag=True, help="Print everything that would be in it; write nothing.")
@click.option("--yes", is_flag=True, help="Write it without asking.")
@directory_option
@json_option
@run_command
def bundle(
    output: Path, log: Path | None, show: bool, yes: bool, directory: Path | None, as_json: bool
) -> None:
    """Put what helps to understand this peer into one file, for whoever helps you.

    Keys, addresses, names and your home's path are taken out. Look at it first: --show.

    \b
    Examples:
      peer bundle --show | less
      peer bundle --log peer.log
    """
    from homespun.identity.private_file import write_atomically
    from homespun.units import format_size
    from peer.bundle.contents import gather
    from peer.preflight.finding import found_by
    from peer.preflight.machine_checks import MachineChecks
    from peer.status_note import daemon_of, read_status

    place = peer_directory(directory)
    settings = place.load_settings()
    is_running = daemon_of(read_status(place)) is not None
    made = gather(place, found_by(MachineChecks(place, settings, is_running).all()), log)
    if show:
        for name, content in sorted(made.files.items()):
            click.echo(f"--- {name}")
            click.echo(content.decode())
        return
    for name, content in sorted(made.files.items()):
        note(f"{name}: {format_size(len(content))}")
    if not yes and sys.stdin.isatty():
        click.confirm(f"Write these, redacted, to {output}?", abort=True, err=True)
    archive = made.archive()
    write_atomically(output, archive, private=True)
    if as_json:
        print_json("peer_bundle", {
            "path": str(output), "bytes": len(archive), "files": sorted(made.files)})
    else:
        click.echo(f"Wrote {output}. Look at it before you send it to somebody.")
