"""`homespun plan MODEL`: plan a job for the live network or a saved fleet."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from dag.cluster import Cluster
from dag.placement import Infeasible, PlacementProblem
from homespun.cli.job_options import ask, described_job
from homespun.cli.output import note, print_json
from homespun.cli.session import connected
from homespun.errors import CATALOG, Code
from homespun.fleet import Fleet, fleet_of, read_fleet, write_fleet
from homespun.plan.job_picture import job_picture
from homespun.plan.job_plan import Alone, best_alone, plan_job
from homespun.plan.job_problem import JobPlanner
from homespun.plan.job_text import infeasible_value, plan_value, print_infeasible, print_plan
from homespun.plan.own_machine import own_machine

DEFAULT_BATCHES = 64
"""Batches of rows that an inference without data is planned for: the pipeline's steady flow."""
_PLANNED = {"steps": 1, "optimizer": "adamw", "lr": 1e-3}
"""What changes no plan, or what is usual, where the command line is silent."""


def plan_described_job(
    source: Path, options: Mapping[str, Any], *, fleet: Fleet, axes: Mapping[str, int],
    rows: int | None, as_json: bool, svg: Path | None,
) -> int:
    """Plan the job that a file and options describe, and print the plan.

    Returns:
        The exit code: 0, or that of CANNOT_PLACE.
    """
    given = {name: value for name, value in options.items() if value is not None}
    if source.suffix.lower() == ".onnx":
        given = _completed(source, given, axes, rows)
    elif axes or rows is not None:
        raise click.UsageError("--axis and --rows go with an ONNX file.")
    asked = JobPlanner(fleet.cluster, notify=None if as_json else note)
    problem = ask(asked, *described_job(source, given))
    began_s = time.perf_counter()
    plan = plan_job(problem)
    took_s = time.perf_counter() - began_s
    labels = {peer.resources.peer_id: peer.label for peer in fleet.peers}
    alone, own = best_alone(problem), _own(problem)
    if isinstance(plan, Infeasible):
        if as_json:
            print_json("job_plan", infeasible_value(plan, labels, alone, own))
        else:
            print_infeasible(plan, labels, alone, own)
        return CATALOG[Code.CANNOT_PLACE].exit_code
    if svg is not None:
        svg.write_text(job_picture(plan, labels), encoding="utf-8")
    if as_json:
        print_json("job_plan", plan_value(plan, labels, alone, own, took_s))
    else:
        _note_busy(fleet)
        print_plan(plan, labels, alone, own, took_s)
    return 0


def chosen_fleet(
    cluster: Path | None, address: str | None, credentials: Path | None, save: Path | None
) -> Fleet:
    """The saved fleet, or that of the live network; saved if that is asked for."""
    if cluster is not None:
        fleet = read_fleet(cluster)
    else:
        with connected(address, credentials) as client:
            fleet = fleet_of(client.connection)
    if save is not None:
        save.write_text(write_fleet(fleet), encoding="utf-8")
    return fleet


def parsed_axes(texts: Sequence[str]) -> dict[str, int]:
    """`name=extent` of each; raises click.UsageError for anything else."""
    axes = {}
    for text in texts:
        name, _, extent = text.partition("=")
        if not name or not extent.isascii() or not extent.isdigit() or int(extent) < 1:
            raise click.UsageError(f"--axis takes NAME=EXTENT, such as seq=128; not {text!r}.")
        axes[name] = int(extent)
    return axes


def _completed(
    source: Path, given: Mapping[str, Any], axes: Mapping[str, int], rows: int | None
) -> dict[str, Any]:
    """Options of an ONNX job with what a plan can do without."""
    completed = dict(given) if given.get("infer") else {**_PLANNED, **given}
    if "data" in completed:
        if axes or rows is not None:
            raise click.UsageError("--axis and --rows are for plans without --data.")
        return completed
    from homespun.column_binding import read_model, rows_of
    from homespun.plan.zero_columns import zero_columns
    from ir.frontends.imported import Imported

    loss = {name: completed[name] for name in ("loss_output", "loss", "target")
            if name in completed}
    model = read_model(source, **loss)
    assert not isinstance(model, Imported), "a file's axes are bound later"
    size = completed.get("batch_size") or rows_of(model)
    if size is None:
        raise click.UsageError("The model's rows are open: give --batch-size.")
    completed["batch_size"] = size
    completed["data"] = zero_columns(
        model, rows or (size * DEFAULT_BATCHES if completed.get("infer") else size), axes)
    return completed


def _own(problem: PlacementProblem) -> Alone | None:
    machine = own_machine()
    if machine is None:
        return None
    return best_alone(replace(problem, cluster=Cluster(peers=(machine,))))


def _note_busy(fleet: Fleet) -> None:
    if busy := sum(not peer.is_free for peer in fleet.peers):
        note(f"{busy} of {len(fleet.peers)} peers run a job now; the plan uses them as if free.")
