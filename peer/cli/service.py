"""`peer service install|uninstall|status`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from homespun.cli.output import json_option, note, print_json, run_command
from peer.cli.place import directory_option, peer_directory

if TYPE_CHECKING:
    from peer.service.definition import Definition
    from peer.service.installation import Plan
    from peer.settings import PeerDirectory

_system_option: Callable[[Any], Any] = click.option(
    "--system", "is_system", is_flag=True,
    help="Start with the machine, for all users (needs root); else with your session. Without "
    "--dir it is the peer of /var/lib/homespun-peer.")


@click.group()
def service() -> None:
    """Run this peer as a service of the system: systemd, launchd or Windows' Task Scheduler."""


@service.command()
@_system_option
@click.option("--user", default="", metavar="ACCOUNT",
              help="Account that it runs under, with --system. [default: who owns the peer's "
              "directory]")
@click.option("--dry-run", is_flag=True, help="Show what would be written and run.")
@directory_option
@run_command
def install(is_system: bool, user: str, dry_run: bool, directory: Path | None) -> None:
    """Start the peer now and at every login, or with the machine; one that runs starts anew.

    Each peer's directory has a service of its own, named after it.

    \b
    Examples:
      peer service install
      sudo peer service install --system --dir /var/lib/homespun-peer
    """
    import os
    from functools import partial

    from peer.service import installation

    place = _place(directory, is_system)
    definition = _definition(place, is_system, place.load_settings().grace_s, user)
    installation.require_account(definition, user, os.environ.get("SUDO_USER", ""))
    plan = _plan(definition)
    if dry_run:
        click.echo(f"# {plan.path}")
        click.echo(plan.text, nl=False)
        for command in plan.install:
            click.echo(f"# {' '.join(command)}")
        return
    installation.install(plan, partial(installation.run_command, timeout_s=plan.timeout_s))
    click.echo(f"Installed {plan.path}; the peer runs.")
    if plan.hint:
        note(plan.hint)


@service.command()
@_system_option
@directory_option
@run_command
def uninstall(is_system: bool, directory: Path | None) -> None:
    """Stop the service and remove it; identity and settings of the peer stay."""
    from functools import partial

    from peer.service import installation

    plan = _plan(_definition(_place(directory, is_system), is_system))
    was_there = installation.uninstall(
        plan, partial(installation.run_command, timeout_s=plan.timeout_s))
    click.echo(f"Removed {plan.path}." if was_there else f"There was no {plan.path}.")


@service.command()
@_system_option
@directory_option
@json_option
@run_command
def status(is_system: bool, directory: Path | None, as_json: bool) -> None:
    """Say whether the service is installed and runs."""
    from peer.service import installation

    plan = _plan(_definition(_place(directory, is_system), is_system))
    is_installed, ran = plan.path.exists(), installation.run_command(plan.look)
    is_running = is_installed and ran.exit_code == 0
    if as_json:
        print_json("peer_service", {
            "path": str(plan.path), "installed": is_installed, "running": is_running,
            "manager": plan.look[0], "said": ran.said[:500]})
        return
    state = "installed and runs" if is_running else (
        "installed and does not run" if is_installed else "not installed")
    click.echo(f"The service is {state} ({plan.path}).")


def _place(directory: Path | None, is_system: bool) -> PeerDirectory:
    """The directory that is meant; without `--dir`, a machine has a peer of its own."""
    import os

    from peer.service.definition import SYSTEM_DIRECTORY
    from peer.settings import DIRECTORY_VARIABLE, PeerDirectory

    if directory is None and is_system and os.name == "posix" and not os.environ.get(
            DIRECTORY_VARIABLE):
        return PeerDirectory(Path(SYSTEM_DIRECTORY))
    return peer_directory(directory)


def _definition(
    place: PeerDirectory, is_system: bool, grace_s: float = 0.0, user: str = ""
) -> Definition:
    """The service. To take it away, neither peer nor grace has to be known."""
    from peer.service import installation
    from peer.settings import PeerDirectory

    return installation.definition_for(
        place.root, PeerDirectory.of_user().root, is_system, grace_s, user)


def _plan(definition: Definition) -> Plan:
    """What to tell this system."""
    import os
    import sys

    from peer.service import installation

    user_id = os.getuid() if hasattr(os, "getuid") else 0
    return installation.plan_for(definition, sys.platform, Path.home(), user_id)
