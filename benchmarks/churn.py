"""Goodput against churn: how much training is left when machines come and go.

    python benchmarks/churn.py [--json] [--minutes 5] [--every 60 30 15] [--peers 8] [--segments 3]
                               [--seed 0] [--pace 0.05]

A job trains over some of eight peers; the others stand by. Every 60, 30 or 15 seconds one of the
eight, drawn at random, is killed with SIGKILL, and one that was killed before starts again, as a
home machine that is switched on: one machine is away at any time. Goodput is committed steps per
second, counted from the first kill to the end of the period, as a share of an undisturbed run of
the same job, on the same peers, for the same time, in the same invocation. A step counts once,
however often a part of it was computed again. The weights of a run are not compared here; the
chaos tests do that.

All peers of one machine share its cores, and a peer that starts takes some of them from the others:
on few cores that is part of what is measured, and real machines are spared it. With `--pace` each
peer has a device of its own instead: tasks take as long as on one of that pace and use no core
(`peer.executor.paced`); processes, links, snapshots and takeovers are as real as before.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import platform
import random
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil

if not __package__:  # run as a file: our packages are found from the checkout
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks import churn_job, commit_history
from homespun.client import Client
from homespun.local_network import LocalNetwork
from peer.executor.installed import PACE_VARIABLE

ENOUGH_STEPS = 1_000_000
WARM_STEPS = 20
START_TIMEOUT_S = 240.0


def run(
    network: LocalNetwork, client: Client, options: argparse.Namespace, every_s: float | None
) -> dict[str, Any]:
    """Train for a while under churn; `every_s` None: undisturbed."""
    job = client.train(**churn_job.arguments(ENOUGH_STEPS), peers=options.segments)
    watch = churn_job.JobWatch(job)
    if not watch.wait_for(lambda status: status.steps_done >= WARM_STEPS, START_TIMEOUT_S):
        raise TimeoutError(f"the job has not begun: {watch.status}")
    began_s = time.time()
    end_s = began_s + 60 * options.minutes
    kills = list(_churn(network, options, every_s, end_s)) if every_s else []
    time.sleep(max(0.0, end_s - time.time()))
    status = watch.status
    assert status is not None
    state, reason = status.state, status.error_message
    if not status.is_final:
        job.cancel()
    watch.wait_for(lambda now: now.is_final, START_TIMEOUT_S)
    past = commit_history.read(network.broker_directory, job.id)
    done = [at_s for at_s in past.commits if began_s <= at_s < end_s]
    return {
        "every_s": every_s, "kills": len(kills), "steps": len(done),
        "seconds": 60 * options.minutes,
        "steps_per_s": len(done) / (60 * options.minutes),
        "leases_granted": len(past.grants), "state": state, "reason": reason,
        "broken": past.broken, "gaps_s": _gaps(past, kills, end_s)}


def _churn(
    network: LocalNetwork, options: argparse.Namespace, every_s: float, end_s: float
) -> Iterator[float]:
    """Kill one and start the one that was killed before; yields when."""
    chance = random.Random(options.seed)
    away: int | None = None
    at_s = time.time()
    while at_s < end_s:
        living = [number for number in range(options.peers) if number != away]
        lost = chance.choice(living)
        network.kill(f"peer-{lost}")
        yield time.time()
        if away is not None:
            network.start_peer(away)
        away = lost
        at_s += every_s
        time.sleep(max(0.0, min(at_s, end_s) - time.time()))
    if away is not None:
        network.start_peer(away)


def _gaps(past: commit_history.History, kills: list[float], end_s: float) -> list[float]:
    """Of the kills that stopped the job: seconds to the next commit; the others have none."""
    found = []
    for at_s, until_s in itertools.pairwise([*kills, end_s]):
        try:
            found.append(round(past.recovered_after(at_s, until_s), 2))
        except LookupError:
            found.append(round(until_s - at_s, 2))
    return found


def _settle(network: LocalNetwork, options: argparse.Namespace) -> None:
    """All peers live and free."""
    network.wait_until(
        lambda: sum(peer["state"] == "live" and not peer["leases"] for peer in network.peers())
        == options.peers, "all peers are live and free", START_TIMEOUT_S)


def network_of(folder: Path, options: argparse.Namespace) -> LocalNetwork:
    """Peers that compute on the machine's cores, or that have paced devices."""
    if options.pace is None:
        return LocalNetwork(folder, options.peers)
    return LocalNetwork(
        folder, options.peers, executors=("null",) * options.peers,
        environment={PACE_VARIABLE: str(options.pace)})


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """An undisturbed run, then one for each rate of churn."""
    rows = []
    with (
        tempfile.TemporaryDirectory() as folder,
        network_of(Path(folder), options) as network, network.client() as client,
    ):
        for every_s in (None, *options.every):
            _settle(network, options)
            row = run(network, client, options, every_s)
            usual = rows[0]["steps_per_s"] if rows else row["steps_per_s"]
            rows.append({**row, "goodput": row["steps_per_s"] / usual})
            show(rows[-1])
    return {
        "machine": {"cores": os.cpu_count(), "memory_bytes": psutil.virtual_memory().total,
                    "platform": platform.platform()},
        "configuration": {
            "peers": options.peers, "segments": options.segments, "minutes": options.minutes,
            "seed": options.seed, "threads": 1, "pace": options.pace, "model": churn_job.MODEL,
            "killed": "one of all peers, drawn at random; the one killed before starts again"},
        "rows": rows}


def show(row: dict[str, Any]) -> None:
    """Print a row."""
    what = f"every {row['every_s']:.0f} s" if row["every_s"] else "undisturbed"
    print(f"{what:12} {row['kills']:3} kills, {row['steps']:5} steps, "
          f"{row['steps_per_s']:.2f} steps/s, goodput {100 * row['goodput']:.1f} %, "
          f"{row['leases_granted']} leases, {row['state']} {row['reason']}", flush=True)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="end with one JSON object on a line")
    parser.add_argument("--minutes", type=float, default=5.0, help="of each run")
    parser.add_argument("--every", type=float, nargs="+", default=[60.0, 30.0, 15.0])
    parser.add_argument("--peers", type=int, default=8)
    parser.add_argument("--segments", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--pace", type=float, help="of a device for each peer, as a share of the null executor's")
    result = measure(parser.parse_args())
    if parser.parse_args().json:
        print(json.dumps(result))


if __name__ == "__main__":
    main()
