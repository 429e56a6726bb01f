"""`homespun join`: become a submitter of a network."""

from __future__ import annotations

from pathlib import Path

import click

from homespun.cli.output import json_option, note, print_json, run_command
from homespun.cli.secret_text import read_secret


@click.command()
@click.argument("address", metavar="HOST:PORT")
@click.option("--key", required=True, metavar="KEY",
              help="Join key from the operator; file:PATH or - (standard input) hide it from ps.")
@click.option("--name", metavar="NAME", help="What the operator sees. [default: user@host]")
@click.option("--credentials", type=click.Path(path_type=Path, file_okay=False), metavar="DIR",
              help="Where to keep your identity. [env: HOMESPUN_CREDENTIALS]")
@click.option("--replace", is_flag=True, help="Give up an identity that is there already.")
@json_option
@run_command
def join(
    address: str, key: str, name: str | None, credentials: Path | None, replace: bool,
    as_json: bool,
) -> None:
    """Join the network of the broker at HOST:PORT as a submitter."""
    from homespun.identity.enrol import enrol
    from homespun.paths import credentials_directory

    directory = credentials_directory(credentials)
    held = enrol(address, read_secret(key), name or _default_name(), directory,
                 role="submitter", replace=replace)
    if as_json:
        print_json("identity", {
            "id": held.id, "role": held.role, "network_id": held.network_id,
            "directory": str(directory), "expires_at": held.expires_at.isoformat()})
        return
    click.echo(f"Joined network {held.network_id} as {held.id}.")
    note(f"Your identity is in {directory}. Next: homespun submit SPEC.py")


def _default_name() -> str:
    import getpass
    import platform

    try:
        user = getpass.getuser()
    except (OSError, KeyError):  # no such user here, as in some containers
        user = "user"
    return f"{user}@{platform.node() or 'host'}"[:64]
