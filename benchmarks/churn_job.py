"""The job that benchmarks of churn train, and a thread that watches it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

import homespun
from examples.transformer import Transformer, language_loss
from homespun.errors import HomespunError
from homespun.job import Job
from homespun.status import JobStatus

VOCAB, LENGTH, ROWS = 64, 32, 96
OUTAGE_S = 3_600.0
"""Longest that a watch waits for a broker that is away."""
MODEL = "decoder-only transformer, 4 layers of width 32, context 32, dropout 0.1, AdamW, clipping"


def arguments(steps: int) -> dict[str, Any]:
    """Arguments of `Client.train` for a small transformer, the same at every call."""
    torch.manual_seed(0)
    model = Transformer(
        vocab=VOCAB, width=32, layers=4, heads=4, hidden=48, context=LENGTH, dropout=0.1)
    tokens = np.random.default_rng(0).integers(0, VOCAB, (ROWS, LENGTH + 1))
    return {
        "model": model, "loss": language_loss, "data": {"tokens": tokens}, "steps": steps,
        "batch_size": 16, "microbatches": 4, "optimizer": homespun.AdamW(lr=3e-3),
        "clip_norm": 0.5, "seed": 7}


class JobWatch:
    """Follows a job from a thread of its own; the latest status is there without asking.

    Attributes:
        status: the latest; None before the first.
        seen: steps whose loss was reported, in the order of the reports.
    """

    def __init__(self, job: Job) -> None:
        self.status: JobStatus | None = None
        self.seen: list[int] = []
        self._job = job
        self._error: HomespunError | None = None
        self._told = threading.Condition()
        threading.Thread(target=self._watch, daemon=True).start()

    def wait_for(self, is_so: Callable[[JobStatus], bool], timeout_s: float) -> bool:
        """Wait until the job's status is as wanted, or it has ended; False when time is over.

        Raises:
            HomespunError: the job cannot be watched any more.
        """
        def decided() -> bool:
            status = self.status
            return self._error is not None or (
                status is not None and (status.is_final or is_so(status)))

        with self._told:
            in_time = self._told.wait_for(decided, timeout_s)
            if self._error is not None:
                raise self._error
            return in_time

    def _watch(self) -> None:
        error = None
        try:
            for update in self._job.updates(reconnect_s=OUTAGE_S):
                with self._told:
                    self.status = update.status
                    self.seen += [metric.step for metric in update.steps]
                    self._told.notify_all()
        except HomespunError as failure:
            error = failure
        with self._told:
            self._error = error
            self._told.notify_all()
