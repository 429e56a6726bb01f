"""`peer top`."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from homespun.cli.output import printable, run_command
from peer.cli.place import directory_option, peer_directory
from peer.cli.status import current_status, cut_in_words, ending_in_words

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

LOOK_S = 1.0


@click.command()
@click.option("--once", is_flag=True, help="Print one picture and end.")
@directory_option
@run_command
def top(once: bool, directory: Path | None) -> None:
    """Watch this machine's peer: state, device, work and traffic. Ctrl-C ends only the watching."""
    from rich.console import Console
    from rich.live import Live

    place = peer_directory(directory)
    console = Console()
    said = current_status(place)
    if once or not console.is_terminal:
        console.print(picture(said, None))
        return
    with Live(picture(said, None), console=console, screen=True, auto_refresh=False) as live:
        while True:
            time.sleep(LOOK_S)
            before, said = said, current_status(place)
            live.update(picture(said, before), refresh=True)


def picture(said: Mapping[str, Any], before: Mapping[str, Any] | None) -> RenderableType:
    """A status as a picture.

    Args:
        said: as `current_status` gives it.
        before: an earlier one, to tell rates by; None for none.
    """
    from rich.console import Group
    from rich.panel import Panel
    from rich.text import Text

    from peer.memory_use import MemoryUse, in_words

    if not said["running"]:
        first = f"{printable(said['name'])} is not running. Start it with: peer run"
        return Panel(Text("\n".join((first, *ending_in_words(said)))))
    lines = [Text(
        f"{printable(said['device'])} with {said['executor']}   {said['availability']}   "
        + ("connected" if said["connected"] else "cut off") + f"   {_device(said)}")]
    if cut := cut_in_words(said):
        lines.append(Text(f"  {cut}", style="red"))
    lines.append(Text(f"memory: {in_words(MemoryUse(**said['memory']))}"))
    lines += [Text(f"  {reason['text']}. {reason['change']}", style="yellow")
              for reason in said["reasons"]]
    return Panel(
        Group(*lines, _work(said, before), Text(_traffic(said, before))),
        title=f"{printable(said['name'])} ({said['peer_id']})")


def _device(said: Mapping[str, Any]) -> str:
    parts = [f"duty {said['duty']:.0%}"]
    for name, form in (("temperature_c", "{:.0f} °C"), ("power_w", "{:.0f} W")):
        value = said.get("readings", {}).get(name, {}).get("value")
        if value is not None:
            parts.append(form.format(value))
    return ", ".join(parts)


def _work(said: Mapping[str, Any], before: Mapping[str, Any] | None) -> Table:
    from rich.table import Table

    from peer.owner.asking import wait_in_words

    table = Table("job", "segment", "phase", "steps", "steps/s", "waits for", expand=True)
    for lease in said["leases"]:
        table.add_row(
            lease["job_id"], str(lease["segment"]), lease["phase"], str(lease["steps_done"]),
            _pace(lease, said, before), printable(wait_in_words(lease)) or "-")
    for standby in said["standbys"]:
        table.add_row(standby["job_id"], str(standby["segment"]),
                      f"standby, {standby['level'] or 'nothing yet'}", "", "", "")
    return table


def _pace(
    lease: Mapping[str, Any], said: Mapping[str, Any], before: Mapping[str, Any] | None
) -> str:
    past = [each for each in (before or {}).get("leases", ())
            if (each["job_id"], each["segment"]) == (lease["job_id"], lease["segment"])]
    seconds = _seconds(said, before)
    if not past or not seconds:
        return "-"
    return f"{(lease['steps_done'] - past[0]['steps_done']) / seconds:.2f}"


def _traffic(said: Mapping[str, Any], before: Mapping[str, Any] | None) -> str:
    from homespun.units import format_size

    now = said.get("traffic")
    if not now:
        return ""
    seconds, past = _seconds(said, before), (before or {}).get("traffic")
    rates = ""
    if past and seconds:
        up, down = ((now[name] - past[name]) / seconds for name in ("sent_bytes", "received_bytes"))
        rates = f", up {format_size(up)}/s, down {format_size(down)}/s"
    return (f"sent {format_size(now['sent_bytes'])}, received "
            f"{format_size(now['received_bytes'])}{rates}; this month beyond the LAN: "
            f"{format_size(now['month_bytes'])}")


def _seconds(said: Mapping[str, Any], before: Mapping[str, Any] | None) -> float:
    if not before or "updated_unix_ms" not in before:
        return 0.0
    return max(0.0, (said["updated_unix_ms"] - before["updated_unix_ms"]) / 1000)
