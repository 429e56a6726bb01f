"""Speed of the torch executor beside the native torch module that does the same work.

    python benchmarks/executor.py [--models gpt2,llama,bert,resnet] [--device cpu] [--threads 1]
                                  [--rounds 15] [--without PASS,PASS] [--ablate] [--json FILE]

The whole model is one segment, called as the driver calls it: `LoadedSegment.forward` (evaluation
against `no_grad`), and `forward` then `backward` (training; gradients add up on both sides). Native
and executor take turns in one process with the same number of threads, and who goes first changes
every round. Figures are ratios executor / native: median and quartiles over the rounds of the ratio
within a round, of wall time and of the process's own CPU time; and the ratio of the two best CPU
times, which other work on the machine moves least. Before anything is timed, loss and gradients are
compared.

`--without` leaves fusions out. `--ablate` loads the model once with all fusions and once without
each that applies to it, and lets these take turns: its figures are best CPU times without the
fusion over best CPU times with all.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from statistics import median, quantiles
from typing import Any
from unittest import mock

import numpy as np
import torch

if not __package__:  # run as a file: its neighbours are found from the checkout
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.executor_models import WORKLOADS, Workload
from dag.job import OptimizerSpec, TrainingSpec
from ir.cut import cut, replicable
from ir.frontends.imported import Imported
from ir.frontends.torch_module import import_module
from ir.passes.fusions import FUSIONS
from peer.executor.base import SegmentProgram, WorkKey
from peer.executor.registry import create
from peer.executor.torch_executor.fusion import KERNELS, fused_nodes
from peer.executor.torch_executor.segment import TorchSegment

SEED = 0
TOLERANCE = 1e-4
"""Largest relative difference of loss and gradient (L2 over all parameters)."""
WARM_UP = 2
EVALUATE = WorkKey(mode="evaluate", step=0, microbatch=0)
TRAIN = WorkKey(mode="train", step=0, microbatch=0)
KINDS = {"forward": "forward", "both": "forward+backward"}


@dataclass(frozen=True, slots=True)
class Seconds:
    """How long one pass took: by the clock, and of this process's CPU time."""

    wall: float
    cpu: float


class Native:
    """The module itself."""

    def __init__(self, workload: Workload, device: torch.device) -> None:
        self._loss, self.model = workload.loss, workload.model.to(device)
        self._batch = {name: value.to(device) for name, value in workload.batch.items()}

    def forward(self) -> None:
        """Evaluate; the loss is read, as the executor reads it."""
        self.model.eval()
        with torch.no_grad():
            self._loss(self.model, self._batch).item()

    def both(self) -> float:
        """Forward and backward, gradients accumulated."""
        self.model.train()
        loss = self._loss(self.model, self._batch)
        loss.backward()
        return loss.item()

    def gradients(self) -> dict[str, np.ndarray]:
        """By parameter name."""
        return {name: p.grad.cpu().numpy() for name, p in self.model.named_parameters()
                if p.grad is not None}


class Ours:
    """The module as one segment of the torch executor."""

    def __init__(self, imported: Imported, workload: Workload, device: str, threads: int) -> None:
        graph = imported.graph
        trainable = frozenset(p.name for p in imported.parameters if p.trainable)
        free = replicable(graph)
        placed = [node.index for node in graph.nodes if node.index not in free]
        (segment,) = cut(graph, [placed], trainable)
        training = TrainingSpec(
            steps=1, batch_size=1, microbatches=1, seed=SEED,
            optimizer=OptimizerSpec(kind="sgd", learning_rate=1.0))
        program = SegmentProgram(
            graph=graph, segment=segment, training=training, trainable=trainable)
        values = {p.name: p.value.copy() for p in imported.parameters
                  if p.name in segment.parameters}
        self.operators = [node.op_type for node in fused_nodes(graph)]
        self.segment: TorchSegment = create("torch", device, threads).load(program, values)
        self._data = {name: workload.batch[name].cpu().numpy() for name in segment.data_inputs}

    def forward(self) -> None:
        """Evaluate."""
        self.segment.forward(EVALUATE, self._data, {})

    def both(self) -> float:
        """Forward and backward, gradients accumulated."""
        loss = self.segment.forward(TRAIN, self._data, {}).loss
        self.segment.backward(TRAIN, {})
        assert loss is not None
        return loss

    def gradients(self) -> dict[str, np.ndarray]:
        """By parameter name; of everything since the last call."""
        self.segment.squared_norms({})
        found = self.segment._gradients or {}
        return {name: gradient.cpu().numpy().copy() for name, gradient in found.items()}


