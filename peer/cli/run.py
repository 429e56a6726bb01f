"""`peer run`."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from homespun.cli.output import as_error, note, run_command
from peer.cli.place import directory_option, peer_directory
from peer.executor.installed import NAMES

if TYPE_CHECKING:
    from homespun.errors import HomespunError
    from peer.settings import PeerDirectory, PeerSettings


@click.command()
@click.option("--device", metavar="auto|cpu|cuda:N", help="Override what `peer join` was told.")
@click.option("--memory", metavar="SIZE", help="Override what `peer join` was told.")
@click.option("--threads", type=click.IntRange(1, 1_024), help="Override what was told at join.")
@click.option("--executor", type=click.Choice(NAMES), help="Override what was told at join.")
@click.option("--grace", metavar="DURATION",
              help="How long to hand over when told to stop. [default: 25s]")
@directory_option
@run_command
def run(
    device: str | None, memory: str | None, threads: int | None, executor: str | None,
    grace: str | None, directory: Path | None,
) -> None:
    """Lend this machine until interrupted.

    Measures the hardware first (some seconds; remembered), then connects to the broker and waits
    for work. A broker that goes away does not stop running work; the peer reconnects by itself.

    Ctrl-C or SIGTERM hands over what runs here and ends when nothing is held, after the grace at
    the latest; a second one ends at once.

    \b
    Example:
      peer run --memory 4GiB
    """
    from homespun.units import parse_duration_ms, parse_size

    place = peer_directory(directory)
    flags = {
        "device": device,
        "memory_bytes": parse_size(memory) if memory else None,
        "threads": threads,
        "executor": executor,
        "grace_s": parse_duration_ms(grace) / 1000 if grace else None,
    }
    overrides: dict[str, Any] = {
        name: value for name, value in flags.items() if value is not None}
    settings = replace(place.load_settings(), **overrides)
    with _end_noted(place):
        _serve(place, settings, overrides)


@contextlib.contextmanager
def _end_noted(place: PeerDirectory) -> Iterator[None]:
    """Leave for `peer status` why it ended: a ban or an old certificate is not "not running"."""
    import time

    from peer.status_note import note_end

    error: HomespunError | None = None
    try:
        yield
    except Exception as caught:
        error = as_error(caught)
        raise
    finally:
        note_end(place, error, time.time_ns() // 1_000_000)


def _serve(place: PeerDirectory, settings: PeerSettings, overrides: Mapping[str, Any]) -> None:
    from homespun.service import run_service
    from homespun.units import format_size
    from peer.daemon import Daemon, DaemonParts
    from peer.hardware import hardware_report

    note("Measuring the hardware...")
    hardware = hardware_report(
        settings.device, settings.threads, place.hardware, settings.executor)
    memory_bytes = settings.memory_bytes or hardware.memory_bytes
    note(
        f"{hardware.device_name} ({hardware.device}, {hardware.threads} threads, "
        f"{hardware.executor}): "
        f"{hardware.rates.matmul_flops_per_s / 1e9:.0f} GFLOP/s matmul, "
        f"{hardware.rates.attention_flops_per_s / 1e9:.0f} GFLOP/s attention, "
        f"{hardware.rates.memory_bytes_per_s / 1e9:.1f} GB/s; lends {format_size(memory_bytes)}."
    )
    parts = DaemonParts(
        settings=settings, directory=place, hardware=hardware, overrides=overrides)
    daemon = Daemon(parts)
    run_service(daemon.run(), daemon.leave)
