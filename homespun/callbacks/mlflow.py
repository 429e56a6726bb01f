"""Runs for MLflow."""

from __future__ import annotations

from typing import Any

from homespun.callbacks.base import CurveCallback
from homespun.callbacks.events import Beginning
from homespun.extras import load_extra
from homespun.status import JobStatus

LONGEST_VALUE = 500
"""MLflow servers accept values of parameters up to this many characters, newer ones longer ones."""
_ENDS = {"succeeded": "FINISHED", "failed": "FAILED", "cancelled": "KILLED"}


class MLflowCallback(CurveCallback):
    """Writes a job's settings and curves as one run of an MLflow experiment.

    Needs `pip install 'homespun[mlflow]'`.
    """

    def __init__(self, experiment: str = "homespun", tracking_uri: str | None = None) -> None:
        """Load the library.

        Args:
            experiment: its name; made if there is none.
            tracking_uri: as of `mlflow.set_tracking_uri`; None: what MLflow is configured with.

        Raises:
            HomespunError: BAD_CONFIGURATION when the library cannot be loaded.
        """
        super().__init__()
        self._mlflow, self._entities = (
            load_extra(name, "mlflow", type(self).__name__)
            for name in ("mlflow", "mlflow.entities"))
        self._experiment = experiment
        self._tracking_uri = tracking_uri
        self._client: Any = None
        self._run_id = ""

    def on_begin(self, beginning: Beginning) -> None:
        """Make the run, with the settings as its parameters."""
        # The client names its run in each call: the functions of the module `mlflow` would take
        # the run that happens to be active in this thread.
        self._client = self._mlflow.MlflowClient(self._tracking_uri)
        found = self._client.get_experiment_by_name(self._experiment)
        experiment_id = (
            self._client.create_experiment(self._experiment) if found is None
            else found.experiment_id)
        run = self._client.create_run(
            experiment_id, run_name=beginning.label,
            tags={"homespun.job_id": beginning.job_id})
        self._run_id = run.info.run_id
        self._client.log_batch(self._run_id, params=[
            self._entities.Param(name, str(value)[:LONGEST_VALUE])
            for name, value in beginning.settings.items()])

    def curve(self, name: str, value: float, step: int, unix_ms: int) -> None:
        """Add one point."""
        self._client.log_metric(self._run_id, name, value, timestamp=unix_ms, step=step)

    def on_end(self, status: JobStatus) -> None:
        """End the run as the job has; one that goes on unwatched stays open."""
        if status.is_final:
            self._client.set_terminated(self._run_id, status=_ENDS[status.state])
