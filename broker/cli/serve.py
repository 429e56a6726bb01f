"""`broker init` and `broker serve`."""

from __future__ import annotations

from pathlib import Path

import click

from broker.cli.place import broker_directory
from homespun.cli.output import json_option, note, print_json, run_command

directory_argument = click.argument(
    "directory",
    required=False,
    metavar="[DIR]",
    type=click.Path(path_type=Path, file_okay=False),
)


@click.command()
@directory_argument
@click.option("--listen", default="0.0.0.0:7700", show_default=True, metavar="HOST:PORT",
              help="Where to serve members.")
@click.option("--enrolment-port", type=click.IntRange(1, 65_535),
              help="Where newcomers join. [default: the port of --listen plus one]")
@click.option("--address", metavar="HOST:PORT",
              help="What members dial. [default: --listen, or this machine's address]")
@click.option("--no-announce", is_flag=True, help="Do not announce the broker on the LAN.")
@click.option("--console", "console_listen", metavar="HOST:PORT",
              help="Where to serve the console, \"\" for nowhere. [default: 127.0.0.1 and the port "
              "of --listen plus two]")
@json_option
@run_command
def init(
    directory: Path | None, listen: str, enrolment_port: int | None, address: str | None,
    no_announce: bool, console_listen: str | None, as_json: bool,
) -> None:
    """Make a new network: its certificate authority, settings and operator identity.

    \b
    Example:
      broker init ~/homespun --listen 192.168.1.10:7700
    """
    from broker.console.address import ConsoleAddress
    from broker.identity.authority import create_authority
    from broker.settings import BrokerSettings
    from homespun.identity.address import join_address, split_address
    from homespun.identity.certificates import utc_now

    place = broker_directory(directory)
    host, port = split_address(listen)
    settings = BrokerSettings(
        listen=join_address(host, port),
        enrolment_port=enrolment_port or port + 1,
        address=address or join_address(_dialled(host), port),
        announce=not no_announce,
        console_listen=(
            join_address("127.0.0.1", port + 2) if console_listen is None else console_listen),
    )
    split_address(settings.address)
    ConsoleAddress.of(settings)  # refused now, and not when it is to be served
    authority = create_authority(place.root, broker_address=settings.address, now=utc_now())
    place.save_settings(settings)
    if as_json:
        print_json("network", {
            "network_id": authority.network_id, "directory": str(place.root),
            "address": settings.address, "enrolment_port": settings.enrolment_port})
        return
    click.echo(f"Made network {authority.network_id} in {place.root}.")
    note(f"Members will dial {settings.address}. Next: broker serve {place.root}")
    note(f"Keep {place.root / 'ca' / 'root.key'} somewhere offline: who has it owns the network.")


@click.command()
@directory_argument
@run_command
def serve(directory: Path | None) -> None:
    """Serve a network until interrupted.

    The journal in DIR is the truth: killed at any moment and started again, the broker goes on
    where it was, and running jobs do not stop meanwhile.

    \b
    Example:
      broker serve ~/homespun
    """
    from broker.server import BrokerServer
    from homespun.service import run_service

    server = BrokerServer.open(broker_directory(directory))
    note(f"Serving network {server.authority.network_id} at {server.settings.address}.")
    run_service(server.serve())


def _dialled(host: str) -> str:
    """The address that others dial when the broker listens on all of this machine's."""
    if host not in ("0.0.0.0", "::"):
        return host
    from homespun.identity.address import outward_host

    return outward_host()
