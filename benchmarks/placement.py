"""Which mapping each placement algorithm finds for published networks, and how good it is.

    python benchmarks/placement.py [--profiles DIR] [--quick] [--json] [--effort 1.0]
                                   [--milp-seconds 10] [--milp-nodes 100] [--coarse 10]
                                   [--tables networks coarse]

Networks: the profiles of PipeDream's repository, read as `placement_cases` says. Fleets: 4 GPUs in
one machine, 4 machines of a cluster, 8 homes. Channels overlap or are serial. Latency is the time
of one pass forward; throughput the largest load of a device, forward and backward.

Every value is measured by one judge (`dag.mapping.judge`) on a mapping that an independent check
(`dag.mapping.verify`) finds sound. *bound* is what no mapping can beat: of relaxations, and of the
exact search where it ended early. *optimum* is of the exact search where it finished, or of ours
where it is within 0.01 % of the bound. A second
table has the same for the networks coarsened to few nodes, where it finishes more often; there the
optimum is of the coarse graph. Over serial channels it may choose the order of transfers, which the
judge does not, so for latency no mapping may reach it.

Fails (exit status 1) if ours is worse than any other on any row or more than 5 % above an optimum,
or if any mapping is unsound.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from statistics import geometric_mean, median

import numpy as np

if not __package__:  # run as a file: its neighbours are found from the checkout
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.placement_cases import SOURCE, Case, Profile, cases, fleets, profiles
from dag.mapping.judge import value
from dag.mapping.problem import LATENCY, Mapping, MappingProblem, Unmapped
from dag.mapping.verify import verify
from dag.placers.bounds import lower_bound
from dag.placers.etf import m_etf
from dag.placers.exact import optimum
from dag.placers.heft import heft
from dag.placers.pipedream import pipedream
from dag.placers.sct import m_sct
from dag.placers.topo import m_topo
from dag.portfolio.best_mapping import best_mapping
from dag.portfolio.large import best_single

Placer = Callable[[MappingProblem], Mapping | Unmapped]
BAECHI: dict[str, Placer] = {"m-TOPO": m_topo, "m-ETF": m_etf, "m-SCT": m_sct}
PUBLISHED: dict[str, Placer] = {**BAECHI, "HEFT": heft, "PipeDream": pipedream}
COLUMNS = (*PUBLISHED, "single", "ours", "bound", "optimum")
PROFILES = Path(__file__).resolve().parent.parent.parent / "shared" / "data" / "placement"
TABLES = ("networks", "coarse")
QUICK = ("alexnet", "vgg16", "gnmt")
LINEAR_CELLS = 60_000
MOST_TRANSFERS = 60
"""Serial transfers that the exact search for latency may have to put in order."""
ROUNDING, NEAR = 1.0 + 1e-9, 1.05
GAP = 1e-4
PROVEN = 1.0 + GAP
"""What is this near to a bound is taken for optimal."""


@dataclass(kw_only=True)
class Row:
    """One network on one fleet.

    Attributes:
        value_s: by column; None where nothing was found.
        seconds: to plan, by algorithm.
        algorithm: what ours ended with.
        complaints: what must not be.
    """

    network: str
    nodes: int
    fleet: str
    channels: str
    objective: str
    value_s: dict[str, float | None] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    algorithm: str = ""
    complaints: list[str] = field(default_factory=list)


def main() -> int:
    given = parsed()
    if not given.profiles.is_dir():
        print(f"{given.profiles} is no folder; give --profiles a copy of {SOURCE}")
        return 2
    networks = profiles(given.profiles)
    if given.quick:
        networks = [profile for profile in networks if profile.name in QUICK]
    print(f"profiles: {SOURCE}; {len(networks)} networks; effort {given.effort:g}; exact search "
          f"{given.milp_seconds:g} s; Python {platform.python_version()}, {platform.machine()}")
    for fleet in fleets():
        print(f"{fleet.name}: {fleet.text}")
    warm_up(networks[0])
    whole, coarse = [], []
    if "networks" in given.tables:
        whole = table("networks", networks, None, given)
    if "coarse" in given.tables:
        coarse = table(f"coarsened to {given.coarse} nodes", networks, given.coarse, given)
    gains = baechi_gains(whole)
    print_gains(gains)
    print_summary([*whole, *coarse])
    complaints = [text for row in (*whole, *coarse) for text in row.complaints]
    print("\n".join(complaints) or
          "checked: every mapping is sound, ours is never worse, and within 5 % of every optimum")
    if given.json:
        print(json.dumps({
            "source": SOURCE, "effort": given.effort, "milp_seconds": given.milp_seconds,
            "fleets": {fleet.name: fleet.text for fleet in fleets()},
            "rows": [asdict(row) for row in whole], "coarse_rows": [asdict(row) for row in coarse],
            "gain_over_best_baechi": gains}))
    return 1 if complaints else 0


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--profiles", type=Path, default=PROFILES, help=SOURCE)
    parser.add_argument("--quick", action="store_true", help=", ".join(QUICK))
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--effort", type=float, default=1.0, help="of our local search")
    parser.add_argument("--milp-seconds", type=float, default=10.0, help="0: no exact search")
    parser.add_argument("--milp-nodes", type=int, default=100, help="largest graph for it")
    parser.add_argument("--tables", nargs="+", choices=TABLES, default=TABLES)
    parser.add_argument("--coarse", type=int, default=10, help="nodes of the second table")
    return parser.parse_args()


def warm_up(profile: Profile) -> None:
    """Compile everything once, so that the times are of planning."""
    for case in cases(profile):
        for placer in PUBLISHED.values():
            placer(case.problem)
        best_mapping(case.problem, 0.01)


def table(
    title: str, networks: Sequence[Profile], nodes: int | None, given: argparse.Namespace
) -> list[Row]:
    """Measure and print one row after the other."""
    print(f"\n{title}; milliseconds; * is best; s: seconds that ours took")
    print(f"{'network':14s} {'nodes':>5s} {'fleet':8s} {'channels':8s} {'objective':10s} "
          + " ".join(f"{column:>10s}" for column in COLUMNS) + f" {'s':>6s}")
    rows = []
    for profile in networks:
        for case in cases(profile, nodes):
            rows.append(measured(case, given))
            print(line(rows[-1]), flush=True)
    return rows


def measured(case: Case, given: argparse.Namespace) -> Row:
    """Every algorithm on one case."""
    problem = case.problem
    row = Row(
        network=case.network, nodes=problem.graph.nodes, fleet=case.fleet,
        channels="serial" if problem.devices.serial else "overlap", objective=problem.objective)
    for name, placer in PUBLISHED.items():
        began = time.perf_counter()
        found = placer(problem)
        row.seconds[name] = time.perf_counter() - began
        row.value_s[name] = judged(found, problem, name, row)
    began = time.perf_counter()
    report = best_mapping(problem, given.effort)
    row.seconds["ours"] = time.perf_counter() - began
    row.value_s["single"] = judged(best_single(problem), problem, "single", row)
    row.value_s["ours"] = None
    if report.best is not None:
        row.algorithm = report.best.algorithm
        row.value_s["ours"] = judged(report.best, problem, "ours", row)
    add_bounds(row, problem, given)
    complain(row)
    return row


def judged(
    found: Mapping | Unmapped, problem: MappingProblem, name: str, row: Row
) -> float | None:
    """The objective of a mapping, if it is sound."""
    if isinstance(found, Unmapped):
        return None
    if defects := verify(found, problem):
        row.complaints.append(f"{label(row)}: {name} is unsound: {defects[0].text}")
        return None
    return value(problem, found)


def add_bounds(row: Row, problem: MappingProblem, given: argparse.Namespace) -> None:
    """The bound, and the optimum where an exact search finishes."""
    bound, best = lower_bound(problem, linear_cells=LINEAR_CELLS), None
    known = row.value_s["ours"]
    began = time.perf_counter()
    for tried in searched(problem, given):
        if known is not None and known <= bound * PROVEN:
            break
        exact = optimum(
            tried, given.milp_seconds, known_s=np.inf if known is None else known, gap=GAP)
        bound = max(bound, exact.bound_s)
        if tried is problem and isinstance(exact.mapping, Mapping):
            judged(exact.mapping, problem, "the exact search", row)
            best = exact.value_s if exact.finished else None
    row.seconds["optimum"] = time.perf_counter() - began
    if known is not None and known <= bound * PROVEN:
        best = known
    row.value_s["bound"] = min(bound, best or bound) if np.isfinite(bound) else None
    row.value_s["optimum"] = best


def searched(problem: MappingProblem, given: argparse.Namespace) -> list[MappingProblem]:
    """Problems to search exactly, easy ones first: bounds of the problem, and itself.

    Serial channels are never faster than overlapping ones, for which the search is far easier.
    """
    if given.milp_seconds <= 0 or problem.graph.nodes > given.milp_nodes:
        return []
    if problem.objective != LATENCY or not problem.devices.serial:
        return [problem]
    relaxed = replace(problem, devices=replace(problem.devices, serial=False))
    transfers = len(problem.graph.tensor_bytes) * problem.devices.count
    return [relaxed, problem] if transfers <= MOST_TRANSFERS else [relaxed]


def complain(row: Row) -> None:
    """Note where ours is worse than another, or far from the optimum."""
    ours = row.value_s["ours"]
    for name in (*PUBLISHED, "single"):
        other = row.value_s[name]
        if other is not None and (ours is None or ours > other * ROUNDING):
            row.complaints.append(f"{label(row)}: ours {ours}, {name} {other}")
    best = row.value_s["optimum"]
    if best is not None and (ours is None or ours > best * NEAR):
        row.complaints.append(f"{label(row)}: ours {ours}, optimum {best}")


def label(row: Row) -> str:
    return f"{row.network} {row.fleet} {row.channels} {row.objective}"


def line(row: Row) -> str:
    """One row of the table."""
    found = [row.value_s[name] for name in (*PUBLISHED, "single", "ours")]
    least = min((seconds for seconds in found if seconds is not None), default=np.inf)
    cells = []
    for column in COLUMNS:
        seconds = row.value_s[column]
        star = "*" if seconds is not None and column not in ("bound", "optimum") and (
            seconds <= least * ROUNDING) else ""
        cells.append("-" if seconds is None else f"{1e3 * seconds:.5g}{star}")
    return (f"{row.network:14s} {row.nodes:5d} {row.fleet:8s} {row.channels:8s} "
            f"{row.objective:10s} " + " ".join(f"{cell:>10s}" for cell in cells)
            + f" {row.seconds['ours']:6.2f}")


def baechi_gains(rows: Iterable[Row]) -> dict[str, dict[str, float]]:
    """Geometric mean of (best Baechi value / ours) per network and in total, by objective."""
    ratios: dict[str, dict[str, list[float]]] = {}
    for row in rows:
        ours = row.value_s["ours"]
        theirs = [seconds for name in BAECHI if (seconds := row.value_s[name]) is not None]
        if not ours or not theirs:
            continue
        for network in (row.network, "all networks"):
            for objective in (row.objective, "both"):
                of_network = ratios.setdefault(network, {})
                of_network.setdefault(objective, []).append(min(theirs) / ours)
    totals = ratios.pop("all networks", {})
    return {network: {objective: geometric_mean(values) for objective, values in found.items()}
            for network, found in (*ratios.items(), ("all networks", totals))}


def print_gains(gains: dict[str, dict[str, float]]) -> None:
    print("\ngain over the best of m-TOPO, m-ETF and m-SCT, geometric mean over rows where one of "
          "them finds a mapping")
    print(f"{'network':14s} {'latency':>9s} {'throughput':>11s} {'both':>9s}")
    for network, found in gains.items():
        print(f"{network:14s} " + " ".join(
            f"{found[objective]:{width}.2f}" if objective in found else " " * width
            for objective, width in (("latency", 9), ("throughput", 11), ("both", 9))))


def print_summary(rows: Sequence[Row]) -> None:
    proven = [(row.value_s["ours"], row.value_s["optimum"]) for row in rows]
    above = [ours / best for ours, best in proven if ours and best]
    bounds = [(row.value_s["ours"], row.value_s["bound"]) for row in rows]
    over = [ours / bound for ours, bound in bounds if ours and bound]
    print(f"\n{len(rows)} rows; the exact search finished on {len(above)}, where ours is at most "
          f"{max(above, default=1.0):.4f} times the optimum (median "
          f"{median(above) if above else 1.0:.4f}); over the bounds of all rows ours is "
          f"{median(over) if over else 1.0:.3f} times in the median")


if __name__ == "__main__":
    raise SystemExit(main())
