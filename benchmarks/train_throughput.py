"""Training throughput of two Homespun peers beside native torch and torch's own pipelining.

    python benchmarks/train_throughput.py [--json] [--rounds 3] [--steps 3] [--sweep] [--patience 4]

Three systems train the same transformer on the same batches with the same AdamW, on the same two
cores, by turns within each round, so that other work on the machine falls on all of them:

  native       one process, two threads, gradients accumulated over microbatches
  pipelining   torch.distributed.pipelining, Schedule1F1B, Gloo, two processes of one thread
  homespun     two peers of one thread each with daemons, a broker, mTLS between all of them

Timing: native and pipelining time every step themselves. Homespun's step times are the differences
between the times at which the broker noted consecutive steps of the peer that has the loss, so
start-up, loading and the first step are outside. A round's figure is the median of those steps
during which other processes used less than 0.1 cores; a window without one is measured again.
Ratios are medians over rounds of the ratio within one round; rounds in which one of the two had no
quiet step do not count (two OpenMP threads collapse when anything else takes a core, so a disturbed
round flatters us), and without a round that counts there is no ratio.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

if not __package__:  # run as a file: its neighbours and `examples` are found from the checkout
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.machine_load import QUIET_CORES, LoadWatch
from benchmarks.train_workers import RATE, SEED, Workers, Workload, workers
from examples.transformer import language_loss
from homespun.client import Client
from homespun.dataset import read_dataset
from homespun.job import Job
from homespun.local_network import LocalNetwork
from homespun.optimizers import AdamW
from homespun.submission import TrainingOptions, submit, training_spec
from ir.frontends.torch_module import import_module

WORKLOAD = Workload(
    width=512, layers=6, heads=8, hidden=1408, vocab=256, context=256, batch=32)
"""About 20 million parameters."""
BEST = {"native": 8, "pipelining": 32, "homespun": 8}
"""Microbatches: as many as there are sequences keep a pipeline's bubble smallest. Chosen by that
argument, not by a sweep: `--sweep` compares them."""
SWEEP = (4, 8, 16, 32)
JOB_TIMEOUT_S = 900.0
PEERS = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """One system's measured steps in one round.

    Attributes:
        seconds: of each measured step.
        foreign: cores that processes outside the benchmark kept busy during each of them.
        losses: of all steps, the unmeasured first one too.
        details: what the system says of itself.
    """

    seconds: tuple[float, ...]
    foreign: tuple[float, ...]
    losses: tuple[float, ...]
    details: Mapping[str, Any] = field(default_factory=dict)

    @property
    def quiet_s(self) -> list[float]:
        """Steps during which the cores were ours."""
        return [took_s for took_s, foreign in zip(self.seconds, self.foreign, strict=True)
                if foreign <= QUIET_CORES]

    @property
    def step_s(self) -> float:
        """Median of the quiet steps; without one, the least disturbed step."""
        if self.quiet_s:
            return median(self.quiet_s)
        return min(zip(self.foreign, self.seconds, strict=True))[1]


class HomespunSystem:
    """A local network that gets one job per window."""

    def __init__(
        self, network: LocalNetwork, client: Client, workload: Workload, load: LoadWatch
    ) -> None:
        self._network, self._client, self._workload = network, client, workload
        self._load = load
        self._imported: dict[int, Any] = {}

    def window(self, microbatches: int, steps: int) -> Window:
        """Train for some steps after the first, in one job."""
        job = self._submit(microbatches, 1 + steps)
        status = job.wait(JOB_TIMEOUT_S)
        if (error := status.error()) is not None:
            raise error
        metrics = job.curves().steps
        spans = list(pairwise(metric.unix_ms / 1000 for metric in metrics))
        segments = [(s.peer_name, s.nodes, s.parameter_bytes) for s in status.segments]
        return Window(
            seconds=tuple(after - before for before, after in spans),
            foreign=tuple(self._load.foreign(before, after) for before, after in spans),
            losses=tuple(metric.loss for metric in metrics),
            details={"segments": segments, "predicted_step_s": status.predicted_step_s,
                     "peers": self._peers()})

    def _submit(self, microbatches: int, steps: int) -> Job:
        options = TrainingOptions(
            optimizer=AdamW(lr=RATE), steps=steps, batch_size=self._workload.batch,
            microbatches=microbatches, seed=SEED, peers=PEERS, name="throughput")
        dataset = read_dataset({"tokens": self._workload.tokens()})
        if microbatches not in self._imported:
            sample = dataset.sample(self._workload.batch // microbatches)
            self._imported[microbatches] = import_module(
                self._workload.model(), language_loss, sample)
        connection = self._client._connection
        job_id = submit(
            connection, self._imported[microbatches], dataset, training_spec(options, dataset),
            options, lambda text: None)
        return Job(connection, job_id)

    def _peers(self) -> list[dict[str, Any]]:
        """What each peer says of its last lease."""
        summaries = []
        for number in range(PEERS):
            lines = self._network.log(f"peer-{number}").splitlines()
            found = [line for line in lines if '"lease_summary"' in line]
            if found:
                summaries.append(json.loads(found[-1]))
        return sorted(summaries, key=lambda summary: summary["segment"])


class WorkerSystem:
    """Native torch, or torch's pipeline: processes that live on between windows."""

    def __init__(self, processes: Workers, load: LoadWatch) -> None:
        self._processes, self._load = processes, load
        self._warm: set[int] = set()

    def window(self, microbatches: int, steps: int) -> Window:
        """Some steps, after one that is not measured where the count is new."""
        spans, losses = [], list[float]()
        if microbatches not in self._warm:
            losses += self._processes.run(microbatches, 1)[1]
            self._warm.add(microbatches)
        for _ in range(steps):
            began_s = time.time()
            seconds, loss = self._processes.run(microbatches, 1)
            spans.append((seconds[0], self._load.foreign(began_s, time.time())))
            losses += loss
        return Window(
            seconds=tuple(s for s, _ in spans), foreign=tuple(f for _, f in spans),
            losses=tuple(losses))


