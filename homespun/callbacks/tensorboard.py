"""Curves for TensorBoard."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from homespun.callbacks.base import CurveCallback
from homespun.callbacks.events import Beginning
from homespun.extras import load_extra
from homespun.status import JobStatus


class TensorBoardCallback(CurveCallback):
    """Writes a job's curves into a folder for TensorBoard: `tensorboard --logdir runs` shows them.

    Needs `pip install 'homespun[tensorboard]'`.
    """

    def __init__(self, directory: Path | str = "runs") -> None:
        """Load the library.

        Args:
            directory: each job has a folder in it, named after its id.

        Raises:
            HomespunError: BAD_CONFIGURATION when the library cannot be loaded.
        """
        super().__init__()
        # What the writers of torch and Keras stand on, too; it needs neither.
        self._files, self._events, self._summaries = (
            load_extra(f"tensorboard.{name}", "tensorboard", type(self).__name__)
            for name in ("summary.writer.event_file_writer", "compat.proto.event_pb2",
                         "compat.proto.summary_pb2"))
        self._directory = Path(directory)
        self._writer: Any = None

    def on_begin(self, beginning: Beginning) -> None:
        """Open the job's file."""
        self._writer = self._files.EventFileWriter(str(self._directory / beginning.job_id))

    def curve(self, name: str, value: float, step: int, unix_ms: int) -> None:
        """Add one point."""
        point = self._summaries.Summary.Value(tag=name, simple_value=value)
        self._writer.add_event(self._events.Event(
            wall_time=unix_ms / 1000, step=step,
            summary=self._summaries.Summary(value=[point])))

    def on_end(self, status: JobStatus) -> None:
        """Close the file."""
        self._writer.close()
