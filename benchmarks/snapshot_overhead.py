"""What snapshots cost a training segment: its own standing still, and tasks beside the writing.

    python benchmarks/snapshot_overhead.py [--json] [--threads 1] [--device cpu] [--budget 0.03]
                                           [--pairs 15] [--steps N] [--layers 6] [--directory DIR]

A real executor process trains a transformer of 20 million parameters with AdamW, whole, in one
segment; no daemon, no network. First, one snapshot after the other tells what copying takes (median
of five). The interval is the least number of steps at which copying stays within the budget, as the
broker chooses it. Then stretches of so many steps take turns, in one process: one with a snapshot
at its beginning, one without; who goes first changes every time. The figure is the ratio of their
times within a pair: median and quartiles over the quieter half of the pairs, those during which
others used the machine least. What a snapshot costs in all, the first steps of a stretch with it
less those of one without, gives the interval for any other budget. The same of the process's own
processor time, all threads, over all pairs: other work on the machine moves it least, and it is
what a snapshot costs where every core computes.

The file is written to `--directory` (a temporary folder if not given) and synced; hashing it and
handing it to holders is the daemon's work, and is not in.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from math import ceil
from pathlib import Path
from statistics import median, quantiles
from typing import Any, BinaryIO

import numpy as np
import psutil
import torch

if not __package__:  # run as a file: our packages are found from the checkout
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.machine_load import LoadWatch
from dag.cluster import PeerRates
from dag.job import OptimizerSpec, TrainingSpec
from examples.transformer import Transformer, language_loss
from homespun.tensor_file import pack
from ir import serde
from ir.cut import cut, replicable
from ir.frontends.torch_module import import_module
from ir.graph import TRAIN
from peer.core.events import Task, TaskKind
from peer.core.phases import Mode
from peer.executor.messages import (
    Column,
    Done,
    Load,
    Loaded,
    Message,
    Run,
    SnapshotWritten,
    Started,
    TakeSnapshot,
    TensorFile,
    decode,
)
from peer.executor.pipe import control_frame, read_frame, write_frame

VOCABULARY, WIDTH, HIDDEN, CONTEXT, ROWS = 2048, 512, 1408, 128, 64
MICROBATCHES = 2
GOAL = 0.035
"""Most of the step time that snapshots may cost."""
CALIBRATIONS = 5
STEPS_BETWEEN_CALIBRATIONS = 3
WARM_UP_STEPS = 3
REACHED_STEPS = 3
"""Steps that a snapshot taken before them slows down: it is written within the first one or two."""
QUIET_WAIT_S = 5.0


@dataclass(frozen=True, slots=True)
class Stretch:
    """Some steps in a row.

    Attributes:
        steps_s: of each, by the clock; what the snapshot's copying took is in the first one.
        cpu_s: processor time of the process, until a snapshot was written.
        foreign_cores: what others used meanwhile.
    """

    steps_s: tuple[float, ...]
    cpu_s: float
    foreign_cores: float

    @property
    def seconds(self) -> float:
        """All steps."""
        return sum(self.steps_s)

    @property
    def beginning_s(self) -> float:
        """Those that a snapshot can reach."""
        return sum(self.steps_s[:REACHED_STEPS])


def _load(folder: Path, layers: int) -> tuple[Load, int]:
    """The whole model as one segment, and its number of parameters."""
    torch.manual_seed(0)
    model = Transformer(VOCABULARY, WIDTH, layers, heads=8, hidden=HIDDEN, context=CONTEXT)
    tokens = np.random.default_rng(0).integers(0, VOCABULARY, (ROWS, CONTEXT + 1))
    imported = import_module(
        model, language_loss, {"tokens": torch.from_numpy(tokens[: 1])})
    graph, free = imported.graph, replicable(imported.graph)
    trainable = frozenset(p.name for p in imported.parameters if p.trainable)
    placed = [node.index for node in graph.nodes if node.index not in free]
    (segment,) = cut(graph, [placed], trainable)
    values = {p.name: p.value for p in imported.parameters if p.name in segment.parameters}
    for number, (name, value) in enumerate(values.items()):
        (folder / f"parameter {number}").write_bytes(pack({name: value}))
    (folder / "graph").write_bytes(serde.dump(graph))
    (folder / "tokens").write_bytes(pack({"tokens": tokens}))
    training = TrainingSpec(
        steps=1 << 20, batch_size=MICROBATCHES, microbatches=MICROBATCHES, seed=0, clip_norm=0.0,
        optimizer=OptimizerSpec(kind="adamw", learning_rate=1e-4, weight_decay=0.1))
    load = Load(
        graph_path=str(folder / "graph"), segment=segment, training=training,
        trainable=tuple(sorted(trainable)), kind=TRAIN, rows=0,
        parameters=tuple(
            TensorFile(name=name, path=str(folder / f"parameter {number}"))
            for number, name in enumerate(values)),
        columns=(Column(name="tokens", split="train", path=str(folder / "tokens")),),
        result_path=str(folder / "result"), rates=PeerRates(
            matmul_flops_per_s=1e11, attention_flops_per_s=1e11, memory_bytes_per_s=1e10))
    return load, sum(value.size for value in values.values())


class Segment:
    """The segment in its process, one step after the other."""

    def __init__(self, load: Load, device: str, threads: int, folder: Path) -> None:
        names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "peer.executor.child", "--executor", "torch",
             "--device", device, "--threads", str(threads)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, env={
                **os.environ, **dict.fromkeys(names, str(threads)),
                "PYTHONPATH": str(Path(__file__).resolve().parent.parent)})
        self._folder, self._done = folder, 0
        self.written: list[SnapshotWritten] = []
        self._asked = 0
        assert isinstance(self._next(), Started)
        self._ask(load)
        assert isinstance(self._next(), Loaded)

    def close(self) -> None:
        """End the process."""
        self._stream(self._process.stdin).close()
        self._process.wait()
        self._stream(self._process.stdout).close()

    def cpu_s(self) -> float:
        """Processor time of the process so far, all threads."""
        times = psutil.Process(self._process.pid).cpu_times()
        return float(times.user + times.system)

    def step(self) -> None:
        """One step of training."""
        for microbatch in range(MICROBATCHES):
            self._run(TaskKind.FORWARD, microbatch)
            self._run(TaskKind.BACKWARD, microbatch)
        self._run(TaskKind.MEASURE)
        self._run(TaskKind.UPDATE)
        self._done += 1

    def take_snapshot(self) -> None:
        """Ask for one; the next task waits until it is copied."""
        path = self._folder / f"snapshot {self._done % 2}"
        self._ask(TakeSnapshot(path=str(path), position=self._done))
        self._asked += 1

    def until_written(self) -> None:
        """Wait until what was asked for is on the disk."""
        while len(self.written) < self._asked:
            self._next()

    def _run(self, kind: TaskKind, microbatch: int = 0) -> None:
        self._ask(Run(task=Task(
            kind=kind, mode=Mode.TRAIN, step=self._done, microbatch=microbatch, scale=1.0)))
        while isinstance(message := self._next(), SnapshotWritten):
            pass
        if not isinstance(message, Done):
            raise SystemExit(f"The executor answered {message}.")

    def _ask(self, message: Message) -> None:
        write_frame(self._stream(self._process.stdin), control_frame(message))

    def _next(self) -> Message:
        item = read_frame(self._stream(self._process.stdout))
        if item is None:
            raise SystemExit("The executor process ended.")
        message = decode(item[1])
        if isinstance(message, SnapshotWritten):
            self.written.append(message)
        return message

    @staticmethod
    def _stream(stream: Any) -> BinaryIO:
        assert stream is not None
        found: BinaryIO = stream
        return found


def _calibrate(segment: Segment) -> float:
    """Seconds of a step without snapshots, after some snapshots were taken."""
    for _ in range(CALIBRATIONS):
        segment.take_snapshot()
        for _ in range(STEPS_BETWEEN_CALIBRATIONS):
            segment.step()
        segment.until_written()
    times = []
    for _ in range(CALIBRATIONS):
        began = time.perf_counter()
        segment.step()
        times.append(time.perf_counter() - began)
    return median(times)


def _stretch(segment: Segment, steps: int, watch: LoadWatch, *, with_snapshot: bool) -> Stretch:
    moments, began_unix, cpu_s = [time.perf_counter()], time.time(), segment.cpu_s()
    if with_snapshot:
        segment.take_snapshot()
    for _ in range(steps):
        segment.step()
        moments.append(time.perf_counter())
    segment.until_written()
    return Stretch(
        tuple(after - before for before, after in pairwise(moments)), segment.cpu_s() - cpu_s,
        watch.foreign(began_unix, time.time()))


def _pairs(segment: Segment, steps: int, count: int) -> Iterator[tuple[Stretch, Stretch]]:
    """Stretches with and without a snapshot, in turn."""
    with LoadWatch() as watch:
        for number in range(count):
            watch.wait_for_quiet(QUIET_WAIT_S)
            order = (True, False) if number % 2 else (False, True)
            found = {which: _stretch(segment, steps, watch, with_snapshot=which)
                     for which in order}
            yield found[True], found[False]


def _quartiles(values: list[float], digits: int = 4) -> list[float]:
    """[lower quartile, median, upper quartile]."""
    return [round(value, digits) for value in quantiles(values, n=4, method="inclusive")]


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Calibrate, choose the interval, compare."""
    with tempfile.TemporaryDirectory(dir=options.directory, prefix="snapshots-") as name:
        folder = Path(name)
        load, parameters = _load(folder, options.layers)
        segment = Segment(load, options.device, options.threads, folder)
        try:
            for _ in range(WARM_UP_STEPS):
                segment.step()
            step_s = _calibrate(segment)
            alone = list(segment.written)
            copy_s = median(written.copy_s for written in alone)
            interval = options.steps or max(
                REACHED_STEPS, ceil(copy_s / options.budget / step_s))
            pairs = list(_pairs(segment, interval, options.pairs))
            beside = segment.written[len(alone):]
        finally:
            segment.close()
    return _result(options, parameters, step_s, interval, pairs, beside)


