"""`peer earnings`."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from homespun.cli.output import json_option, print_json, print_table, run_command
from peer.cli.place import directory_option, peer_directory

if TYPE_CHECKING:
    from peer.ledger import Given

JOULES_PER_KWH = 3_600_000


@click.command()
@click.option("--since", default="30d", show_default=True, metavar="DURATION|DATE",
              help="Count from so long ago, or from a day such as 2026-11-01.")
@click.option("--by", type=click.Choice(["day", "job"]), default="day", show_default=True,
              help="One line for each.")
@click.option("--csv", "as_csv", is_flag=True, help="Print every day and job as CSV.")
@directory_option
@json_option
@run_command
def earnings(
    since: str, by: str, as_csv: bool, directory: Path | None, as_json: bool
) -> None:
    """Show what this machine has given: tasks, operations, device time, energy, traffic.

    Operations are those of the tasks that ended here, as the operators' costs say. Energy is the
    device's while it worked; 0 where it cannot be measured.

    \b
    Examples:
      peer earnings --by job
      peer earnings --since 2026-11-01 --csv > november.csv
    """
    from peer.ledger import Ledger

    place = peer_directory(directory)
    place.load_settings()
    day = _first_day(since)
    given = Ledger(place.ledger).since(day)
    if as_json:
        print_json("peer_earnings", {
            "since": day, "total": _total(given), "entries": [asdict(one) for one in given]})
    elif as_csv:
        _print_csv(given)
    elif not given:
        click.echo(f"Nothing was given since {day}.")
    else:
        _show(given, by)


def _first_day(since: str) -> str:
    import time
    from datetime import date, datetime

    from homespun.units import parse_duration_ms

    try:
        return date.fromisoformat(since).isoformat()
    except ValueError:
        began_s = max(0.0, time.time() - parse_duration_ms(since) / 1000)
        return datetime.fromtimestamp(began_s).date().isoformat()


def _total(given: Iterable[Given]) -> dict[str, float]:
    rows = [asdict(one) for one in given]
    names = ("tasks", "flops", "device_s", "energy_j", "sent_bytes", "received_bytes", "far_bytes")
    return {name: sum(row[name] for row in rows) for name in names}


def _print_csv(given: Iterable[Given]) -> None:
    import csv
    import sys
    from dataclasses import fields

    from peer.ledger import Given

    writer = csv.DictWriter(sys.stdout, [field.name for field in fields(Given)],
                            lineterminator="\n")
    writer.writeheader()
    writer.writerows(asdict(one) for one in given)


def _show(given: list[Given], by: str) -> None:
    key: Callable[[Given], str] = (
        (lambda one: one.day) if by == "day" else (lambda one: one.job_id or "no job"))
    groups: dict[str, list[Given]] = {}
    for one in given:
        groups.setdefault(key(one), []).append(one)
    rows = [(name, *_cells(_total(group))) for name, group in groups.items()]
    print_table(
        (by, "tasks", "TFLOP", "device hours", "kWh", "sent", "received", "beyond the LAN"),
        [*rows, ("total", *_cells(_total(given)))])


def _cells(sums: dict[str, float]) -> tuple[str, ...]:
    from homespun.units import format_size

    return (
        f"{sums['tasks']:.0f}", f"{sums['flops'] / 1e12:.3g}", f"{sums['device_s'] / 3600:.2f}",
        f"{sums['energy_j'] / JOULES_PER_KWH:.3f}" if sums["energy_j"] else "-",
        format_size(sums["sent_bytes"]), format_size(sums["received_bytes"]),
        format_size(sums["far_bytes"]))