@contextmanager
def systems(
    workload: Workload, names: tuple[str, ...], load: LoadWatch
) -> Iterator[dict[str, Any]]:
    """Everything that is compared, started: name -> (microbatches, steps) -> Window."""
    given = json.dumps(asdict(workload))
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        ready: dict[str, Any] = {}
        for name in names:
            if name == "homespun":
                network = stack.enter_context(LocalNetwork(directory / "network", PEERS, threads=1))
                client = stack.enter_context(network.client())
                ready[name] = HomespunSystem(network, client, workload, load).window
            else:
                worker = stack.enter_context(workers(name, given, directory / f"{name}.store"))
                ready[name] = WorkerSystem(worker, load).window
        yield ready


def measure(
    workload: Workload, counts: Mapping[str, tuple[int, ...]], rounds: int, steps: int,
    patience: int, wait_s: float,
) -> dict[str, dict[int, list[Window]]]:
    """Let the systems take turns: name -> microbatches -> one window per round.

    Up to `patience` windows in all are measured again because they had no quiet step.
    """
    result: dict[str, dict[int, list[Window]]] = {
        name: {count: [] for count in counts[name]} for name in counts}
    with LoadWatch() as load, systems(workload, tuple(counts), load) as ready:
        for number in range(rounds):
            for name, windows in result.items():
                for count in windows:
                    while True:
                        load.wait_for_quiet(wait_s)
                        window = ready[name](count, steps)
                        print(f"round {number + 1}  {name:<11} {count:>3} microbatches  "
                              f"{workload.step_tokens / window.step_s:7.0f} tokens/s  quiet "
                              f"steps {len(window.quiet_s)}/{steps}  others used "
                              f"{median(window.foreign):.2f} cores", flush=True)
                        if window.quiet_s or patience == 0:
                            break
                        patience -= 1
                    windows[count].append(window)
    return result


