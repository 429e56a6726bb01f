"""The systems that `train_throughput` compares with, as processes told over pipes what to run.

    python -m benchmarks.train_workers native|pipelining --workload '{...}' [--rank 0 --store FILE]

A worker reads lines of JSON `{"microbatches": m, "steps": n}` and answers each with the seconds and
the loss of every step. It computes nothing between two lines, so systems can take turns on the same
cores. All systems train the same model on the same batches with the same update.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.pipelining import PipelineStage, Schedule1F1B
from torch.nn import functional as F  # noqa: N812

from examples.transformer import Transformer, language_loss
from homespun.sampling import batch_rows

RATE = 3e-4
SEED = 0
ROWS = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """What everybody trains.

    Attributes:
        width, layers, heads, hidden: the transformer's sizes.
        vocab: distinct tokens.
        context: tokens of a sequence.
        batch: sequences per optimizer step.
    """

    width: int
    layers: int
    heads: int
    hidden: int
    vocab: int
    context: int
    batch: int

    @property
    def step_tokens(self) -> int:
        """Tokens of one optimizer step."""
        return self.batch * self.context

    def model(self) -> Transformer:
        """The model with its first weights: the same in every process."""
        torch.manual_seed(SEED)
        return Transformer(
            vocab=self.vocab, width=self.width, layers=self.layers, heads=self.heads,
            hidden=self.hidden, context=self.context, tied=False)

    def tokens(self) -> npt.NDArray[np.int64]:
        """Training rows, int64 [ROWS, context + 1]: counting with noise, so the loss can fall."""
        random = np.random.default_rng(SEED)
        starts = random.integers(0, self.vocab, (ROWS, 1))
        strides = random.integers(1, 5, (ROWS, 1))
        noise = random.random((ROWS, self.context + 1)) < 0.1
        clean = starts + strides * np.arange(self.context + 1)
        return ((clean + noise * random.integers(0, self.vocab, noise.shape)) % self.vocab).astype(
            np.int64)

    def batch_of(self, tokens: npt.NDArray[np.int64], step: int) -> Tensor:
        """The batch of a step, as Homespun draws it."""
        return torch.from_numpy(tokens[batch_rows(SEED, step, self.batch, len(tokens))])


Step = Callable[[int, int], float]
"""(step, microbatches) -> loss."""


def native(workload: Workload) -> Step:
    """One process: gradients accumulate over the microbatches, then one update."""
    model, tokens = workload.model(), workload.tokens()
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, fused=True)

    def run(step: int, microbatches: int) -> float:
        total = 0.0
        for part in workload.batch_of(tokens, step).chunk(microbatches):
            loss = language_loss(model, {"tokens": part}) / microbatches
            loss.backward()
            total += loss.item()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return total

    return run


class _Half(nn.Module):
    """Half of the model: embedding and first blocks, or the other blocks and the head."""

    def __init__(self, model: Transformer, *, is_first: bool) -> None:
        super().__init__()
        half = len(model.blocks) // 2
        self.embed = model.embed if is_first else nn.Identity()
        self.blocks = model.blocks[:half] if is_first else model.blocks[half:]
        self.norm = nn.Identity() if is_first else model.norm
        self.head = nn.Identity() if is_first else model.head
        self.register_buffer("cosine", model.cosine)
        self.register_buffer("sine", model.sine)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        for block in self.blocks:
            x = block(x, self.cosine, self.sine)
        return self.head(self.norm(x))


def pipelining(workload: Workload, rank: int) -> Step:
    """One of two processes of torch's own pipeline, 1F1B over Gloo."""
    tokens = workload.tokens()
    half = _Half(workload.model(), is_first=rank == 0)
    optimizer = torch.optim.AdamW(half.parameters(), lr=RATE, fused=True)
    schedules: dict[int, Schedule1F1B] = {}

    def schedule(microbatches: int) -> Schedule1F1B:
        if microbatches not in schedules:
            stage = PipelineStage(half, rank, 2, torch.device("cpu"))
            schedules[microbatches] = Schedule1F1B(
                stage, microbatches,
                loss_fn=lambda logits, wanted: F.cross_entropy(
                    logits.flatten(0, 1), wanted.flatten()))
        return schedules[microbatches]

    def run(step: int, microbatches: int) -> float:
        batch, losses = workload.batch_of(tokens, step), list[Tensor]()
        if rank == 0:
            schedule(microbatches).step(batch[:, :-1].contiguous())
        else:
            schedule(microbatches).step(target=batch[:, 1:].contiguous(), losses=losses)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return sum(loss.item() for loss in losses) / microbatches

    return run


def _parts(arguments: argparse.Namespace) -> tuple[Step, Callable[[], None]]:
    """How to run a step, and how to wait for the other process."""
    workload = Workload(**json.loads(arguments.workload))
    torch.set_num_threads(arguments.threads)
    if arguments.system == "native":
        return native(workload), lambda: None
    store = dist.FileStore(str(arguments.store), 2)
    dist.init_process_group("gloo", store=store, rank=arguments.rank, world_size=2)
    return pipelining(workload, arguments.rank), dist.barrier


def main() -> None:
    """Serve until standard input ends."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("system", choices=("native", "pipelining"))
    parser.add_argument("--workload", required=True, help="the fields of Workload, as JSON")
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--rank", type=int, default=0)
    parser.add_argument("--store", type=Path, default=Path("store"))
    arguments = parser.parse_args()
    run, wait = _parts(arguments)
    step = 0
    for line in sys.stdin:
        order = json.loads(line)
        seconds, losses = [], []
        wait()
        for _ in range(order["steps"]):
            began_s = time.perf_counter()
            losses.append(run(step, order["microbatches"]))
            wait()  # a step is over when both processes have updated
            seconds.append(time.perf_counter() - began_s)
            step += 1
        print(json.dumps({"seconds": seconds, "losses": losses}), flush=True)


class Workers:
    """The processes of one system, seen from the benchmark."""

    def __init__(self, processes: list[Any]) -> None:
        self._processes = processes

    def run(self, microbatches: int, steps: int) -> tuple[list[float], list[float]]:
        """Seconds and losses of some more steps.

        Raises:
            RuntimeError: a process has ended.
        """
        for process in self._processes:
            process.stdin.write(json.dumps({"microbatches": microbatches, "steps": steps}) + "\n")
            process.stdin.flush()
        answers = [process.stdout.readline() for process in self._processes]
        if not all(answers):
            raise RuntimeError("a worker has ended; see what it wrote to standard error")
        last = json.loads(answers[-1])  # of two pipeline stages, the last one has the loss
        return last["seconds"], last["losses"]


@contextmanager
def workers(system: str, workload: str, store: Path) -> Iterator[Workers]:
    """Start `native` (one process, 2 threads) or `pipelining` (two processes, 1 thread each)."""
    ranks, threads = ((0,), 2) if system == "native" else ((0, 1), 1)
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "benchmarks.train_workers", system, "--workload", workload,
             "--threads", str(threads), "--rank", str(rank), "--store", str(store)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env={**os.environ, "OMP_NUM_THREADS": str(threads)})
        for rank in ranks]
    try:
        yield Workers(processes)
    finally:
        for process in processes:
            process.kill()
            process.wait()


if __name__ == "__main__":
    main()
