"""`peer set`, `peer get`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from homespun.cli.output import json_option, note, print_json, print_table, run_command
from peer.cli.place import directory_option, peer_directory

if TYPE_CHECKING:
    from peer.setting_list import Setting
    from peer.settings import PeerSettings

DEFAULT, FILE, FLAG = "default", "settings.json", "flag of peer run"


@click.command("set")
@click.argument("name")
@click.argument("value", nargs=-1, required=True)
@directory_option
@json_option
@run_command
def set_one(name: str, value: tuple[str, ...], directory: Path | None, as_json: bool) -> None:
    """Change one setting; all others stay. A running peer obeys at once.

    `peer get` lists the names. VALUE may be several words.

    \b
    Examples:
      peer set schedule 22:00-07:00 daily
      peer set upload 10Mbit/s
      peer set programs "blender, steam"
    """
    from peer.setting_list import find_setting
    from peer.status_note import daemon_of, read_status

    place, setting = peer_directory(directory), find_setting(name)
    before = place.load_settings()
    after = setting.changed(before, " ".join(value))
    place.save_settings(after)
    status = read_status(place)
    is_running = daemon_of(status) is not None
    flags = status.get("overrides", {}) if is_running else {}
    row = _row(setting, after, flags)
    if as_json:
        print_json("peer_setting", {**row, "before": setting.text_in(before)})
        return
    click.echo(f"{setting.name} is {setting.text_in(after)}; it was {setting.text_in(before)}.")
    if setting.field in flags:
        note("The running peer keeps what its flag said; this holds from its next start.")
    elif is_running and setting.needs_restart:
        note("The running peer goes on with the old value: stop it and start it again.")


@click.command("get")
@click.argument("name", required=False)
@directory_option
@json_option
@run_command
def get(name: str | None, directory: Path | None, as_json: bool) -> None:
    """Show settings, and where each value comes from; with NAME only that one's value."""
    from peer.setting_list import SETTINGS, find_setting
    from peer.status_note import daemon_of, read_status

    place = peer_directory(directory)
    settings = place.load_settings()
    wanted = SETTINGS if name is None else (find_setting(name),)
    status = read_status(place)
    flags = status.get("overrides", {}) if daemon_of(status) is not None else {}
    rows = [_row(setting, settings, flags) for setting in wanted]
    if as_json:
        print_json("peer_settings", {"settings": rows})
    elif name is not None:
        click.echo(rows[0]["value"])
    else:
        print_table(("setting", "value", "from", "meaning"), [
            (row["name"], row["value"], row["origin"], row["meaning"]) for row in rows])


def _row(
    setting: Setting, settings: PeerSettings, flags: Mapping[str, Any]
) -> dict[str, Any]:
    """A setting as it holds now: a flag of the running daemon goes before the file."""
    origin = DEFAULT if setting.is_default(settings) else FILE
    value = setting.text_in(settings)
    if not setting.is_limit and setting.field in flags:
        origin, value = FLAG, setting.kind.show(flags[setting.field])
    return {
        "name": setting.name, "value": value, "origin": origin,
        "form": setting.kind.form, "meaning": setting.meaning,
        "needs_restart": setting.needs_restart}
