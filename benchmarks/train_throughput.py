"""Training throughput of two Homespun peers beside native torch and torch's own pipelining.

    python -m benchmarks.train_throughput [--json] [--rounds 3] [--steps 3] [--sweep]

Three systems train the same transformer on the same batches with the same AdamW, on the same two
cores, by turns within each round, so that other work on the machine falls on all of them:

  native       one process, two threads, gradients accumulated over microbatches
  pipelining   torch.distributed.pipelining, Schedule1F1B, Gloo, two processes of one thread
  homespun     two peers of one thread each with daemons, a broker, mTLS between all of them

Timing: native and pipelining time every step themselves. Homespun's step times are the differences
between the times at which the broker noted consecutive steps of the peer that has the loss, so
start-up, loading and the first steps are outside. Each window begins with unmeasured steps. Ratios
are medians over rounds of the ratio within one round.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import psutil

from benchmarks.train_workers import RATE, SEED, Workers, Workload, workers
from homespun.client import Client
from homespun.job import Job
from homespun.local import LocalNetwork

WORKLOAD = Workload(
    width=512, layers=6, heads=8, hidden=1408, vocab=256, context=256, batch=32)
"""About 20 million parameters."""
BEST = {"native": 8, "pipelining": 32, "homespun": 32}
"""Microbatches that were best in a sweep on two cores."""
SWEEP = (4, 8, 16, 32)
WARM_UP_STEPS = 1
JOB_TIMEOUT_S = 900.0
PEERS = 2
ALLOCATOR = {"MALLOC_TRIM_THRESHOLD_": str(1 << 30), "MALLOC_MMAP_THRESHOLD_": str(1 << 30)}
"""For native and pipelining: freed activations stay in the process, as in Homespun's executors.
Without it the kernel takes and zeroes every large tensor's pages anew."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """One system's measured steps in one round.

    Attributes:
        seconds: of each measured step.
        losses: of every step, unmeasured ones too.
        foreign: cores that processes outside the benchmark kept busy meanwhile.
        details: what the system says of itself.
    """

    seconds: tuple[float, ...]
    losses: tuple[float, ...]
    foreign: float
    details: Mapping[str, Any] = field(default_factory=dict)


class Watch:
    """Counts processor time of the machine that is not ours, idle time or the kernel's idle."""

    def __init__(self) -> None:
        self._began_s = time.monotonic()
        self._all_s, self._own_s = _busy_s(), _own_s()

    def foreign(self) -> float:
        """Mean number of cores that others used since the watch began."""
        passed_s = time.monotonic() - self._began_s
        used_s = (_busy_s() - self._all_s) - (_own_s() - self._own_s)
        return max(0.0, used_s / passed_s)


def _busy_s() -> float:
    times = psutil.cpu_times()
    return times.user + times.system + times.nice + getattr(times, "steal", 0.0)


def _own_s() -> float:
    """Processor seconds of this process and everything that it started and that still runs."""
    total = 0.0
    for process in (me := psutil.Process(), *me.children(recursive=True)):
        try:
            times = process.cpu_times()
            total += times.user + times.system + times.children_user + times.children_system
        except psutil.NoSuchProcess:
            continue
    return total


