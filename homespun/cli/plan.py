"""`homespun plan`: what would run where, how fast, and why."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from homespun.cli.job_options import graph_options, training_options
from homespun.cli.output import json_option, run_command
from homespun.cli.session import broker_options

_FILE = click.Path(path_type=Path, exists=True, dir_okay=False)
_WRITTEN = click.Path(path_type=Path, dir_okay=False)


@click.command()
@click.argument("source", metavar="[MODEL.onnx|SPEC.py]", type=_FILE, required=False)
@click.option("--graph", type=_FILE, metavar="FILE",
              help="In place of a model: a cost graph, JSON, homespun.cost-graph/1.")
@click.option("--cluster", type=_FILE, metavar="FILE",
              help="Peers: a saved fleet; of a cost graph homespun.cluster/1. "
              "[default: the live network]")
@click.option("--objective", type=click.Choice(["latency", "throughput"]), default="latency",
              show_default=True, help="Cost graphs only: the makespan of one pass, or the largest "
              "load of a device.")
@click.option("--effort", type=click.Choice(["quick", "normal", "thorough"]), default="normal",
              show_default=True, help="Cost graphs only: how long to search.")
@click.option("--svg", type=_WRITTEN, metavar="FILE", help="Draw the plan into this file.")
@click.option("--save-fleet", type=_WRITTEN, metavar="FILE",
              help="Models only: keep the peers in this file.")
@click.option("--axis", "axes", multiple=True, metavar="NAME=EXTENT",
              help="ONNX without --data: extent of an open axis; again for each.")
@click.option("--rows", type=click.IntRange(1), help="ONNX without --data, --infer: how many "
              "rows. [default: 64 batches]")
@training_options
@graph_options
@broker_options
@json_option
@run_command
def plan(
    source: Path | None, graph: Path | None, cluster: Path | None, objective: str, effort: str,
    svg: Path | None, save_fleet: Path | None, axes: tuple[str, ...], rows: int | None,
    address: str | None, credentials: Path | None, as_json: bool, **options: Any,
) -> None:
    """Say what would run where, how fast that is, and why. Nothing is run.

    Of a model: as homespun submit would describe it, on the live network or with --cluster on a
    fleet that homespun fleet save has written. An ONNX file needs no --data: its rows and open
    axes come from --batch-size and --axis. Of a cost graph: --graph and --cluster (formats:
    docs/cost-graph.md); without a network.

    Exit codes: 0 planned, 7 nothing feasible, 2 bad input.
    """
    if (source is None) == (graph is None):
        raise click.UsageError("Give a model, or --graph and --cluster.")
    if graph is not None:
        _check_alone(cluster, axes, rows, save_fleet, options)
        assert cluster is not None
        from dag.mapping.problem import LATENCY, THROUGHPUT
        from homespun.plan.cost_graphs import plan_cost_graph

        raise SystemExit(plan_cost_graph(
            graph, cluster, objective=LATENCY if objective == LATENCY else THROUGHPUT,
            effort=effort, as_json=as_json, svg=svg))
    assert source is not None
    from homespun.plan.jobs import chosen_fleet, parsed_axes, plan_described_job

    raise SystemExit(plan_described_job(
        source, options, axes=parsed_axes(axes), rows=rows, as_json=as_json, svg=svg,
        fleet=chosen_fleet(cluster, address, credentials, save_fleet)))


def _check_alone(
    cluster: Path | None, axes: tuple[str, ...], rows: int | None, save_fleet: Path | None,
    options: dict[str, Any],
) -> None:
    """Options of models do not go with a cost graph."""
    if cluster is None:
        raise click.UsageError("--graph needs --cluster.")
    given = {**options, "axis": axes or None, "rows": rows, "save_fleet": save_fleet}
    if foreign := [name for name, value in given.items() if value is not None]:
        name = {"loss_output": "loss", "loss": "append_loss"}.get(foreign[0], foreign[0])
        raise click.UsageError(
            f"--{name.replace('_', '-')} is for models; it does not go with --graph.")
