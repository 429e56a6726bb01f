"""Predicted against measured step times: real jobs over emulated networks on this machine.

    python benchmarks/prediction.py [--json] [--write] [--only TEXT] [--fresh] [--directory DIR]

For each network a broker and peers run as real processes, each in a network namespace of its own
(`scripts/netlab.py`; loopback without), measure their devices and links as always, and train or run
small models. The planner's predicted step is read off the job; the measured one is the median of
the steps after warm-up, by the times at which the broker noted them (for inference, the mean over
all microbatches after the first ones). Nothing is fitted in between. Torch peers run two short
jobs of the same kind before, as real tasks correct a device's rates; the table has the prediction
before that, too.

Peers of fleet `torch` compute for real: at most as many as the machine has cores. Peers of fleet
`paced` are daemons, links and schedule as real as the others', but their executors sleep for as
long as the cost model says at a stated speed (`peer.executor.paced`), so that more peers than
cores, and unequal ones, can be tried. Such rows test the model of links, daemons and schedule, not
the one of computing.

What was measured is kept in the directory; a run that was interrupted goes on where it stopped.
About ten minutes in all; other work on the machine slows the measured side, not the predicted one,
so the table says how many cores others kept busy during each row's steps, and steps with others
at work do not count where there are quiet ones.
Needs root and /dev/net/tun for every network but loopback; without, only loopback is run.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

if not __package__:  # run as a file: its neighbours are found from the checkout
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.machine_load import QUIET_CORES, LoadWatch
from benchmarks.prediction_worker import FLEETS, Case
from peer.devices import device_name
from scripts.netlab import AccessLink, NetworkLab, missing

DIRECTORY = Path("prediction-run")
RESULTS = Path(__file__).resolve().parent / "results" / "2026-11-26-prediction"


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """Lines of all peers: rate in Mbit/s both ways, delay in ms from one peer to another."""

    mbit: float
    delay_ms: float

    @property
    def link(self) -> AccessLink:
        """One peer's share."""
        return AccessLink(up_mbit=self.mbit, down_mbit=self.mbit, delay_ms=self.delay_ms / 2)


LOOPBACK = "loopback"
NETWORKS: Mapping[str, Network] = {
    "1 Gbit/s 1 ms": Network(mbit=1000.0, delay_ms=1.0),
    "100 Mbit/s 10 ms": Network(mbit=100.0, delay_ms=10.0),
    "20 Mbit/s 20 ms": Network(mbit=20.0, delay_ms=20.0),
}


TORCH_CASES: Mapping[str, Sequence[tuple[str, int, int, int]]] = {
    LOOPBACK: (
        ("cnn", 1, 4, 64), ("two-branch", 1, 2, 1024), ("mlp", 2, 4, 1024),
        ("transformer", 2, 8, 32)),
    "1 Gbit/s 1 ms": (("transformer", 2, 8, 32),),
    "100 Mbit/s 10 ms": (("mlp", 2, 4, 1024),),
    "20 Mbit/s 20 ms": (("transformer", 2, 4, 32),),
}
"""Network -> model, peers, microbatches, batch: what fits into some minutes in all."""


def cases() -> list[Case]:
    """Everything that is measured, network by network, the paced fleet first."""
    found = []
    for network in (LOOPBACK, *NETWORKS):
        found += [
            Case(network=network, fleet="paced", model=model, peers=peers, batch=batch,
                 microbatches=microbatches, clip_norm=clip_norm, kind=kind)
            for model, peers, microbatches, batch, clip_norm, kind in (
                ("transformer", 4, 8, 16, 0.0, "train"),
                ("mlp", 2, 4, 512, 0.0, "train"),
                ("two-branch", 3, 4, 512, 1.0, "train"),
                ("cnn", 3, 2, 32, 0.0, "train"),
                ("cnn", 3, 1, 16, 0.0, "infer"))]
        found += [
            Case(network=network, fleet="torch", model=model, peers=peers, batch=batch,
                 microbatches=microbatches)
            for model, peers, microbatches, batch in TORCH_CASES[network]]
    return found


