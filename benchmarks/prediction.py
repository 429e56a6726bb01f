"""Predicted against measured step times: real jobs over emulated networks on this machine.

    python benchmarks/prediction.py [--json] [--only TEXT] [--fresh] [--directory prediction-run]

For each network a broker and peers run as real processes, each in a network namespace of its own
(`scripts/netlab.py`; loopback without), measure their devices and links as always, and train or run
small models. The planner's predicted step is read off the job; the measured one is the median of
the steps after warm-up, by the times at which the broker noted them (for inference, the mean over
all microbatches after the first). Nothing is fitted in between.

Peers of fleet `torch` compute for real: at most as many as the machine has cores. Peers of fleet
`paced` are daemons, links and schedule as real as the others', but their executors sleep for as
long as the cost model says at a stated speed (`peer.executor.paced`), so that more peers than
cores, and unequal ones, can be tried. Such rows test the model of links, daemons and schedule, not
the one of computing.

What was measured is kept in the directory; a run that was interrupted goes on where it stopped.
Needs root and /dev/net/tun for every network but loopback; without, only loopback is run.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

if not __package__:  # run as a file: its neighbours are found from the checkout
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.machine_load import LoadWatch
from benchmarks.prediction_worker import FLEETS, Case
from scripts.netlab import AccessLink, NetworkLab, missing

DIRECTORY = Path("prediction-run")


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


def cases() -> list[Case]:
    """Everything that is measured, network by network."""
    found = []
    for network in (LOOPBACK, *NETWORKS):
        def case(network: str = network, **fields: Any) -> None:
            found.append(Case(network=network, **fields))
        paced = {"fleet": "paced"}
        case(**paced, model="transformer", peers=4, microbatches=8, batch=16)
        case(**paced, model="mlp", peers=2, microbatches=4, batch=256)
        case(**paced, model="two-branch", peers=3, microbatches=4, batch=256, clip_norm=1.0)
        case(**paced, model="cnn", peers=3, microbatches=1, batch=8, kind="infer")
        case(fleet="torch", model="mlp", peers=2, microbatches=4, batch=256)
        case(fleet="torch", model="transformer", peers=2, microbatches=8, batch=16)
    return found


def measure(wanted: Sequence[Case], directory: Path) -> Iterator[dict[str, Any]]:
    """Measure cases, network by network, and say how much others used the machine meanwhile."""
    with LoadWatch() as load:
        for network in dict.fromkeys(case.network for case in wanted):
            mine = [case for case in wanted if case.network == network]
            for measured in _worker(network, mine, directory):
                begin_s, end_s = measured["began_unix_s"], measured["ended_unix_s"]
                yield {**measured, "foreign_cores": round(load.foreign(begin_s, end_s), 3)}


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
        for line in worker.stdout:
            yield json.loads(line)
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
    table = []
    for row in rows:
        case = Case(**row["case"])
        step_s = median(row["step_s"])
        table.append({
            "name": case.name, **asdict(case), "predicted_s": round(row["predicted_s"], 4),
            "measured_s": round(step_s, 4), "ratio": round(row["predicted_s"] / step_s, 3),
            "segments": row["segments"], "foreign_cores": row["foreign_cores"]})
    errors = [abs(row["ratio"] - 1) for row in table]
    return {"rows": table, "median_error": round(median(errors), 4),
            "worst_error": round(max(errors), 4)}


def show(result: Mapping[str, Any]) -> None:
    """Print the table."""
    print(f"{'configuration':<66}{'predicted':>10}{'measured':>10}{'ratio':>7}{'others':>8}")
    for row in result["rows"]:
        print(f"{row['name']:<66}{row['predicted_s']:>10.4f}{row['measured_s']:>10.4f}"
              f"{row['ratio']:>7.2f}{row['foreign_cores']:>8.2f}")
    print(f"median error {result['median_error']:.1%}, worst {result['worst_error']:.1%}")


def main() -> None:
    """Measure what is not measured yet, and print everything."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="end with one JSON object on a line")
    parser.add_argument("--only", default="", help="only configurations whose name has this")
    parser.add_argument("--fresh", action="store_true", help="forget earlier measurements")
    parser.add_argument("--directory", type=Path, default=DIRECTORY)
    options = parser.parse_args()
    options.directory.mkdir(parents=True, exist_ok=True)
    store = options.directory / "measured.json"
    known: dict[str, Any] = {}
    if store.exists() and not options.fresh:
        known = json.loads(store.read_text("utf-8"))
    if lack := missing():
        print(f"Only loopback: {lack}.")
    wanted = [case for case in cases() if options.only in case.name
              and (case.network == LOOPBACK or not lack)]
    todo = [case for case in wanted if case.name not in known]
    for row in measure(todo, options.directory):
        case = Case(**row["case"])
        known[case.name] = row
        store.write_text(json.dumps(known, indent=1), "utf-8")
        print(f"{case.name}: predicted {row['predicted_s']:.4f} s, measured "
              f"{median(row['step_s']):.4f} s", flush=True)
    result = summary([known[case.name] for case in wanted if case.name in known])
    show(result)
    if options.json:
        print(json.dumps(result))


if __name__ == "__main__":
    main()
