"""`peer rates`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from homespun.cli.output import json_option, note, print_json, print_table, run_command
from peer.cli.place import directory_option, peer_directory

if TYPE_CHECKING:
    from peer.hardware import HardwareReport


@click.command()
@click.option("--fresh", is_flag=True,
              help="Measure anew, and forget what tasks have taught. Stop `peer run` first.")
@directory_option
@json_option
@run_command
def rates(fresh: bool, directory: Path | None, as_json: bool) -> None:
    """Show how fast this machine is, and where the figures come from.

    They are measured at the first start and again when the hardware, its driver, the executor or
    its settings have changed; tasks that ran here have corrected them since.

    \b
    Example:
      peer rates --fresh
    """
    from homespun.directory_lock import locked
    from peer.hardware import hardware_report

    place = peer_directory(directory)
    settings = place.load_settings()
    if fresh:
        note("Measuring the hardware (about 10 s)...")
        # A running daemon would overwrite the file with what it knows, and disturb the measuring.
        with locked(place.root, "peer run"):
            report = hardware_report(
                settings.device, settings.threads, place.hardware, settings.executor, fresh=True)
    else:
        report = hardware_report(
            settings.device, settings.threads, place.hardware, settings.executor)
    if as_json:
        value = asdict(report)
        del value["support"]  # many pages, and no rate
        print_json("peer_rates", value)
        return
    _show(report)


def _show(report: HardwareReport) -> None:
    from homespun.units import format_time

    rates = report.rates
    click.echo(
        f"{report.device_name} ({report.device}, {report.threads} threads, {report.executor})")
    print_table(("dtype", "matmul", "attention", "convolution"), [
        (dtype, *(f"{speed / 1e9:.1f} GFLOP/s" for speed in speeds)) for dtype, *speeds in (
            ("float32", rates.matmul_flops_per_s, rates.attention_flops_per_s,
             rates.convolution_flops_per_s),
            *((dense.dtype, dense.matmul_flops_per_s, dense.attention_flops_per_s,
               dense.convolution_flops_per_s) for dense in rates.narrow))])
    click.echo(
        f"memory {rates.memory_bytes_per_s / 1e9:.1f} GB/s; starting an operator takes "
        f"{rates.forward_overhead_s * 1e6:.1f} us, its gradient "
        f"{rates.backward_overhead_s * 1e6:.1f} us")
    click.echo(f"measured {format_time(report.measured_unix_s * 1000)}")
    if not rates.corrections:
        click.echo("no task has corrected this yet")
        return
    click.echo(f"corrected by tasks, last {format_time(report.refined_unix_s * 1000)}:")
    print_table(("work", "direction", "real / predicted time"), [
        (found.op_class, found.direction, f"{found.factor:.2f}") for found in rates.corrections])