def measure(wanted: Sequence[Case], directory: Path) -> Iterator[dict[str, Any]]:
    """Measure cases, network by network, and say how much others used the machine meanwhile."""
    with LoadWatch() as load:
        for network in dict.fromkeys(case.network for case in wanted):
            mine = [case for case in wanted if case.network == network]
            for measured in _worker(network, mine, directory):
                spans = pairwise(measured["moments_unix_s"])
                yield {**measured, "foreign_cores": [
                    round(load.foreign(begin_s, end_s), 3) for begin_s, end_s in spans]}


def _worker(network: str, mine: Sequence[Case], directory: Path) -> Iterator[dict[str, Any]]:
    """Start a worker where the broker will be, and read what it measures."""
    place = directory / network.replace("/", "-").replace(" ", "-")
    shutil.rmtree(place, ignore_errors=True)
    peers = sum(FLEETS[fleet] for fleet in dict.fromkeys(case.fleet for case in mine))
    with _sites(network, peers) as (prefix, sites), subprocess.Popen(
        [*prefix, sys.executable, "-m", "benchmarks.prediction_worker",
         "--directory", str(place.resolve()), "--sites", json.dumps(sites),
         "--cases", json.dumps([asdict(case) for case in mine])],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True,
        cwd=Path(__file__).resolve().parent.parent,
    ) as worker:
        assert worker.stdout is not None
        try:
            for line in worker.stdout:
                yield json.loads(line)
        except BaseException:
            worker.terminate()
            raise
        if worker.wait() != 0:
            raise SystemExit(f"the worker of network {network} ended with {worker.returncode}")


@contextmanager
def _sites(network: str, peers: int) -> Iterator[tuple[list[str], dict[str, Any]]]:
    """The command prefix of the broker's place, and every peer's site."""
    if network == LOOPBACK:
        yield [], {}
        return
    line = NETWORKS[network].link
    with NetworkLab([AccessLink(), *(line for _ in range(peers))]) as lab:
        print(f"{network}: congestion control {lab.congestion}", flush=True)
        names = ("broker", *(f"peer-{number}" for number in range(peers)))
        sites = {
            name: {"address": lab.address(number), "command": lab.command(number, [])}
            for number, name in enumerate(names)}
        sites["broker"]["command"] = []  # the worker is there already
        yield lab.command(0, []), sites
        print(f"{network}: {lab.counts}", flush=True)


