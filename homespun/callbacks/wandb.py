"""Runs for Weights & Biases."""

from __future__ import annotations

from typing import Any

from homespun.callbacks.base import CurveCallback
from homespun.callbacks.events import Beginning
from homespun.extras import load_extra
from homespun.status import JobStatus

STEP = "train/global_step"
"""The horizontal axis of every curve. The service's own step only grows, and what comes late, such
as a validation loss, would be dropped."""


class WandbCallback(CurveCallback):
    """Writes a job's settings and curves as one run of Weights & Biases.

    Needs `pip install 'homespun[wandb]'`.
    """

    def __init__(self, project: str = "homespun", **options: Any) -> None:
        """Load the library.

        Args:
            project: its name.
            options: further arguments of `wandb.init`, such as `entity`, `mode="offline"`, `tags`.

        Raises:
            HomespunError: BAD_CONFIGURATION when the library cannot be loaded.
        """
        super().__init__()
        self._wandb = load_extra("wandb", "wandb", type(self).__name__)
        self._options = {"project": project, **options}
        self._run: Any = None

    def on_begin(self, beginning: Beginning) -> None:
        """Begin the run, with the settings as its configuration."""
        self._run = self._wandb.init(**{
            "name": beginning.label,
            "config": {**beginning.settings, "job_id": beginning.job_id}, **self._options})
        self._run.define_metric(STEP)
        self._run.define_metric("*", step_metric=STEP)

    def curve(self, name: str, value: float, step: int, unix_ms: int) -> None:
        """Add one point."""
        self._run.log({name: value, STEP: step})

    def on_end(self, status: JobStatus) -> None:
        """End the run: as a failed one unless the job has succeeded or goes on unwatched."""
        self._run.finish(exit_code=1 if status.state in ("failed", "cancelled") else 0)