def _result(
    options: argparse.Namespace, parameters: int, step_s: float, interval: int,
    pairs: list[tuple[Stretch, Stretch]], written: list[SnapshotWritten],
) -> dict[str, Any]:
    megabytes = written[0].size_bytes / 1e6
    quiet = sorted(pairs, key=lambda pair: max(stretch.foreign_cores for stretch in pair))
    quiet = quiet[:ceil(len(pairs) / 2)]
    cpu_costs = [with_.cpu_s - without.cpu_s for with_, without in pairs]
    costs = [with_.beginning_s - without.beginning_s for with_, without in quiet]
    return {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {platform.system()}",
        "torch": torch.__version__, "device": options.device, "threads": options.threads,
        "parameters": parameters, "snapshot_mb": round(megabytes, 1),
        "budget": options.budget, "pairs": len(pairs),
        "step_s": round(step_s, 4), "interval_steps": interval,
        "interval_s": round(median(without.seconds for _, without in quiet), 2),
        "step_time_ratio": _quartiles([w.seconds / wo.seconds for w, wo in quiet]),
        "cpu_time_ratio": _quartiles([w.cpu_s / wo.cpu_s for w, wo in pairs]),
        "copy_s": _quartiles([w.copy_s for w in written]),
        "write_s": _quartiles([w.write_s for w in written]),
        "copy_ms_per_mb": round(1e3 * median(w.copy_s for w in written) / megabytes, 3),
        "write_ms_per_mb": round(1e3 * median(w.write_s for w in written) / megabytes, 3),
        "cost_s": _quartiles(costs),
        "cost_cpu_s": _quartiles(cpu_costs),
        "slowdown_beside_write": round(
            max(0.0, median(costs) - median(w.copy_s for w in written))
            / median(w.write_s for w in written), 3),
        "goal": GOAL,
        "interval_s_for_goal": round(max(0.0, median(costs)) / GOAL, 2),
        "interval_cpu_s_for_goal": round(max(0.0, median(cpu_costs)) / GOAL, 2),
        "foreign_cores": round(median(
            stretch.foreign_cores for pair in quiet for stretch in pair), 2)}


def show(result: dict[str, Any]) -> None:
    """Print configuration and figures."""
    for key, value in result.items():
        print(f"{key:24} {value}")
    low, middle, high = result["step_time_ratio"]
    print(f"\nA snapshot every {result['interval_steps']} steps costs {100 * (middle - 1):.1f} % "
          f"of the step time ({100 * (low - 1):.1f} to {100 * (high - 1):.1f} %), "
          f"{100 * (result['cpu_time_ratio'][1] - 1):.1f} % of the processor time.")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="end with one JSON object on a line")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--budget", type=float, default=0.03)
    parser.add_argument("--pairs", type=int, default=15)
    parser.add_argument("--steps", type=int, default=0, help="the interval, instead of a budget")
    parser.add_argument("--layers", type=int, default=6)
    parser.add_argument("--directory", default=None)
    options = parser.parse_args()
    result = measure(options)
    show(result)
    if options.json:
        print(json.dumps(result))


if __name__ == "__main__":
    main()
