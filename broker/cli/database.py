"""`broker db`: copy the journal while the broker runs, and put a copy back."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from broker.cli.operator_call import stream_operator
from broker.cli.place import broker_directory, directory_option, reason_option
from homespun.cli.output import json_option, note, print_json, run_command

if TYPE_CHECKING:
    from broker.journal_copy import Seal
    from broker.settings import BrokerDirectory

COPY_TIMEOUT_S = 3_600.0
NOT_IN_IT = ("ca/ (the network's keys)", "operator/ (your identity)", "broker.json",
             "blobs/ (graphs, weights, datasets, results)")
"""What a broker's directory has besides its journal."""

file_argument = click.argument(
    "file", metavar="FILE", type=click.Path(path_type=Path, dir_okay=False))


@click.group("db")
def database() -> None:
    """Copy the broker's journal, and restore it."""


@database.command()
@file_argument
@directory_option
@json_option
@run_command
def backup(file: Path, directory: Path | None, as_json: bool) -> None:
    """Write a verified copy of the journal to FILE, whether or not the broker runs.

    The journal is everything that the broker knows: members, keys (only hashes of their secrets),
    jobs, what runs where, and what was done. It holds no private key and no tensor: docs/backup.md
    says what else to keep, and where.

    \b
    Example:
      broker db backup /mnt/usb/homespun-2026-11-27.journal
    """
    from homespun.errors import Code, HomespunError

    place = broker_directory(directory)
    if file.exists():
        raise HomespunError(Code.CONFLICT, f"{file} exists already: choose another name.")
    found = _copy(place, directory, file)
    if as_json:
        print_json("journal_copy", _value(file, found))
        return
    _say(file, found)
    note(f"Not in it: {'; '.join(NOT_IN_IT)}. See docs/backup.md.")


@database.command()
@file_argument
@click.option("--replace", is_flag=True,
              help="Let it take the place of a journal with events, which is kept beside it.")
@click.option("--dry-run", is_flag=True, help="Verify FILE, and change nothing.")
@reason_option
@directory_option
@json_option
@run_command
def restore(
    file: Path, replace: bool, dry_run: bool, reason: str, directory: Path | None, as_json: bool,
) -> None:
    """Put a copy of the journal back. The broker must not run.

    Before anything is replaced, FILE is verified: its structure, the digest of its events, the
    network that it is of, and that all events can be applied. Afterwards no join key of the copy
    works any more, and jobs that ran go on at their last snapshot.

    \b
    Example:
      broker db restore /mnt/usb/homespun-2026-11-27.journal --dry-run
      broker db restore /mnt/usb/homespun-2026-11-27.journal --replace -m "the disk died"
    """
    import time

    from broker.core.events import JournalRestored
    from broker.journal_copy import restore as put_back
    from broker.journal_copy import verify
    from homespun.identity import directory as identity_directory

    place = broker_directory(directory)
    place.load_settings()
    operator = identity_directory.load(place.operator)
    event = JournalRestored(
        at_ns=time.time_ns(), by=operator.id, reason=reason,
        copied_at_ns=1_000_000 * verify(file).copied_unix_ms)
    done = put_back(
        file, place, operator.network_id, event, replace=replace, dry_run=dry_run)
    if as_json:
        print_json("journal_restored", {
            **_value(file, done.seal), "is_replaced": not dry_run,
            "unfinished_jobs": list(done.unfinished_jobs),
            "kept": str(done.kept) if done.kept else ""})
        return
    _say(file, done.seal)
    click.echo(f"{len(done.unfinished_jobs)} jobs are unfinished.")
    if dry_run:
        note("Nothing was changed: this was a dry run.")
        return
    note("It is the broker's journal now" + (
        f"; the one of before is {done.kept}." if done.kept else "."))
    note(f"Join keys of before are revoked. Next: broker serve {place.root}")


def _copy(place: BrokerDirectory, given: Path | None, file: Path) -> Seal:
    """Have a broker that runs send a copy, or make one of a journal that nobody has open."""
    from broker.journal_copy import verify
    from homespun.durable import disk_full_named, sync, sync_directory
    from homespun.errors import Code, HomespunError

    partial = file.with_name(f".{file.name}.partial")
    partial.unlink(missing_ok=True)
    try:
        partial.touch(mode=0o600)
        with disk_full_named("copy's", file.parent):
            try:
                _receive(given, partial)
            except HomespunError as error:
                if error.code is not Code.UNREACHABLE:
                    raise
                _copy_at_rest(place, partial)
        sync(partial)
        found = verify(partial)
        partial.rename(file)
        sync_directory(file.parent)
        return found
    finally:
        partial.unlink(missing_ok=True)


def _receive(given: Path | None, partial: Path) -> None:
    from homespun.v1 import operator_pb2

    request = operator_pb2.CopyJournalRequest()
    with partial.open("r+b") as out:
        for part in stream_operator(given, "CopyJournal", request, timeout_s=COPY_TIMEOUT_S):
            out.write(part.data)


def _copy_at_rest(place: BrokerDirectory, partial: Path) -> None:
    """Copy a journal whose broker does not run: opening it locks it, and fails if one does."""
    import time

    from broker.journal import Journal
    from broker.journal_copy import seal
    from homespun.errors import Code, HomespunError
    from homespun.identity import directory as identity_directory

    if not place.journal.exists():
        raise HomespunError(Code.NOT_FOUND, f"{place.root} has no journal yet.")
    journal = Journal.open(place.journal)
    try:
        journal.copy_to(partial)
    finally:
        journal.close()
    seal(partial, identity_directory.load(place.operator).network_id, time.time_ns() // 1_000_000)


def _value(file: Path, found: Seal) -> dict[str, Any]:
    return {
        "file": str(file), "size_bytes": file.stat().st_size, "network_id": found.network_id,
        "copied_unix_ms": found.copied_unix_ms, "events": found.events, "digest": found.digest}


def _say(file: Path, found: Seal) -> None:
    from homespun.units import format_size, format_time

    size = format_size(file.stat().st_size)
    click.echo(f"{file}: {found.events} events of network {found.network_id} up to "
               f"{format_time(found.copied_unix_ms)}, {size}, verified.")
