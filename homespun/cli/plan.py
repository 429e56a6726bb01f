"""`homespun plan`: what would run where, how fast, and why."""

from __future__ import annotations

from pathlib import Path

import click

from homespun.cli.output import json_option, run_command


@click.command()
@click.option("--graph", type=click.Path(path_type=Path, exists=True, dir_okay=False),
              metavar="FILE", help="A cost graph: JSON, homespun.cost-graph/1.")
@click.option("--cluster", type=click.Path(path_type=Path, exists=True, dir_okay=False),
              metavar="FILE", help="Devices and links of a cost graph: JSON, homespun.cluster/1.")
@click.option("--objective", type=click.Choice(["latency", "throughput"]), default="latency",
              show_default=True, help="Cost graphs only: the makespan of one pass, or the largest "
              "load of a device.")
@click.option("--effort", type=click.Choice(["quick", "normal", "thorough"]), default="normal",
              show_default=True, help="Cost graphs only: how long to search.")
@click.option("--svg", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE",
              help="Draw the plan into this file.")
@json_option
@run_command
def plan(
    graph: Path | None, cluster: Path | None, objective: str, effort: str, svg: Path | None,
    as_json: bool,
) -> None:
    """Say what would run where, how fast that is, and why. Nothing is run.

    Exit codes: 0 planned, 7 nothing feasible, 2 bad input.
    """
    if graph is None or cluster is None:
        raise click.UsageError("Give --graph and --cluster.")
    from dag.mapping.problem import LATENCY, THROUGHPUT
    from homespun.plan.cost_graphs import plan_cost_graph

    raise SystemExit(plan_cost_graph(
        graph, cluster, objective=LATENCY if objective == LATENCY else THROUGHPUT, effort=effort,
        as_json=as_json, svg=svg))
