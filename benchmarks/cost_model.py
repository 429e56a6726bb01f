"""Predicted beside measured time of whole models through one executor, forward and backward.

    python benchmarks/cost_model.py [--models tiny,transformer,cnn,gpt2] [--executor torch]
                                    [--seconds 4] [--rounds 3] [--json FILE]

The device's rates are measured as a peer does it at its first start. Each model is one segment on
one thread, called as the driver calls it. In every round the models run one after the other, then
each teaches its corrections, as a lease does when it ends. Figures are predicted over measured
time: by the rates alone, and with what the rounds before have taught.

Times are CPU times of this process, and medians, on both sides: other work on the machine slows
caches and memory down for all that is timed here alike. (A peer takes the fastest runs and the
clock on the wall; where nothing else runs, that is the same.)
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
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import median
from types import SimpleNamespace
from typing import Any
from unittest import mock

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

if not __package__:  # run as a file: its neighbours are found from the checkout
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.executor_models import Workload, gpt2
from dag.cluster import BACKWARD, FORWARD, PeerRates
from dag.cost import WorkSeconds, graph_costs, work_seconds
from dag.job import OptimizerSpec, TrainingSpec
from ir.cut import cut, replicable
from ir.frontends.torch_module import import_module
from peer.core.refinement import refined
from peer.executor import overheads, rates
from peer.executor.base import LoadedSegment, SegmentProgram, WorkKey
from peer.executor.registry import create

SEED = 0
TRAIN = WorkKey(mode="train", step=0, microbatch=0)
_SPEC = TrainingSpec(
    steps=1, batch_size=1, microbatches=1, seed=SEED,
    optimizer=OptimizerSpec(kind="sgd", learning_rate=0.0))


def _classified(model: nn.Module, batch: Mapping[str, Tensor]) -> Tensor:
    return F.cross_entropy(model(batch["x"]).flatten(0, -2), batch["y"].flatten())


def tiny() -> Workload:
    """Twelve small layers: what starting an operator takes decides."""
    layers = [part for _ in range(12) for part in (nn.Linear(64, 64), nn.Tanh())]
    return Workload(
        nn.Sequential(*layers, nn.Linear(64, 10)), _classified,
        {"x": torch.randn(16, 64), "y": torch.randint(0, 10, (16,))})


def transformer() -> Workload:
    """Four blocks of width 128 over 4 x 64 tokens."""
    blocks = [nn.TransformerEncoderLayer(128, 4, 256, 0.0, batch_first=True, activation="gelu")
              for _ in range(4)]
    model = nn.Sequential(nn.Embedding(256, 128), *blocks, nn.Linear(128, 256))
    return Workload(model, _classified, {
        "x": torch.randint(0, 256, (4, 64)), "y": torch.randint(0, 256, (4, 64))})


def cnn() -> Workload:
    """Four convolutions with batch normalisation on 8 images of 32 x 32."""
    parts: list[nn.Module] = []
    for inner, outer, stride in ((3, 32, 1), (32, 64, 2), (64, 64, 1), (64, 128, 2)):
        parts += [nn.Conv2d(inner, outer, 3, stride, 1), nn.BatchNorm2d(outer), nn.ReLU()]
    model = nn.Sequential(*parts, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(128, 10))
    return Workload(model, _classified, {
        "x": torch.randn(8, 3, 32, 32), "y": torch.randint(0, 10, (8,))})


MODELS: Mapping[str, Callable[[], Workload]] = {
    "tiny": tiny, "transformer": transformer, "cnn": cnn, "gpt2": gpt2}


@dataclass(frozen=True, slots=True, eq=False)
class Loaded:
    """One model on the executor, and what it should take."""

    segment: LoadedSegment
    data: dict[str, Any]
    predicted: tuple[WorkSeconds, ...]
    nodes: int

    def run(self, seconds: float) -> dict[str, float]:
        """Median CPU seconds by direction, over so many seconds of runs."""
        times: list[tuple[float, float]] = []
        began = time.perf_counter()
        while len(times) < 5 or time.perf_counter() - began < seconds:
            start = time.process_time()
            self.segment.forward(TRAIN, self.data, {})
            middle = time.process_time()
            self.segment.backward(TRAIN, {})
            times.append((middle - start, time.process_time() - middle))
        return {FORWARD: median(there for there, _ in times[1:]),
                BACKWARD: median(back for _, back in times[1:])}


def load(name: str, executor: str, measured: PeerRates) -> Loaded:
    """Import a model as one segment."""
    torch.manual_seed(SEED)
    workload = MODELS[name]()
    imported = import_module(workload.model, workload.loss, dict(workload.batch))
    graph = imported.graph
    trainable = frozenset(p.name for p in imported.parameters if p.trainable)
    free = replicable(graph)
    (segment,) = cut(
        graph, [[node.index for node in graph.nodes if node.index not in free]], trainable)
    program = SegmentProgram(graph=graph, segment=segment, training=_SPEC, trainable=trainable)
    values = {p.name: p.value.copy() for p in imported.parameters if p.name in segment.parameters}
    return Loaded(
        create(executor, "cpu", 1).load(program, values),
        {column: workload.batch[column].numpy() for column in segment.data_inputs},
        work_seconds(graph_costs(graph, trainable), segment, measured, _SPEC), len(segment.nodes))


def device_rates(executor: str) -> PeerRates:
    """The rates of this machine, by CPU time and medians."""
    clock = SimpleNamespace(perf_counter=time.process_time)
    with ExitStack() as patches:
        for module in (rates, overheads):
            patches.enter_context(mock.patch.object(module, "time", clock))
            patches.enter_context(mock.patch.object(module, "min", median, create=True))
        return create(executor, "cpu", 1).measured_rates()


def predicted_s(known: PeerRates, model: Loaded, direction: str) -> float:
    """What a model should take, with corrections."""
    return sum(work.seconds * known.correction(direction, work.op_class)
               for work in model.predicted if work.direction == direction)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", default=",".join(MODELS))
    parser.add_argument("--executor", default="torch")
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", metavar="FILE", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    began = time.perf_counter()
    known = device_rates(arguments.executor)
    took_s = time.perf_counter() - began
    models = {name: load(name, arguments.executor, known) for name in arguments.models.split(",")}
    rows = []
    print(f"rates measured in {took_s:.1f} s: {known}")
    print(f"{'round':<6}{'model':<13}{'nodes':>6}{'direction':>10}{'measured ms':>13}{'ratio':>8}")
    for number in range(arguments.rounds):
        taught = known
        for name, model in models.items():
            measured = model.run(arguments.seconds)
            for direction, seconds in measured.items():
                ratio = predicted_s(known, model, direction) / seconds
                rows.append({"round": number, "model": name, "direction": direction,
                             "measured_s": seconds, "ratio": ratio})
                print(f"{number:<6}{name:<13}{model.nodes:>6}{direction:>10}"
                      f"{1e3 * seconds:>13.2f}{ratio:>8.2f}", flush=True)
            corrections = refined(taught.corrections, model.predicted, measured)
            taught = replace(taught, corrections=corrections)
        known = taught
    if arguments.json:
        config = {**vars(arguments), "json": None, "torch": torch.__version__,
                  "python": platform.python_version(), "machine": platform.machine(),
                  "cpus": os.cpu_count(), "load": os.getloadavg()}
        arguments.json.write_text(json.dumps(
            {"config": config, "rates": asdict(known), "seconds": took_s, "rows": rows}, indent=1))


if __name__ == "__main__":
    main()
