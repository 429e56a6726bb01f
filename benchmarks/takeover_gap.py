"""How long training stands still when a machine is lost: ours, torchft and hivemind in one run.

    python benchmarks/takeover_gap.py [--json] [--kills 5] [--venvs rivals-run] [--install]
                                      [--only NAME ...]

One machine is killed with SIGKILL while four (torchft, hivemind) or five (ours) train a small
model with steps of about 0.1 s, and is started again. The gap is the time from the kill to the
commit that ended the longest pause after it: what was under way is still committed, and shows
nothing. The three do not do the same: torchft and hivemind train data-parallel and every machine
holds the whole model, so the others go on without the lost one, and its samples are dropped. Ours
trains one model over three machines, each with a part that no other holds; a standby takes the part
over, and no sample is lost. torchft and hivemind run with the times of their own examples and
defaults, and with the shortest sensible ones; what they do not state is theirs. Beside each gap
stands how long a commit usually takes: a gap below it cannot be seen.

The other projects are no dependencies: `--install` puts each into a virtual environment under
`--venvs`; one that is not there is left out, with the reason.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from socket import socket
from typing import Any

if not __package__:  # run as a file: our packages are found from the checkout
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks import churn_job, commit_history
from benchmarks.rivals.swarm import Swarm, Worker, has_committed, program_of, python_of
from homespun.local_network import LocalNetwork
from homespun.status import JobStatus

RIVALS = Path(__file__).resolve().parent / "rivals"
MACHINES = 4
OUR_MACHINES, OUR_SEGMENTS = 5, 3
SETTLE_S = 15.0
"""Between a start and a kill: every contender has time to prepare for the loss."""
WATCHED_S = 60.0
"""After a kill, for a recovery that is not seen by an event: longer than any that was measured."""
TORCHFT_TIMES = {
    "torchft": {"join_timeout_ms": 1_000, "heartbeat_timeout_ms": 1_000},
    "torchft, as in its example": {"join_timeout_ms": 10_000, "heartbeat_timeout_ms": 5_000},
}
HIVEMIND_TIMES = {"hivemind": (3.0, 10.0), "hivemind, as by default": (15.0, 60.0)}
"""Matchmaking, where 3 s is the shortest that its guide names for local runs, and averaging."""
ENOUGH_STEPS = 1_000_000
Measured = tuple[list[float], float]
"""Gaps, and the usual time from commit to commit; seconds."""


class NotHereError(Exception):
    """A contender cannot run on this machine; says why."""


def pause_after(commits: Sequence[float], at_s: float) -> float:
    """Seconds from a fault to the commit that ended the longest pause after it."""
    return commit_history.recovered_after(commits, at_s, time.time())


# --- ours -------------------------------------------------------------------------------------


def ours(kills: int, chance: random.Random) -> Measured:
    """Gaps of a job over three machines, with two that stand by."""
    faults: list[tuple[float, float]] = []
    with tempfile.TemporaryDirectory() as folder:
        with LocalNetwork(Path(folder), OUR_MACHINES) as network, network.client() as client:
            job = client.train(**churn_job.arguments(ENOUGH_STEPS), peers=OUR_SEGMENTS)
            watch = churn_job.JobWatch(job)
            _expect(watch, lambda status: status.steps_done >= 20, "20 steps are done")
            for _ in range(kills):
                time.sleep(SETTLE_S + chance.random())
                faults.append(_lose_a_holder(network, watch, chance))
            job.cancel()
        past = commit_history.read(network.broker_directory, job.id)
    if past.broken:
        raise RuntimeError(past.broken)
    gaps = [past.recovered_after(at_s, until_s) for at_s, until_s in faults]
    return gaps, commit_history.usual_pause(past.commits)


def _lose_a_holder(
    network: LocalNetwork, watch: churn_job.JobWatch, chance: random.Random
) -> tuple[float, float]:
    """Kill who holds some segment, wait for the takeover, start it again; (when, until when)."""
    assert watch.status is not None
    lost = chance.choice(watch.status.segments)
    network.kill(lost.peer_name)
    at_s = time.time()
    _expect(watch, lambda now: now.segments[lost.segment].token != lost.token
            and now.state == "running", f"segment {lost.segment} has a new holder")
    done = watch.status.steps_done
    _expect(watch, lambda now: now.steps_done >= done + 5, "5 steps more are done")
    until_s = time.time()
    network.start_peer(int(lost.peer_name.removeprefix("peer-")))
    return at_s, until_s


def _expect(
    watch: churn_job.JobWatch, is_so: Callable[[JobStatus], bool], what: str
) -> None:
    if not watch.wait_for(is_so, 180.0) or watch.status is None or watch.status.is_final:
        raise TimeoutError(f"not so: {what}; the job: {watch.status}")


# --- others -----------------------------------------------------------------------------------


def torchft(
    venvs: Path, kills: int, chance: random.Random, times: Mapping[str, int]
) -> Measured:
    """Gaps of data-parallel replicas under a lighthouse."""
    python = _need(venvs, "torchft")
    port = _free_port()
    environment = {"TORCHFT_LIGHTHOUSE": f"http://127.0.0.1:{port}"}
    with Swarm() as swarm:
        swarm.start("lighthouse", [
            program_of(venvs, "torchft", "torchft_lighthouse"), f"--bind=127.0.0.1:{port}",
            "--min_replicas=1", "--quorum_tick_ms=100",
            *(f"--{name}={value}" for name, value in times.items())])

        def start(name: str) -> Worker:
            return swarm.start(
                name, [python, str(RIVALS / "torchft_replica.py"), name], environment)

        return _gaps(swarm, start, kills, chance)


def hivemind(
    venvs: Path, kills: int, chance: random.Random, times: tuple[float, float]
) -> Measured:
    """Gaps of a hivemind swarm; its first peer, which the others dial, is never killed."""
    python = _need(venvs, "hivemind")
    command = [python, str(RIVALS / "hivemind_peer.py"), str(MACHINES), *map(str, times)]
    with Swarm() as swarm:
        first = swarm.start("first", command)
        swarm.wait_for(lambda: any(line.startswith("address") for line in first.lines),
                       "the first peer is reached at an address")
        address = first.lines[0].split()[1]
        return _gaps(swarm, lambda name: swarm.start(name, [*command, address]), kills, chance,
                     machines=MACHINES - 1)


def _gaps(
    swarm: Swarm, start: Callable[[str], Worker], kills: int, chance: random.Random,
    machines: int = MACHINES,
) -> Measured:
    names = [f"machine-{number}" for number in range(machines)]
    for name in names:
        start(name)
    gaps = []
    for _ in range(kills):
        for name in names:
            swarm.wait_for(has_committed(swarm.workers[name]), f"{name} takes part")
        swarm.wait_for_commits(2)
        time.sleep(SETTLE_S + chance.random())
        lost = chance.choice(names)
        at_s = swarm.kill(lost)
        time.sleep(WATCHED_S)
        gaps.append(pause_after(swarm.commits, at_s))
        start(lost)
    return gaps, commit_history.usual_pause(swarm.commits)


def _need(venvs: Path, name: str) -> str:
    python = python_of(venvs, name)
    if not Path(python).exists():
        raise NotHereError(f"{name} is not installed in {venvs / name}: use --install")
    return python


def install(venvs: Path) -> dict[str, str]:
    """Put the other projects into virtual environments; name -> why it failed."""
    failed = {}
    for name in ("torchft", "hivemind"):
        subprocess.run([sys.executable, "-m", "venv", str(venvs / name)], check=True)
        done = subprocess.run(
            [python_of(venvs, name), "-m", "pip", "install", "--quiet", "torch", "numpy", name],
            capture_output=True, text=True, check=False)
        if done.returncode:
            failed[name] = done.stderr.strip()[-500:]
    return failed


def _free_port() -> int:
    with closing(socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def contenders(venvs: Path, kills: int, seed: int) -> dict[str, Callable[[], Measured]]:
    """Name -> what measures its gaps."""
    found: dict[str, Callable[[], Measured]] = {
        "ours": lambda: ours(kills, random.Random(seed))}
    for name, times in TORCHFT_TIMES.items():
        found[name] = lambda times=times: torchft(venvs, kills, random.Random(seed), times)
    for name, waits in HIVEMIND_TIMES.items():
        found[name] = lambda waits=waits: hivemind(venvs, kills, random.Random(seed), waits)
    return found


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Run every contender, one after the other."""
    rows: dict[str, Any] = {}
    for name, gaps_of in contenders(options.venvs, options.kills, options.seed).items():
        if options.only and name not in options.only:
            continue
        try:
            gaps, usual_s = gaps_of()
        except (NotHereError, TimeoutError, LookupError, RuntimeError) as error:
            rows[name] = {"error": str(error)[:2_000]}
        else:
            rows[name] = {"gaps_s": [round(gap, 2) for gap in gaps],
                          "p50_s": round(sorted(gaps)[(len(gaps) - 1) // 2], 2),
                          "longest_s": round(max(gaps), 2), "usual_s": round(usual_s, 2)}
        print(f"{name:28} {rows[name]}", flush=True)
    return {
        "machine": {"cores": os.cpu_count(), "platform": platform.platform()},
        "configuration": {
            "kills": options.kills, "seed": options.seed, "machines": MACHINES,
            "our_machines": OUR_MACHINES, "our_segments": OUR_SEGMENTS,
            "our_model": churn_job.MODEL, "torchft_times": TORCHFT_TIMES,
            "hivemind_times": HIVEMIND_TIMES},
        "contenders": rows}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="end with one JSON object on a line")
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--venvs", type=Path, default=Path("rivals-run"))
    parser.add_argument("--install", action="store_true", help="install the other projects first")
    parser.add_argument("--only", action="append", metavar="NAME", help="leave the others out")
    options = parser.parse_args()
    options.venvs = options.venvs.resolve()
    if options.install and (failed := install(options.venvs)):
        print(f"not installed: {failed}")
    result = measure(options)
    if options.json:
        print(json.dumps(result))


if __name__ == "__main__":
    main()
