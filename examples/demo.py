"""A whole network on this machine trains a small language model; run by `make demo`.

A broker, three peers and a spare one, each a process with an identity of its own, talk over mutual
TLS as they would between homes. Half way one of the three is killed, and the spare one takes its
part over. The same job then runs undisturbed on one peer, and the program fails unless both give
the same weights, bit by bit. What is left behind is in `demo-run/`.
"""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Thread

import torch

import homespun
from examples.english import Text, english
from examples.transformer import Transformer, generate, language_loss
from homespun.errors import HomespunError
from homespun.local_client import LocalClient
from homespun.local_network import LocalNetwork
from homespun.status import JobMetrics, JobStatus
from homespun.units import format_duration, format_size
from homespun.watching import show

DIRECTORY = Path("demo-run")
PEERS = 3
SPARE_PEERS = 1
CONTEXT = 128
STEPS = 300
BATCH_SIZE = 4
VALIDATION_ROWS = 64
SEED = 1
JOB_TIMEOUT_S = 1_800.0
LABELS = (
    "first training loss", "last training loss", "first validation loss", "last validation loss",
    "time per step", "tokens per second", "sent between peers",
)
PROMPTS = (b"The function returns ", b"If the object is ", b"This module ")


@dataclass(frozen=True, slots=True)
class Run:
    """One finished job and what it made."""

    status: JobStatus
    metrics: JobMetrics
    result: homespun.Result

    @property
    def peers(self) -> str:
        """On how many peers it ran, in words."""
        count = len({segment.peer_id for segment in self.status.segments})
        return f"{count} peer{'' if count == 1 else 's'}"

    def validation(self) -> list[float]:
        """Validation losses, the one before training first."""
        return [metric.loss for metric in self.metrics.evaluations]

    def losses(self) -> list[float]:
        """Training losses by step."""
        return [metric.loss for metric in self.metrics.steps]

    def step_s(self) -> float:
        """Mean time from one step to the next, in seconds; the first one is the warm-up."""
        first, last = self.metrics.steps[1], self.metrics.steps[-1]
        return (last.unix_ms - first.unix_ms) / 1000 / (last.step - first.step)

    def figures(self) -> tuple[str, ...]:
        """What `LABELS` name, as text."""
        losses = (self.losses()[0], self.losses()[-1], *self.validation())
        sent = sum(link.sent_bytes for part in self.status.segments for link in part.links)
        speed = BATCH_SIZE * CONTEXT / self.step_s()
        return (*(f"{loss:.4f}" for loss in losses), format_duration(self.step_s()),
                f"{speed:,.0f}", format_size(sent))


def main() -> int:
    """Run the demo; 0 when all went as promised."""
    began_s = time.monotonic()
    torch.set_num_threads(1)  # the peers need the cores
    try:
        problems = _demo()
    except HomespunError as error:
        say(f"{error.message} [{error.code}]\n  {error.remedy}")
        return error.exit_code
    except KeyboardInterrupt:
        say("interrupted; every process of the demo has ended")
        return 130
    for problem in problems:
        say(f"WRONG: {problem}")
    say(f"{'Failed' if problems else 'Done'} after {format_duration(time.monotonic() - began_s)}.")
    return 1 if problems else 0


def _demo() -> list[str]:
    with part("Gathering English from Python's own documentation"):
        text = english(CONTEXT)
    model = new_model()
    count = sum(parameter.numel() for parameter in model.parameters())
    say(f"  {text.train.size / 1e6:.1f} million bytes to learn from; the model has "
        f"{count / 1e6:.1f} million parameters.")
    shutil.rmtree(DIRECTORY, ignore_errors=True)
    with ExitStack() as stack:
        with part(f"Starting a broker and {PEERS + SPARE_PEERS} peers as separate processes"):
            client = stack.enter_context(homespun.local(
                PEERS + SPARE_PEERS, directory=DIRECTORY, notify=lambda said: None))
        loss = Loss(client.network)
        several = train(client, model, text, PEERS, loss.watch)
        one = train(client, model, text, 1)
    report_loss(loss, several)
    report(several, one)
    trained = new_model()
    trained.load_state_dict(several.result.state_dict())
    show_samples(trained)
    return problems_of(several, one)


def new_model() -> Transformer:
    """The model, always with the same first weights."""
    torch.manual_seed(SEED)
    return Transformer(width=256, layers=6, heads=8, hidden=704, context=CONTEXT)


