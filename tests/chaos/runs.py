"""Jobs under chaos: started, watched as events come in, and compared with the undisturbed run."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import homespun
from examples.transformer import Transformer, language_loss
from homespun.client import Client
from homespun.errors import HomespunError
from homespun.status import JobStatus
from tests.chaos import history
from tests.chaos.network import ChaosNetwork

WAIT_S = 180.0
"""Only so that what hangs fails with a name."""
VOCAB, LENGTH, ROWS, SEGMENTS = 64, 32, 96, 3
Weights = Mapping[str, bytes]


def arguments(steps: int, **changes: Any) -> dict[str, Any]:
    """Arguments of `Client.train`: a small transformer, with everything that has state or waits.

    Dropout draws numbers, clipping waits for all segments, the tied embedding crosses them.
    """
    torch.manual_seed(0)
    model = Transformer(
        vocab=VOCAB, width=32, layers=4, heads=4, hidden=48, context=LENGTH, dropout=0.1)
    tokens = np.random.default_rng(0).integers(0, VOCAB, (ROWS, LENGTH + 1))
    return {
        "model": model, "loss": language_loss, "data": {"tokens": tokens}, "steps": steps,
        "batch_size": 16, "microbatches": 4, "optimizer": homespun.AdamW(lr=3e-3),
        "clip_norm": 0.5, "seed": 7} | changes


class Run:
    """One job, watched from a thread of its own.

    Attributes:
        job: the job.
        began_s: when it was submitted, Unix seconds.
    """

    def __init__(
        self, network: ChaosNetwork, client: Client, given: Mapping[str, Any],
        peers: int = SEGMENTS,
    ) -> None:
        self._network = network
        self._steps = given["steps"]
        self.began_s = time.time()
        self.job = client.train(**given, peers=peers)
        self.seen: list[int] = []
        self._status: JobStatus | None = None
        self._error: HomespunError | None = None
        self._told = threading.Condition()
        threading.Thread(target=self._watch, daemon=True).start()

    def _watch(self) -> None:
        try:
            for update in self.job.updates():
                with self._told:
                    self._status = update.status
                    self.seen += [metric.step for metric in update.steps]
                    self._told.notify_all()
        except HomespunError as error:
            with self._told:
                self._error = error
                self._told.notify_all()

    def until(
        self, is_so: Callable[[JobStatus], bool], what: str, timeout_s: float = WAIT_S
    ) -> JobStatus:
        """Wait until the job's status is as wanted; it must not end before."""
        def decided() -> bool:
            status = self._status
            return self._error is not None or (status is not None and (
                status.is_final or is_so(status)))

        with self._told:
            in_time = self._told.wait_for(decided, timeout_s)
            status, error = self._status, self._error
        if error is not None:
            raise error
        if status is None or not in_time:
            pytest.fail(f"not so within {timeout_s:.0f} s: {what}; the job: {shown(status)}")
        if not is_so(status):
            pytest.fail(f"the job ended before {what}: {shown(status)}")
        return status

    def until_step(self, step: int) -> JobStatus:
        """Wait until every segment has applied so many steps."""
        return self.until(lambda status: status.steps_done >= step, f"{step} steps are done")

    def until_moved(self, segment: int, token: int, beyond: int = 2) -> JobStatus:
        """Wait until a segment has another lease than `token`, and the job gets on with it."""
        moved = self.until(
            lambda status: status.state == "running" and status.segments[segment].token != token,
            f"segment {segment} has a new holder")
        return self.until_step(min(self._steps, moved.steps_done + beyond))

    def finished(self) -> JobStatus:
        """Wait for the end; it must have succeeded."""
        status = self.until(lambda status: status.is_final, "its end", 2 * WAIT_S)
        assert status.state == "succeeded", shown(status)
        return status

    def weights(self, folder: Path) -> Weights:
        """Name -> bytes of each trained tensor, at the end."""
        self.finished()
        result = self.job.result(folder / f"{self.job.id}.safetensors")
        return {name: tensor.contiguous().view(torch.uint8).numpy().tobytes()
                for name, tensor in result.state_dict().items()}

    def history(self) -> history.History:
        """What the journal says, at the end."""
        self.finished()
        return history.read(self._network.broker_directory, self.job.id)

    def violations(self, folder: Path, reference: Weights) -> list[str]:
        """What must never be, in words: of the history, of the watcher, of the final weights."""
        found = self.history().violations(self._steps)
        if self.seen != list(range(self._steps)):
            found.append("the watcher did not see each step once, in order")
        weights = self.weights(folder)
        different = [name for name in reference if weights.get(name) != reference[name]]
        if different or weights.keys() != reference.keys():
            found.append(f"{len(different)} of {len(reference)} tensors differ from the "
                         f"undisturbed run's, such as {different[:1]}")
        return found


def shown(status: JobStatus | None) -> str:
    """A status for a failed test."""
    if status is None:
        return "unknown"
    segments = [(segment.peer_name, segment.phase, segment.step, segment.waiting_for)
                for segment in status.segments]
    return (f"{status.state}, step {status.steps_done}, {status.error_code} "
            f"{status.error_message}, segments {segments}")