def check_agreement(native: Native, ours: Ours) -> None:
    """Stop where the two do not do the same work."""
    expected, measured = native.both(), ours.both()
    theirs, mine = native.gradients(), ours.gradients()
    if theirs.keys() != mine.keys():
        raise SystemExit(f"Different gradients: {sorted(theirs.keys() ^ mine.keys())}")
    difference = sum(float(np.sum((theirs[n] - mine[n]) ** 2, dtype=np.float64)) for n in mine)
    size = sum(float(np.sum(theirs[n] ** 2, dtype=np.float64)) for n in mine)
    relative = (difference / size) ** 0.5
    if abs(measured - expected) > TOLERANCE * abs(expected) or relative > TOLERANCE:
        raise SystemExit(f"Loss {measured} for {expected}; gradients differ by {relative:.2e}.")


def timed(run: Callable[[], object], device: torch.device) -> Seconds:
    """One pass, with the device idle before and after."""
    if device.type == "cuda":
        torch.cuda.synchronize()
    wall, cpu = time.perf_counter(), time.process_time()
    run()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return Seconds(time.perf_counter() - wall, time.process_time() - cpu)


def take_turns(
    runs: Mapping[str, Callable[[], object]], rounds: int, device: torch.device
) -> dict[str, list[Seconds]]:
    """Time every run once per round; the order turns with each round."""
    for run in list(runs.values()) * WARM_UP:
        run()
    result: dict[str, list[Seconds]] = {name: [] for name in runs}
    for number in range(rounds):
        names = list(runs)
        for name in names if number % 2 == 0 else names[::-1]:
            result[name].append(timed(runs[name], device))
    return result


def ratios(over: list[Seconds], under: list[Seconds]) -> dict[str, Any]:
    """Quartiles of the ratio within one round, of wall and of CPU time."""
    pairs = list(zip(over, under, strict=True))
    return {
        "wall": quartiles([a.wall / b.wall for a, b in pairs]),
        "cpu": quartiles([a.cpu / b.cpu for a, b in pairs]),
        "best_cpu": round(min(a.cpu for a in over) / min(b.cpu for b in under), 3),
        "native_ms": round(1e3 * median(b.wall for b in under), 2)}


def quartiles(values: list[float]) -> list[float]:
    """[lower quartile, median, upper quartile]."""
    return [round(value, 3) for value in quantiles(values, n=4, method="inclusive")]


def left_out(names: tuple[str, ...]) -> ExitStack:
    """While open, the fusions in `names` are not there.

    Raises:
        SystemExit: for a name that is none.
    """
    unknown = set(names) - FUSIONS.keys() - KERNELS.keys()
    if unknown:
        raise SystemExit(f"No such fusion: {sorted(unknown)}.")
    stack = ExitStack()
    for table in (FUSIONS, KERNELS):
        kept = {name: fuse for name, fuse in table.items() if name not in names}
        stack.enter_context(mock.patch.dict(table, kept, clear=True))
    return stack


def loaded(
    workload: Workload, device: torch.device, threads: int, without: tuple[str, ...]
) -> Ours:
    """Import and load a workload with some fusions left out."""
    with left_out(without):
        imported = import_module(workload.model, workload.loss, dict(workload.batch))
        return Ours(imported, workload, str(device), threads)


