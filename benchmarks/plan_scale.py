"""How long planning takes as graphs and clusters grow, and how good the plans are.

    python benchmarks/plan_scale.py [--nodes 1000 10000 100000] [--devices 10 100 1000]
                                    [--graphs transformer branches layered] [--effort 0.1]
                                    [--compile] [--no-replans] [--write FILE]

Graphs and clusters are made up (`big_graphs`). A row is one problem: seconds of one core from the
descriptions to arrays and to the plan, memory, and the plan beside the best single device (none
where no device holds the graph) and a lower bound that knows no transfers. The planner itself has
every plan checked (`dag.mapping.verify`); that is part of the time. Compiled code is warmed up
first; `--compile` also measures that, without its cache. A second table replans 1,000 nodes on 50
devices after a device left, joined, or its links became slower. `--write` also writes FILE.json and
FILE.svg.

Fails (exit status 1) if 10,000 nodes on 100 devices take 5 s, 100,000 on 1,000 take 60 s, a replan
takes 1 s, or its mapping is unsound.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import asdict, dataclass, replace
from itertools import product
from math import log10
from pathlib import Path

import numpy as np
import psutil

if not __package__:  # run as a file: its neighbours are found from the checkout
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.big_graphs import GRAPHS, cluster
from dag.mapping.build import cost_graph, devices
from dag.mapping.candidates import restricted, widened, work_table
from dag.mapping.problem import LATENCY, THROUGHPUT, Mapping, MappingProblem, Objective
from dag.mapping.refine import exit_rank
from dag.mapping.verify import verify
from dag.portfolio.best_mapping import best_mapping
from dag.portfolio.large import single_seconds
from dag.replanning.replan import Replan, replan
from dag.replanning.state_moves import NOWHERE, Running

OBJECTIVES: tuple[Objective, ...] = (LATENCY, THROUGHPUT)
GOALS = {(10_000, 100): 5.0, (100_000, 1_000): 60.0}
REPLANNED = (1_000, 50)
REPLAN_GOAL_S = 1.0
HORIZON_S = 600.0


@dataclass(frozen=True)
class Row:
    """One planned problem; `peak_mib` is what the process grew by while planning."""

    graph: str
    nodes: int
    edges: int
    devices: int
    objective: str
    channels: str
    build_s: float
    plan_s: float
    peak_mib: float
    value_s: float
    single_s: float | None
    bound_s: float
    used: int
    algorithm: str


@dataclass(frozen=True)
class Change:
    """One replanned mapping."""

    graph: str
    objective: str
    channels: str
    event: str
    replan_s: float
    stay_s: float
    value_s: float
    moves: int
    move_s: float
    payback_s: float
    defects: int


class Peak:
    """Largest resident memory of this process while a block runs, in bytes."""

    def __enter__(self) -> Peak:
        self._done = threading.Event()
        self.before = self.bytes = psutil.Process().memory_info().rss
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._done.wait(0.02):
            self.bytes = max(self.bytes, psutil.Process().memory_info().rss)


def problem_of(
    graph: str, nodes: int, count: int, objective: Objective, *, serial: bool
) -> tuple[MappingProblem, float]:
    """A problem, and the processor seconds from descriptions to arrays."""
    described, edges = GRAPHS[graph](nodes, 1)
    held = sum(node.persistent_bytes + node.output_bytes for node in described)
    on, default, links = cluster(count, held, 1)
    began = time.process_time()
    made, _ = cost_graph(described, edges, on)
    problem = MappingProblem(
        graph=made, objective=objective, devices=devices(on, default, links, serial=serial))
    return problem, time.process_time() - began


def bound_seconds(problem: MappingProblem) -> float:
    """No mapping is faster: work shared by all, or the longest path on the fastest device."""
    work, speed = work_table(problem)[:, 0], problem.devices.speed
    shared = float(work.sum() / speed.sum())
    if problem.objective != LATENCY:
        return max(shared, float(work.max() / speed.max()))
    fastest = np.full(problem.graph.nodes, int(np.argmax(speed)))
    return max(shared, float(exit_rank(problem, fastest).max()))


def planned(
    graph: str, nodes: int, count: int, objective: Objective, effort: float, *, serial: bool
) -> Row:
    problem, build_s = problem_of(graph, nodes, count, objective, serial=serial)
    with Peak() as peak:
        began = time.process_time()
        report = best_mapping(problem, effort)
        plan_s = time.process_time() - began
    single_s = float(single_seconds(problem).min())
    best = report.best
    assert best is not None
    assert report.value_s is not None
    return Row(
        graph, nodes, problem.graph.edges, count, objective, "serial" if serial else "overlap",
        build_s, plan_s, (peak.bytes - peak.before) / 2**20, report.value_s,
        single_s if np.isfinite(single_s) else None, bound_seconds(problem),
        len(np.unique(best.device)), best.algorithm)


def changes(
    graph: str, objective: Objective, effort: float, *, serial: bool
) -> list[Change]:
    """A device that carries work leaves, joins, or is reached twenty times more slowly."""
    problem, _ = problem_of(graph, *REPLANNED, objective, serial=serial)
    whole = best_mapping(problem, effort).best
    assert whole is not None
    device = int(np.bincount(whole.device).argmax())
    others = np.setdiff1d(np.arange(problem.devices.count), [device])
    fewer = restricted(problem, others)
    smaller = best_mapping(fewer, effort).best
    assert smaller is not None
    without = widened(smaller, others)
    place = np.full(problem.devices.count, NOWHERE)
    place[others] = np.arange(len(others))
    factor = np.ones_like(problem.devices.latency_s)
    factor[device, :] = factor[:, device] = 20.0
    slow = replace(problem, devices=replace(
        problem.devices, latency_s=problem.devices.latency_s * factor,
        bandwidth_bytes_per_s=problem.devices.bandwidth_bytes_per_s / factor))
    cases = {
        "left": (fewer, replace(whole, device=place[whole.device])),
        "joined": (problem, without), "slower links": (slow, whole)}
    return [_change(graph, event, then, mapping)
            for event, (then, mapping) in cases.items()]


def _change(
    graph: str, event: str, then: MappingProblem, mapping: Mapping
) -> Change:
    running = Running(
        device=mapping.device, state_at=mapping.device,
        state_bytes=then.graph.persistent_bytes, start_s=mapping.start_s)
    began = time.process_time()
    answer = replan(then, running, HORIZON_S)
    replan_s = time.process_time() - began
    assert isinstance(answer, Replan)
    return Change(
        graph, then.objective, "serial" if then.devices.serial else "overlap", event, replan_s,
        answer.stay_s, answer.value_s, len(answer.moves), answer.move_s,
        answer.payback_s, len(verify(answer.mapping, then)))


def compile_seconds() -> float:
    """Wall seconds until a new process without compiled code has planned small problems."""
    code = "from benchmarks.plan_scale import warm_up; warm_up()"
    with tempfile.TemporaryDirectory() as folder:
        began = time.monotonic()
        subprocess.run(
            [sys.executable, "-c", code], check=True, cwd=Path(__file__).resolve().parent.parent,
            env={**os.environ, "NUMBA_CACHE_DIR": folder})
        return time.monotonic() - began


def warm_up() -> None:
    """Call all compiled code once."""
    for objective, serial in product(OBJECTIVES, (False, True)):
        problem, _ = problem_of("branches", 4_000, 10, objective, serial=serial)
        best_mapping(problem, 0.001)
        changes("branches", objective, 0.001, serial=serial)


def curves(rows: list[Row]) -> str:
    """Seconds over nodes, both logarithmic, a line for each number of devices, as SVG."""
    width, height, left, bottom = 560, 380, 60, 50
    low, high = 0.01, 100.0
    colors = ("#0072b2", "#e69f00", "#009e73", "#cc79a7")

    def x(nodes: float) -> float:
        span = log10(max(row.nodes for row in rows) / min(row.nodes for row in rows)) or 1.0
        return left + (width - left - 110) * log10(nodes / min(row.nodes for row in rows)) / span

    def y(seconds: float) -> float:
        share = log10(max(seconds, low) / low) / log10(high / low)
        return height - bottom - (height - bottom - 20) * min(1.0, share)

    drawn = [f'<text x="{left}" y="14">Seconds to plan (largest of all problems of a size)</text>',
             f'<text x="{(width - 60) / 2}" y="{height - 8}">nodes</text>']
    drawn += [
        f'<line x1="{left}" x2="{width - 100}" y1="{y(10.0**power):.1f}" '
        f'y2="{y(10.0**power):.1f}" stroke="#ddd"/>'
        f'<text x="8" y="{y(10.0**power) + 4:.1f}">{10.0**power:g} s</text>'
        for power in range(-2, 3)]
    drawn += [f'<text x="{x(nodes) - 18:.1f}" y="{height - 28}">{nodes:,}</text>'
              for nodes in sorted({row.nodes for row in rows})]
    for color, count in zip(colors, sorted({row.devices for row in rows}), strict=False):
        of_size: dict[int, float] = {}
        for row in rows:
            if row.devices == count:
                of_size[row.nodes] = max(of_size.get(row.nodes, 0.0), row.build_s + row.plan_s)
        points = " ".join(f"{x(n):.1f},{y(s):.1f}" for n, s in sorted(of_size.items()))
        end = max(of_size)
        drawn.append(f'<polyline points="{points}" fill="none" stroke="{color}" stroke-width="2"/>'
                     f'<text x="{x(end) + 6:.1f}" y="{y(of_size[end]) + 4:.1f}" fill="{color}">'
                     f"{count:,} devices</text>")
    return (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
            f'font-family="sans-serif" font-size="12"><rect width="100%" height="100%" '
            f'fill="white"/>{"".join(drawn)}</svg>\n')


def failures(rows: list[Row], replanned: list[Change]) -> list[str]:
    missed = [
        f"{row.graph} {row.nodes} x {row.devices} {row.objective} {row.channels}: "
        f"{row.build_s + row.plan_s:.1f} s"
        for row in rows if row.build_s + row.plan_s >= GOALS.get((row.nodes, row.devices), 1e9)]
    missed += [f"replan {change.graph} {change.objective} {change.channels} {change.event}: "
               f"{change.replan_s:.2f} s" for change in replanned
               if change.replan_s >= REPLAN_GOAL_S]
    return missed + [f"unsound: {change}" for change in replanned if change.defects]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nodes", type=int, nargs="*", default=[1_000, 10_000, 100_000])
    parser.add_argument("--devices", type=int, nargs="*", default=[10, 100, 1_000])
    parser.add_argument("--graphs", nargs="*", default=list(GRAPHS), choices=list(GRAPHS))
    parser.add_argument("--effort", type=float, default=0.1)
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--replans", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--write", type=Path)
    given = parser.parse_args()
    compile_s = compile_seconds() if given.compile else None
    warm_up()
    rows, replanned = [], []
    print(f"{'graph':12s} {'nodes':>7s} {'devices':>7s} {'objective':10s} {'channels':8s} "
          f"{'build s':>8s} {'plan s':>7s} {'MiB':>6s} {'value s':>8s} {'single':>8s} "
          f"{'bound':>8s} {'used':>5s}  algorithm")
    for graph, nodes, count, objective, serial in product(
            given.graphs, given.nodes, given.devices, OBJECTIVES, (False, True)):
        row = planned(graph, nodes, count, objective, given.effort, serial=serial)
        rows.append(row)
        single = "-" if row.single_s is None else f"{row.single_s:.3f}"
        print(f"{graph:12s} {nodes:7d} {count:7d} {objective:10s} {row.channels:8s} "
              f"{row.build_s:8.2f} {row.plan_s:7.2f} {row.peak_mib:6.0f} {row.value_s:8.3f} "
              f"{single:>8s} {row.bound_s:8.3f} {row.used:5d}  {row.algorithm}", flush=True)
    changed = given.graphs if given.replans else []
    for graph, objective, serial in product(changed, OBJECTIVES, (False, True)):
        for change in changes(graph, objective, given.effort, serial=serial):
            replanned.append(change)
            print(f"{graph:12s} {objective:10s} {change.channels:8s} {change.event:12s} replan "
                  f"{change.replan_s:.2f} s: {change.stay_s:.3f} -> {change.value_s:.3f} s a pass, "
                  f"{change.moves} moves in {change.move_s:.1f} s, pays after "
                  f"{change.payback_s:.0f} s", flush=True)
    missed = failures(rows, replanned)
    print(*missed, sep="\n")
    if given.write is not None:
        found = {
            "machine": platform.processor() or platform.machine(), "cores": os.cpu_count(),
            "load": psutil.getloadavg()[0], "python": platform.python_version(),
            "effort": given.effort, "compile_s": compile_s, "missed": missed,
            "rows": [asdict(row) for row in rows],
            "replanned": [asdict(change) for change in replanned]}
        given.write.with_suffix(".json").write_text(json.dumps(found, indent=1) + "\n")
        if rows:
            given.write.with_suffix(".svg").write_text(curves(rows))
    sys.exit(bool(missed))


if __name__ == "__main__":
    main()
