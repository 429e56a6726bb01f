"""`peer check`, `peer netcheck`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from homespun.cli.output import json_option, print_json, run_command
from peer.cli.place import directory_option, peer_directory

if TYPE_CHECKING:
    from peer.preflight.finding import Finding

FAILED = 1
_MARKS = {"ok": "ok  ", "warn": "warn", "fail": "FAIL"}


@click.command()
@directory_option
@json_option
@run_command
def check(directory: Path | None, as_json: bool) -> None:
    """Check everything that lending this machine needs; exit code 1 if something is missing.

    Each line says what is and what is required, and what to do where that differs.

    \b
    Example:
      peer check --json
    """
    from peer.preflight.finding import found_by
    from peer.preflight.machine_checks import MachineChecks
    from peer.status_note import daemon_of, read_status

    place = peer_directory(directory)
    settings = place.load_settings()
    is_running = daemon_of(read_status(place)) is not None
    _report("peer_check", found_by(MachineChecks(place, settings, is_running).all()), as_json)


@click.command()
@directory_option
@json_option
@run_command
def netcheck(directory: Path | None, as_json: bool) -> None:
    """Show how this machine reaches the broker, and whether other peers can reach it."""
    from homespun.identity import directory as identity_directory
    from peer.preflight.network import findings, gather
    from peer.status_note import daemon_of, read_status

    place = peer_directory(directory)
    place.load_settings()
    credentials, status = identity_directory.load(place.identity), read_status(place)
    facts = gather(credentials, status, daemon_of(status) is not None)
    _report("peer_netcheck", list(findings(facts)), as_json)


def _report(schema: str, found: list[Finding], as_json: bool) -> None:
    is_failed = any(each.verdict == "fail" for each in found)
    if as_json:
        print_json(schema, {
            "passed": not is_failed, "findings": [asdict(each) for each in found]})
    else:
        width = max(len(each.id) for each in found)
        for each in found:
            click.echo(f"{_MARKS[each.verdict]}  {each.id.ljust(width)}  {each.actual} "
                       f"(required: {each.required})")
            if each.remedy:
                click.echo(f"{' ' * (width + 8)}{each.remedy}")
    if is_failed:
        raise SystemExit(FAILED)
