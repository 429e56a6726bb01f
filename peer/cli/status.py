"""`peer status`."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from homespun.cli.output import (
    json_option,
    print_json,
    print_table,
    printable,
    run_command,
)
from peer.cli.place import directory_option, peer_directory

if TYPE_CHECKING:
    from peer.settings import PeerDirectory

FRESH_MS = 10_000
"""A running daemon renews its note every two seconds."""


@click.command()
@directory_option
@json_option
@run_command
def status(directory: Path | None, as_json: bool) -> None:
    """Show whether this machine's peer runs, what it may do and why, has and waits for."""
    said = current_status(peer_directory(directory))
    if as_json:
        print_json("peer_status", said)
        return
    if not said["running"]:
        click.echo(f"{said['name']} is not running. Start it with: peer run")
        for line in ending_in_words(said):
            click.echo(line)
        if said["availability"] != "open":
            click.echo(f"It will be {said['availability']} then.")
        return
    _show(said)


def current_status(place: PeerDirectory) -> dict[str, Any]:
    """What a daemon last said of itself, with whether it runs; without one, what is known.

    Raises:
        HomespunError: BAD_CONFIGURATION when the directory is no peer's.
    """
    from peer.core.events import Availability
    from peer.memory_use import computing, memory_use
    from peer.owner.wish_file import read_wish
    from peer.status_note import daemon_of, ending_of, read_status

    said: dict[str, Any] = {
        "name": place.load_settings().name, "leases": [], "standbys": [],
        "snapshots": {"count": 0, "bytes": 0}, "reasons": [], "without_effect": [], "duty": 1.0,
        "closes_unix_ms": 0, "readings": {}, **read_status(place)}
    daemon = daemon_of(said)
    said["running"] = daemon is not None
    said["memory"] = asdict(memory_use(computing(daemon).values(), str(said.get("gpu", ""))))
    if daemon is None:
        said["ended"] = ending_of(said)
        wish = read_wish(place)
        said["availability"] = (
            Availability.OPEN if wish.is_over(time.time()) else wish.availability)
    return said


def ending_in_words(said: Mapping[str, Any]) -> list[str]:
    """When and why the last daemon ended, and what to do; nothing where there has been none."""
    if not (ended := said.get("ended")):
        return []
    code = f" [{ended['code']}]" if ended["code"] else ""
    lines = [f"It ended {_ago(ended['at_unix_ms'])} ago: {ended['text']}{code}",
             f"  {ended['remedy']}"]
    return [printable(line) for line in lines if line.strip()]


def cut_in_words(said: Mapping[str, Any]) -> str:
    """Since when and why the broker is not there, and when it is tried again; "" if it is."""
    from homespun.units import format_duration

    found = said.get("connection")
    if said["connected"] or not found:
        return ""
    wait_ms = found["retry_unix_ms"] - time.time_ns() // 1_000_000
    again = f"in {format_duration(wait_ms / 1000)}" if wait_ms > 0 else "now"
    return printable(
        f"Without its broker for {_ago(found['since_unix_ms'])}: {found['reason']}. It tries again "
        f"{again}; what runs goes on.")


def _ago(unix_ms: int) -> str:
    from homespun.units import format_duration

    return format_duration(max(0.0, time.time() - unix_ms / 1000))


def _show(said: Mapping[str, Any]) -> None:
    from homespun.units import format_duration
    from peer.memory_use import MemoryUse, in_words

    state = "connected to" if said["connected"] else "cut off from"
    click.echo(f"{said['name']} ({said['peer_id']}) on {said['device']} with {said['executor']}, "
               f"{said['availability']}, {state} {said['broker']}")
    age_ms = time.time_ns() // 1_000_000 - said["updated_unix_ms"]
    if age_ms > FRESH_MS:
        click.echo(f"Its daemon has said nothing for {format_duration(age_ms / 1000)}.")
    if cut := cut_in_words(said):
        click.echo(cut)
    for reason in said["reasons"]:
        click.echo(f"Because {reason['text']}. What changes it: {reason['change']}")
    if said["without_effect"]:
        click.echo("Limits without effect here: " + "; ".join(said["without_effect"]))
    click.echo(f"Memory: {in_words(MemoryUse(**said['memory']))}.")
    _show_work(said)


def _show_work(said: Mapping[str, Any]) -> None:
    from homespun.units import format_size
    from peer.owner.asking import wait_in_words

    if not said["leases"]:
        click.echo("No work at present.")
        for why in said.get("no_work", ()):
            click.echo(f"  {_no_work(why)}")
    else:
        print_table(
            ("job", "segment", "phase", "steps", "waits for"),
            [(lease["job_id"], lease["segment"], lease["phase"], lease["steps_done"],
              wait_in_words(lease) or "-") for lease in said["leases"]])
    if said["standbys"]:
        click.echo("Ready to take over:")
        print_table(("job", "segment", "level", "problem"), [
            (standby["job_id"], standby["segment"], _level(standby), standby["problem"] or "-")
            for standby in said["standbys"]])
    if kept := said["snapshots"]["count"]:
        click.echo(f"Keeps {kept} snapshot{'s' if kept > 1 else ''}, "
                   f"{format_size(said['snapshots']['bytes'])}.")


def _no_work(why: Mapping[str, Any]) -> str:
    """Why the broker gives this peer nothing, and what would change that."""
    count = why["jobs"]
    jobs = f"{count} job{'s' if count > 1 else ''}, {why['rule']}: " if count else ""
    change = f" What would help: {why['change']}." if why["change"] else ""
    return printable(f"{jobs}{why['text']}{change}")


def _level(standby: Mapping[str, Any]) -> str:
    if standby["level"] == standby["asked_level"]:
        return str(standby["level"])
    return f"{standby['level'] or 'nothing yet'}, asked for {standby['asked_level']}"
