"""`broker settings`: what the operator has decided."""

from __future__ import annotations

from pathlib import Path

import click

from broker.cli.place import broker_directory, directory_option
from homespun.cli.output import json_option, note, print_json, print_table, run_command


@click.command()
@directory_option
@json_option
@run_command
def settings(directory: Path | None, as_json: bool) -> None:
    """Show every setting with its value, as broker.json and the defaults say.

    Change them there; a running broker has those of its start.
    """
    from dataclasses import asdict

    from homespun.version import PROTOCOL_VERSION

    place = broker_directory(directory)
    chosen = asdict(place.load_settings())
    if as_json:
        print_json("settings", {"settings": chosen, "protocol_version": PROTOCOL_VERSION})
        return
    policy = chosen.pop("policy")
    print_table(("setting", "value"), [
        (name, "-" if value == "" else value) for name, value in
        (*chosen.items(), *((f"policy.{name}", value) for name, value in policy.items()))])
    note(f"From {place.settings}; a running broker has those of its start.")