class Loss:
    """One peer's sudden end, half way through a job.

    Attributes:
        name: of the peer that was killed; "" before.
        step: steps that were done by then.
        unix_ms: when.
    """

    def __init__(self, network: LocalNetwork) -> None:
        self._network = network
        self.name, self.step, self.unix_ms = "", 0, 0

    def watch(self, job: homespun.Job) -> None:
        """Follow a job beside its display, and kill the peer of its middle segment half way."""
        Thread(target=self._follow, args=(job,), daemon=True).start()

    def _follow(self, job: homespun.Job) -> None:
        for update in job.updates(timeout_s=JOB_TIMEOUT_S):
            status = update.status
            if status.steps_done >= STEPS // 2:
                self.name = status.segments[len(status.segments) // 2].peer_name
                self.step, self.unix_ms = status.steps_done, time.time_ns() // 1_000_000
                self._network.kill(self.name)
                return

    def gap_s(self, run: Run) -> float:
        """Time from the kill to the next step that was done."""
        return min(metric.unix_ms - self.unix_ms for metric in run.metrics.steps
                   if metric.unix_ms > self.unix_ms + 1) / 1000


def report_loss(loss: Loss, run: Run) -> None:
    """Say what was killed, and who went on."""
    holder = run.status.segments[len(run.status.segments) // 2].peer_name
    say(f"\nAfter step {loss.step} {loss.name} was killed; {holder} took its part over. The next "
        f"step was\ndone {loss.gap_s(run):.1f} s later. No step was lost or done twice.")


def train(
    client: LocalClient, model: Transformer, text: Text, peers: int,
    meanwhile: Callable[[homespun.Job], None] = lambda job: None,
) -> Run:
    """Train on so many peers, showing the progress; `meanwhile` is called once it is submitted.

    Raises:
        HomespunError: what the job failed with.
    """
    with part(f"Submitting the job, for {peers} peer{'s' if peers > 1 else ''}"):
        job = client.train(
            model,
            loss=language_loss,
            data={"tokens": text.train},
            validation={"tokens": text.validation[:VALIDATION_ROWS]},
            optimizer=homespun.AdamW(lr=1e-3, betas=(0.9, 0.95), weight_decay=0.1),
            schedule=homespun.Cosine(warmup_steps=STEPS // 10, final_ratio=0.05),
            clip_norm=1.0, steps=STEPS, batch_size=BATCH_SIZE, seed=SEED, peers=peers,
            name=f"demo on {peers}",
        )
    meanwhile(job)
    error = show(job, timeout_s=JOB_TIMEOUT_S, tokens_per_sample=CONTEXT).error()
    if error is not None:
        raise SystemExit(error.exit_code)  # the display has said it
    result = job.result(DIRECTORY / f"trained-by-{peers}.safetensors")
    return Run(job.status(), job.curves(), result)


def report(several: Run, one: Run) -> None:
    """Print losses, times, traffic and where the weights are."""
    same = "identical, bit by bit" if same_weights(several, one) else "DIFFERENT"
    rows = zip(LABELS, several.figures(), one.figures(), strict=True)
    say("")
    for label, left, right in (("", several.peers, one.peers), *rows):
        say(f"  {label:<24}{left:>14}{right:>14}")
    say(f"  weights                 {same}\n")
    cores = os.cpu_count() or 1
    say(f"All peers share the {cores} cores of this computer and use one thread each, so here\n"
        f"{PEERS} can be at most {min(cores, PEERS)} times as fast as one. Splitting is meant for "
        "several computers,\nand for models that none of them can hold.\n")
    say(f"Trained weights, under the model's own names: {several.result.path}")


def show_samples(model: Transformer) -> None:
    """Print what the original module writes with the trained weights."""
    say("\nThe original PyTorch module, with these weights, writes:")
    for seed, prompt in enumerate(PROMPTS):
        text = generate(model, prompt, 160, temperature=0.6, seed=seed).decode("ascii", "replace")
        say(f"  {prompt.decode()}|{text}")
    say("")


def problems_of(several: Run, one: Run) -> list[str]:
    """What is not as promised, in words."""
    problems = []
    for run in (several, one):
        losses, validation = run.losses(), run.validation()
        if len(losses) != STEPS:
            problems.append(f"{run.status.name}: {len(losses)} of {STEPS} losses were reported")
        if not losses[-1] < losses[0]:
            problems.append(f"{run.status.name}: the training loss did not fall")
        if not validation[-1] < validation[0]:
            problems.append(f"{run.status.name}: the validation loss did not fall")
    if len({segment.peer_id for segment in several.status.segments}) != PEERS:
        problems.append(f"the job ran on {several.peers}, not on {PEERS}")
    if not same_weights(several, one):
        problems.append(f"{PEERS} peers and one give different weights")
    return problems


def same_weights(several: Run, one: Run) -> bool:
    """Tell whether all tensors of two results are the same, bit by bit."""
    left, right = several.result.state_dict(), one.result.state_dict()
    return left.keys() == right.keys() and all(
        torch.equal(left[name].view(torch.uint8), right[name].view(torch.uint8)) for name in left)


def say(text: str) -> None:
    """Write for people, at once."""
    print(text, flush=True)


@contextmanager
def part(title: str) -> Iterator[None]:
    """Say what begins, and how long it took."""
    print(f"{title} ... ", end="", flush=True)
    began_s = time.monotonic()
    yield
    say(format_duration(time.monotonic() - began_s))


if __name__ == "__main__":
    sys.exit(main())