def summary(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The table, and the errors over it."""
    table = [_row(row) for row in rows]
    errors = [abs(row["ratio"] - 1) for row in table]
    return {
        "machine": {
            "processor": device_name("cpu"), "cores": os.cpu_count(), "system": platform.platform(),
            "python": platform.python_version(), "torch": version("torch")},
        "rows": table, "median_error": round(median(errors), 4),
        "worst_error": round(max(errors), 4),
        "by_fleet": {fleet: {
            "median_error": round(median(found), 4), "worst_error": round(max(found), 4)}
            for fleet in FLEETS
            if (found := [abs(row["ratio"] - 1) for row in table if row["fleet"] == fleet])}}


def _row(row: Mapping[str, Any]) -> dict[str, Any]:
    case, step_s = Case(**row["case"]), _step_s(row)
    return {
        "name": case.name, **asdict(case), "predicted_s": round(row["predicted_s"], 4),
        "measured_s": round(step_s, 4), "ratio": round(row["predicted_s"] / step_s, 3),
        "first_predicted_s": round(row["first_predicted_s"], 4), "limited_by": row["limited_by"],
        "nodes": row["segments"], "summaries": row["summaries"],
        "step_s": [round(each, 4) for each in row["step_s"]],
        "quiet_steps": sum(cores <= QUIET_CORES for cores in row["foreign_cores"]),
        "foreign_cores": median(row["foreign_cores"])}


def _step_s(row: Mapping[str, Any]) -> float:
    """Median of the steps that others left alone; of all where there are none."""
    steps = list(zip(row["step_s"], row["foreign_cores"], strict=True))
    quiet = [step_s for step_s, cores in steps if cores <= QUIET_CORES]
    return median(quiet or row["step_s"])


def show(result: Mapping[str, Any]) -> None:
    """Print the table."""
    print(f"{'configuration':<66}{'predicted':>10}{'measured':>10}{'ratio':>7}{'others':>8}")
    for row in result["rows"]:
        print(f"{row['name']:<66}{row['predicted_s']:>10.4f}{row['measured_s']:>10.4f}"
              f"{row['ratio']:>7.2f}{row['foreign_cores']:>8.2f}  {row['limited_by']}")
    print(f"{len(result['rows'])} configurations: median error {result['median_error']:.1%}, worst "
          f"{result['worst_error']:.1%}")
    for fleet, found in result["by_fleet"].items():
        print(f"  {fleet}: median {found['median_error']:.1%}, worst {found['worst_error']:.1%}")


def write(result: Mapping[str, Any]) -> None:
    """Write the results where the repository keeps them."""
    RESULTS.with_suffix(".json").write_text(json.dumps(result, indent=1) + "\n", "utf-8")
    machine = result["machine"]
    lines = [
        "# Predicted and measured step times", "",
        f"`python benchmarks/prediction.py --write` on {machine['cores']} cores of "
        f"{machine['processor']}, {machine['system']}, torch {machine['torch']}. Median error "
        f"**{result['median_error']:.1%}**, worst **{result['worst_error']:.1%}** over "
        f"{len(result['rows'])} configurations.", "",
        "Peers of fleet `torch` compute for real; those of fleet `paced` sleep for the modelled "
        "time, so their rows test links, daemons and schedule, not the model of computing. Torch "
        "peers ran two short jobs of the kind before; first: what the plan said before that. TCP "
        "uses reno on every emulated line. Others: cores that other work kept busy meanwhile.", "",
        "| network | fleet | model | peers | microbatches | batch | first s | predicted s | "
        "measured s | ratio | others | the planner says it is limited by |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|"]
    for row in result["rows"]:
        first = f"{row['first_predicted_s']:.4f}" if row["first_predicted_s"] else "-"
        flow = "inference" if row["kind"] == "infer" else row["microbatches"]
        lines.append(
            f"| {row['network']} | {row['fleet']} | {row['model']}"
            f"{', clipped' if row['clip_norm'] else ''} | {row['peers']} | {flow} | "
            f"{row['batch']} | {first} | {row['predicted_s']:.4f} | {row['measured_s']:.4f} | "
            f"{row['ratio']:.2f} | {row['foreign_cores']:.2f} | {row['limited_by']} |")
    RESULTS.with_suffix(".md").write_text("\n".join(lines) + "\n", "utf-8")


def main() -> None:
    """Measure what is not measured yet, and print everything."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="end with one JSON object on a line")
    parser.add_argument("--write", action="store_true", help=f"also write {RESULTS.name}.md, .json")
    parser.add_argument("--only", default="", help="only configurations whose name has this")
    parser.add_argument("--fresh", action="store_true", help="forget earlier measurements")
    parser.add_argument("--stored", action="store_true", help="measure nothing more")
    parser.add_argument("--directory", type=Path, default=DIRECTORY)
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # what was started has to end, too
    options.directory.mkdir(parents=True, exist_ok=True)
    store = options.directory / "measured.json"
    known: dict[str, Any] = {}
    if store.exists() and not options.fresh:
        known = json.loads(store.read_text("utf-8"))
    if lack := missing():
        print(f"Only loopback: {lack}.")
    wanted = [case for case in cases() if options.only in case.name
              and (case.network == LOOPBACK or not lack)]
    todo = [] if options.stored else [case for case in wanted if case.name not in known]
    print(f"{len(todo)} of {len(wanted)} configurations to measure.", flush=True)
    for done, row in enumerate(measure(todo, options.directory), 1):
        case = Case(**row["case"])
        known[case.name] = row
        store.write_text(json.dumps(known, indent=1), "utf-8")
        print(f"{done}/{len(todo)}  {case.name}: predicted {row['predicted_s']:.4f} s, measured "
              f"{_step_s(row):.4f} s", flush=True)
    result = summary([known[case.name] for case in wanted if case.name in known])
    show(result)
    if options.write:
        write(result)
    if options.json:
        print(json.dumps(result))


if __name__ == "__main__":
    main()
