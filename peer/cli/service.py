"""`peer service install|uninstall|status`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from homespun.cli.output import json_option, note, print_json, run_command
from peer.cli.place import directory_option, peer_directory

if TYPE_CHECKING:
    from peer.service.installation import Plan

_system_option: Callable[[Any], Any] = click.option(
    "--system", "is_system", is_flag=True,
    help="Start with the machine, for all users (needs root); else with your session.")


@click.group()
def service() -> None:
    """Run this peer as a service of the system: systemd, launchd or Windows' Task Scheduler."""


@service.command()
@_system_option
@click.option("--dry-run", is_flag=True, help="Show what would be written and run.")
@directory_option
@run_command
def install(is_system: bool, dry_run: bool, directory: Path | None) -> None:
    """Start the peer now and at every login, or with the machine.

    \b
    Examples:
      peer service install
      sudo peer service install --system --dir /var/lib/homespun-peer
    """
    from peer.service import installation

    plan = _plan(directory, is_system, peer_directory(directory).load_settings().grace_s)
    if dry_run:
        click.echo(f"# {plan.path}")
        click.echo(plan.text, nl=False)
        for command in plan.install:
            click.echo(f"# {' '.join(command)}")
        return
    installation.install(plan, installation.run_command)
    click.echo(f"Installed {plan.path}; the peer runs.")
    if plan.hint:
        note(plan.hint)


@service.command()
@_system_option
@directory_option
@run_command
def uninstall(is_system: bool, directory: Path | None) -> None:
    """Stop the service and remove it; identity and settings of the peer stay."""
    from peer.service import installation

    plan = _plan(directory, is_system)
    was_there = installation.uninstall(plan, installation.run_command)
    click.echo(f"Removed {plan.path}." if was_there else f"There was no {plan.path}.")


@service.command()
@_system_option
@directory_option
@json_option
@run_command
def status(is_system: bool, directory: Path | None, as_json: bool) -> None:
    """Say whether the service is installed and runs."""
    from peer.service import installation

    plan = _plan(directory, is_system)
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


def _plan(directory: Path | None, is_system: bool, grace_s: float = 0.0) -> Plan:
    """What to tell this system. To take a service away, neither peer nor grace has to be known."""
    import os
    import sys

    from peer.service import installation

    definition = installation.definition_for(
        peer_directory(directory).root, is_system, grace_s)
    user_id = os.getuid() if hasattr(os, "getuid") else 0
    return installation.plan_for(definition, sys.platform, Path.home(), user_id)
