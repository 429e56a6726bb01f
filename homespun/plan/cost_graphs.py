"""`homespun plan --graph --cluster`: plan a cost graph, and say, write and draw what came out."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from dag.mapping.problem import LATENCY, Mapping, MappingProblem, Objective
from dag.mapping.reading import MAX_BYTES, read_problem
from dag.portfolio.best_mapping import EFFORTS, Report, best_mapping
from dag.portfolio.writing import objective_name, plan_value
from homespun.cli.output import print_document, print_table, printable
from homespun.errors import CATALOG, Code, HomespunError


def plan_cost_graph(
    graph: Path, cluster: Path, *, objective: Objective, effort: str, as_json: bool,
    svg: Path | None,
) -> int:
    """Plan, and print the plan.

    Returns:
        The exit code: 0, or that of CANNOT_PLACE.

    Raises:
        HomespunError: INVALID_ARGUMENT, naming the field of a file that is wrong.
    """
    problem = read_problem(
        read_file(graph), read_file(cluster), objective,
        graph_source=str(graph), cluster_source=str(cluster))
    began_s = time.perf_counter()
    report = best_mapping(problem, effort=EFFORTS[effort])
    value = plan_value(problem, report, time.perf_counter() - began_s)
    if svg is not None and report.best is not None:
        from homespun.plan.graph_picture import graph_picture

        svg.write_text(graph_picture(problem, report.best), encoding="utf-8")
    if as_json:
        print_document(value)
    else:
        _print_text(problem, report, value)
    return 0 if report.best is not None else CATALOG[Code.CANNOT_PLACE].exit_code


def read_file(path: Path) -> bytes:
    """A file's bytes, if they are not too many."""
    if not path.is_file():
        raise HomespunError(
            Code.INVALID_ARGUMENT, f"{path} is no file. Give the path of a JSON file.", path=path)
    with path.open("rb") as file:
        data = file.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        raise HomespunError(
            Code.INVALID_ARGUMENT, f"{path} is larger than {MAX_BYTES} bytes, the most that is "
            "read. Coarsen the graph, or give default_link in place of equal links.", path=path)
    return data


def _print_text(problem: MappingProblem, report: Report, value: dict[str, Any]) -> None:
    import click

    from homespun.plan.svg import seconds

    what = objective_name(problem)
    if report.best is None or report.value_s is None:
        click.echo("No placement is possible.")
    else:
        click.echo(f"{what} {seconds(report.value_s)}, by {report.best.algorithm}, planned in "
                   f"{value['seconds_to_plan']:.2f} s")
        _print_devices(problem, report.best)
    if report.candidates:
        print_table(("algorithm", what, "why not"), [
            (candidate.algorithm,
             "-" if candidate.value_s is None else seconds(candidate.value_s),
             candidate.reason or "") for candidate in report.candidates])
    for line in value["explanation"]:
        click.echo(printable(line))


def _print_devices(problem: MappingProblem, best: Mapping) -> None:
    import numpy as np

    from dag.mapping import judge
    from homespun.plan.svg import seconds
    from homespun.units import format_size

    device, count = best.device, problem.devices.count
    nodes = np.bincount(device, minlength=count).tolist()
    peak = judge.peak_bytes(problem, device)
    load = judge.loads(problem, device) if problem.objective != LATENCY else np.bincount(
        device, judge.node_seconds(problem, device), minlength=count).astype(np.float64)
    print_table(("device", "nodes", "busy", "memory", "of"), [
        (name, nodes[number], seconds(float(load[number])), format_size(float(peak[number])),
         format_size(float(problem.devices.memory_bytes[number])))
        for number, name in enumerate(problem.devices.ids) if nodes[number]])
