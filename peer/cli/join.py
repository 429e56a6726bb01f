"""`peer join`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from homespun.cli.output import json_option, note, print_json, run_command
from homespun.cli.secret_text import read_secret
from peer.cli.place import directory_option, peer_directory
from peer.executor.installed import NAMES, check_installed

if TYPE_CHECKING:
    from peer.owner.core.limits import OwnerLimits
    from peer.settings import PeerDirectory


@click.command()
@click.argument("address", required=False, metavar="[HOST:PORT]")
@click.option("--key", required=True, metavar="KEY",
              help="Join key from the operator; file:PATH or - (standard input) hide it from ps.")
@click.option("--name", metavar="NAME", help="What others see. [default: this machine's name]")
@click.option("--device", default="auto", show_default=True, metavar="auto|cpu|cuda:N",
              help="What to compute on.")
@click.option("--executor", type=click.Choice(NAMES), default="torch", show_default=True,
              help="Framework to compute with.")
@click.option("--memory", metavar="SIZE",
              help="Most device memory to lend, such as 6GiB. [default: half of RAM, 90 % of a "
              "GPU]")
@click.option("--threads", type=click.IntRange(1, 1_024),
              help="CPU threads for computing. [default: half of the physical cores]")
@click.option("--listen", "listen_port", type=click.IntRange(0, 65_535), default=0,
              metavar="PORT", help="Port where other peers reach this one. [default: a free one]")
@click.option("--host", default="0.0.0.0", show_default=True, metavar="HOST",
              help="Address to listen on.")
@click.option("--advertise", default="", metavar="HOST[:PORT]",
              help="What others dial, where a router forwards a port. [default: the address that "
              "reaches the broker]")
@click.option("--set", "changes", multiple=True, metavar="NAME=VALUE",
              help="Any setting of `peer set`; may be given again.")
@click.option("--replace", is_flag=True, help="Give up an identity that is there already.")
@directory_option
@json_option
@run_command
def join(
    address: str | None, key: str, name: str | None, device: str, executor: str,
    memory: str | None, threads: int | None, listen_port: int, host: str, advertise: str,
    changes: tuple[str, ...], replace: bool, directory: Path | None, as_json: bool,
) -> None:
    """Join the network of the broker at HOST:PORT; without it, of the one heard on the LAN.

    \b
    Example:
      peer join 192.168.1.10:7700 --key hsk1_... --name attic --device cuda:0 --memory 6GiB
    """
    import platform

    from homespun.identity.address import split_address, with_port
    from homespun.identity.enrol import enrol
    from homespun.identity.private_file import make_private_directory
    from homespun.units import parse_size
    from peer.hardware import resolve_device
    from peer.setting_list import with_changes
    from peer.settings import PeerSettings

    # A typing error, or something that is not installed, shows now and not at the first start.
    check_installed(executor)
    resolve_device(device, executor)
    place = peer_directory(directory)
    settings = with_changes(PeerSettings(
        name=name or platform.node()[:64] or "peer",
        device=device,
        executor=executor,
        memory_bytes=parse_size(memory) if memory else 0,
        threads=threads or 0,
        listen_host=host,
        listen_port=listen_port,
        advertise=advertise,
        limits=_limits_so_far(place),
    ), changes)
    if advertise:
        split_address(with_port(advertise, 1))
    secret = read_secret(key)
    make_private_directory(place.root)  # what lies in it is of other people's jobs
    held = enrol(address or _heard(), secret, settings.name, place.identity,
                 role="peer", replace=replace)
    place.save_settings(settings)
    if as_json:
        print_json("identity", {
            "id": held.id, "role": held.role, "network_id": held.network_id,
            "directory": str(place.root), "expires_at": held.expires_at.isoformat()})
        return
    click.echo(f"Joined network {held.network_id} as {held.id}.")
    note(f"Lends at: {settings.limits.schedule}; on battery: {_word(settings.limits.on_battery)}; "
         f"over networks paid by the byte: {_word(settings.limits.on_metered)}; only while nobody "
         f"uses it: {settings.limits.only_when_idle}. `peer get` shows all limits, `peer set` "
         "changes one.")
    if not settings.limits.upload_bytes_per_s:
        note("Uploads are not limited. On a slow line at home, about 80 % of it keeps calls and "
             "pages quick: peer set upload 8Mbit/s")
    note("Next: peer run")


def _word(is_so: bool) -> str:
    return "yes" if is_so else "no"


def _limits_so_far(place: PeerDirectory) -> OwnerLimits:
    """What an owner has set once is kept when the machine joins anew."""
    from peer.owner.core.limits import OwnerLimits

    return place.load_settings().limits if place.settings.exists() else OwnerLimits()


def _heard() -> str:
    """The address of the broker that the LAN speaks of; the key proves whether it is the one."""
    from homespun.discovery import find

    found = find()
    note(f"Heard of network {found.network_id} at {found.addresses[0]}.")
    return found.addresses[0]