def measure(
    name: str, device: torch.device, threads: int, rounds: int, without: tuple[str, ...]
) -> dict[str, Any]:
    """Both passes of one model beside the native one."""
    torch.manual_seed(SEED)
    workload = WORKLOADS[name]()
    ours = loaded(workload, device, threads, without)
    native = Native(workload, device)
    check_agreement(native, ours)
    result: dict[str, Any] = {"nodes": len(ours.operators)}
    for kind in KINDS:
        times = take_turns(
            {"native": getattr(native, kind), "ours": getattr(ours, kind)}, rounds, device)
        result[kind] = ratios(times["ours"], times["native"])
    return result


def ablate(name: str, device: torch.device, threads: int, rounds: int) -> dict[str, Any]:
    """Both passes of one model without each fusion that applies to it, over those with all."""
    torch.manual_seed(SEED)
    workload = WORKLOADS[name]()
    variants = {"": loaded(workload, device, threads, ())}
    for fusion in (*FUSIONS, *KERNELS):
        variant = loaded(workload, device, threads, (fusion,))
        if variant.operators != variants[""].operators:
            variants[fusion] = variant
    result: dict[str, Any] = {fusion: {} for fusion in variants if fusion}
    for kind in KINDS:
        runs = {fusion: getattr(variant, kind) for fusion, variant in variants.items()}
        best = {fusion: min(t.cpu for t in times)
                for fusion, times in take_turns(runs, rounds, device).items()}
        for fusion, figures in result.items():
            figures[kind] = round(best[fusion] / best[""], 3)
    return result


def show(results: Mapping[str, Mapping[str, Any]]) -> None:
    """Print the table."""
    print(f"{'model':<8}{'pass':<18}{'native ms':>10}{'wall ratio (quartiles)':>28}"
          f"{'CPU ratio (quartiles)':>28}{'best CPU':>10}")
    for name, result in results.items():
        for kind, label in KINDS.items():
            row = result[kind]
            cells = "".join(
                f"{f'{middle:.3f} ({low:.3f} to {high:.3f})':>28}"
                for low, middle, high in (row["wall"], row["cpu"]))
            print(f"{name:<8}{label:<18}{row['native_ms']:>10.1f}{cells}{row['best_cpu']:>10.3f}")


def show_ablation(results: Mapping[str, Mapping[str, Any]]) -> None:
    """Print the table of `ablate`."""
    print(f"{'model':<8}{'without':<16}" + "".join(f"{label:>18}" for label in KINDS.values()))
    for name, fusions in results.items():
        for fusion, figures in fusions.items():
            print(f"{name:<8}{fusion:<16}" + "".join(f"{figures[kind]:>18.3f}" for kind in KINDS))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", metavar="FILE", type=Path, help="also write the figures here")
    parser.add_argument("--models", default=",".join(WORKLOADS))
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--without", default="", help="fusions to leave out, with commas")
    parser.add_argument("--ablate", action="store_true", help="what each fusion saves")
    arguments = parser.parse_args()
    threads, rounds, models = arguments.threads, arguments.rounds, arguments.models.split(",")
    torch.set_num_threads(threads)
    device = torch.device(arguments.device)
    if arguments.ablate:
        results = {name: ablate(name, device, threads, rounds) for name in models}
        show_ablation(results)
    else:
        without = tuple(filter(None, arguments.without.split(",")))
        results = {name: measure(name, device, threads, rounds, without) for name in models}
        show(results)
    if arguments.json:
        config = {**vars(arguments), "json": None, "torch": torch.__version__,
                  "python": platform.python_version(), "machine": platform.machine(),
                  "cpus": os.cpu_count()}
        arguments.json.write_text(json.dumps({"config": config, "models": results}, indent=1))


if __name__ == "__main__":
    main()