def summary(workload: Workload, measured: dict[str, dict[int, list[Window]]]) -> dict[str, Any]:
    """Tokens per second of each system at its best count, and the ratios."""
    best = {name: min(windows, key=lambda count, w=windows: median(_step_s(w[count])))
            for name, windows in measured.items()}
    step_s = {name: _step_s(measured[name][count]) for name, count in best.items()}
    result: dict[str, Any] = {
        name: {
            "tokens_per_s": round(workload.step_tokens / median(times), 1),
            "step_s": [round(t, 4) for t in times],
            "microbatches": best[name],
            "quiet_steps": [len(w.quiet_s) for w in measured[name][best[name]]],
            "foreign_cores": [round(median(w.foreign), 3) for w in measured[name][best[name]]],
            "by_microbatches": {
                count: round(workload.step_tokens / median(_step_s(windows)), 1)
                for count, windows in measured[name].items()},
        } for name, times in step_s.items()}
    for other in ("native", "pipelining"):
        if "homespun" in step_s and other in step_s:
            rounds = zip(
                measured[other][best[other]], measured["homespun"][best["homespun"]], strict=True)
            ratios = [theirs.step_s / ours.step_s for theirs, ours in rounds
                      if theirs.quiet_s and ours.quiet_s]
            result[f"ratio_{other}"] = round(median(ratios), 3) if ratios else None
            result[f"ratios_{other}"] = [round(ratio, 3) for ratio in ratios]
    if "homespun" in measured:
        result["homespun"].update(measured["homespun"][best["homespun"]][-1].details)
    result["losses"] = {name: measured[name][count][0].losses[:2] for name, count in best.items()}
    return result


def _step_s(windows: list[Window]) -> list[float]:
    return [window.step_s for window in windows]


def show(result: dict[str, Any]) -> None:
    """Print the table."""
    print(f"\n{'system':<12}{'microbatches':>13}{'tokens/s':>10}{'of native':>11}")
    base = result.get("native", {}).get("tokens_per_s")
    for name in ("native", "pipelining", "homespun"):
        if name in result:
            row = result[name]
            share = f"{row['tokens_per_s'] / base:.3f}" if base else "-"
            print(f"{name:<12}{row['microbatches']:>13}{row['tokens_per_s']:>10.0f}{share:>11}")
    for other in ("native", "pipelining"):
        if f"ratio_{other}" in result and result[f"ratio_{other}"] is None:
            print(f"homespun / {other}: no round was quiet enough to compare")
        elif f"ratio_{other}" in result:
            print(f"homespun / {other}: {result[f'ratio_{other}']} {result[f'ratios_{other}']}")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="end with one JSON object on a line")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=3, help="measured steps per window")
    parser.add_argument("--patience", type=int, default=4, help="windows to measure again because "
                        f"others used more than {QUIET_CORES} cores meanwhile")
    parser.add_argument("--wait-s", type=float, default=20.0,
                        help="longest wait for others to leave the cores alone, per window")
    parser.add_argument("--sweep", action="store_true", help=f"try {SWEEP} microbatches")
    parser.add_argument("--systems", default="native,pipelining,homespun")
    parser.add_argument("--microbatches", type=int, help="the same for all, instead of the best")
    arguments = parser.parse_args()
    counts = {
        name: SWEEP if arguments.sweep else (arguments.microbatches or BEST[name],)
        for name in arguments.systems.split(",")}
    result = summary(
        WORKLOAD,
        measure(WORKLOAD, counts, arguments.rounds, arguments.steps, arguments.patience,
                arguments.wait_s))
    show(result)
    if arguments.json:
        import torch

        config = {
            **asdict(WORKLOAD), "rounds": arguments.rounds, "steps": arguments.steps,
            "parameters": sum(p.numel() for p in WORKLOAD.model().parameters()),
            "torch": torch.__version__, "python": platform.python_version(),
            "machine": platform.machine(), "cpus": os.cpu_count()}
        print(json.dumps({**result, "config": config}))


if __name__ == "__main__":
    main()