class HomespunSystem:
    """A local network that gets one job per window."""

    def __init__(self, network: LocalNetwork, client: Client, workload: Workload) -> None:
        self._network, self._client, self._workload = network, client, workload
        self._imported: dict[int, Any] = {}

    def window(self, microbatches: int, steps: int) -> Window:
        """Train for some steps beyond the warm-up."""
        watch = Watch()
        job = self._submit(microbatches, WARM_UP_STEPS + 1 + steps)
        status = job.wait(JOB_TIMEOUT_S)
        if (error := status.error()) is not None:
            raise error
        metrics = job.metrics().steps
        # The first difference is the second step's: the first step has no step before it.
        at_s = [metric.unix_ms / 1000 for metric in metrics][WARM_UP_STEPS:]
        segments = [(s.peer_name, s.nodes, s.parameter_bytes) for s in status.segments]
        return Window(
            seconds=tuple(after - before for before, after in zip(at_s, at_s[1:], strict=False)),
            losses=tuple(metric.loss for metric in metrics), foreign=watch.foreign(),
            details={"segments": segments, "predicted_step_s": status.predicted_step_s,
                     "peers": self._peers()})

    def _submit(self, microbatches: int, steps: int) -> Job:
        from homespun.dataset import read_dataset
        from homespun.optimizers import AdamW
        from homespun.submission import TrainingOptions, submit, training_spec
        from ir.frontends.torch_module import import_module
        from examples.transformer import language_loss

        options = TrainingOptions(
            optimizer=AdamW(learning_rate=RATE), steps=steps, batch_size=self._workload.batch,
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


def worker_window(system: Workers, microbatches: int, steps: int) -> Window:
    """Some steps of a worker, without the warm-up."""
    watch = Watch()
    seconds, losses = system.run(microbatches, WARM_UP_STEPS + steps)
    return Window(
        seconds=tuple(seconds[WARM_UP_STEPS:]), losses=tuple(losses), foreign=watch.foreign())


@contextmanager
def systems(workload: Workload, names: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    """Everything that is compared, started: name -> (microbatches, steps) -> Window."""
    given = json.dumps(asdict(workload))
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        ready: dict[str, Any] = {}
        for name in names:
            if name == "homespun":
                network = stack.enter_context(LocalNetwork(directory / "network", PEERS, threads=1))
                client = stack.enter_context(network.client())
                ready[name] = HomespunSystem(network, client, workload).window
            else:
                environment = {**os.environ, **ALLOCATOR}
                worker = stack.enter_context(
                    workers(name, given, directory / f"{name}.store", environment))
                ready[name] = lambda m, n, worker=worker: worker_window(worker, m, n)
        yield ready


def measure(
    workload: Workload, counts: Mapping[str, tuple[int, ...]], rounds: int, steps: int
) -> dict[str, dict[int, list[Window]]]:
    """Let the systems take turns: name -> microbatches -> one window per round."""
    result: dict[str, dict[int, list[Window]]] = {
        name: {count: [] for count in counts[name]} for name in counts}
    with systems(workload, tuple(counts)) as ready:
        for number in range(rounds):
            for name, windows in result.items():
                for count in windows:
                    window = ready[name](count, steps)
                    windows[count].append(window)
                    print(f"round {number + 1}  {name:<11} {count:>3} microbatches  "
                          f"{workload.step_tokens / median(window.seconds):7.0f} tokens/s  "
                          f"others used {window.foreign:.2f} cores", flush=True)
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
            "foreign_cores": [round(w.foreign, 3) for w in measured[name][best[name]]],
            "by_microbatches": {
                count: round(workload.step_tokens / median(_step_s(windows)), 1)
                for count, windows in measured[name].items()},
        } for name, times in step_s.items()}
    for other in ("native", "pipelining"):
        if "homespun" in step_s and other in step_s:
            ratios = [theirs / ours for theirs, ours in
                      zip(step_s[other], step_s["homespun"], strict=True)]
            result[f"ratio_{other}"] = round(median(ratios), 3)
            result[f"ratios_{other}"] = [round(ratio, 3) for ratio in ratios]
    if "homespun" in measured:
        result["homespun"].update(measured["homespun"][best["homespun"]][-1].details)
    result["losses"] = {name: measured[name][count][0].losses[:2] for name, count in best.items()}
    return result


def _step_s(windows: list[Window]) -> list[float]:
    return [median(window.seconds) for window in windows]


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
        if f"ratio_{other}" in result:
            print(f"homespun / {other}: {result[f'ratio_{other}']} {result[f'ratios_{other}']}")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="end with one JSON object on a line")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=3, help="measured steps per window")
    parser.add_argument("--sweep", action="store_true", help=f"try {SWEEP} microbatches")
    parser.add_argument("--systems", default="native,pipelining,homespun")
    parser.add_argument("--microbatches", type=int, help="the same for all, instead of the best")
    arguments = parser.parse_args()
    counts = {
        name: SWEEP if arguments.sweep else (arguments.microbatches or BEST[name],)
        for name in arguments.systems.split(",")}
    result = summary(
        WORKLOAD, measure(WORKLOAD, counts, arguments.rounds, arguments.steps))
    show(result)
    if arguments.json:
        import torch

        config = {
            **asdict(WORKLOAD), "rounds": arguments.rounds, "steps": arguments.steps,
            "parameters": sum(p.numel() for p in WORKLOAD.model().parameters()),
            "torch": torch.__version__, "python": platform.python_version(),
            "machine": platform.machine(), "cpus": os.cpu_count(), "allocator": ALLOCATOR}
        print(json.dumps({**result, "config": config}))


if __name__ == "__main__":
    main()
