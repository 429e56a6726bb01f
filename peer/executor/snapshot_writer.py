"""Writes snapshots beside the next tasks, one at a time."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from time import perf_counter

from peer.executor.base import Array
from peer.executor.failures import code_and_message
from peer.executor.messages import SnapshotNotWritten, SnapshotWritten, TakeSnapshot
from peer.executor.snapshot_file import Owner, write_snapshot

Answer = Callable[[SnapshotWritten | SnapshotNotWritten], None]
Copy = Callable[[int], Mapping[str, Array]]


class SnapshotWriter:
    """Takes a segment's snapshots: copies at once, writes in a thread of its own.

    A snapshot that is due while another is being written waits for it, and the segment with it:
    memory holds at most one copy, and none is left out, which would leave positions that are
    complete nowhere if two segments left out different ones.
    """

    def __init__(self, answer: Answer) -> None:
        """Begin; `answer` is called from any thread."""
        self._answer = answer
        self._thread: threading.Thread | None = None

    def take(self, request: TakeSnapshot, owner: Owner, copy: Copy) -> None:
        """Copy the state at a position now; write it, and answer, later."""
        started = perf_counter()
        self.wait()
        try:
            tensors = copy(request.position)
        except Exception as error:  # the segment goes on without this snapshot, whatever it was
            self._refuse(request, error)
            return
        copy_s = perf_counter() - started
        self._thread = threading.Thread(
            target=self._write, args=(request, owner, tensors, copy_s), daemon=True,
            name=f"snapshot {request.position}")
        self._thread.start()

    def wait(self) -> None:
        """Wait until nothing is being written."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def _write(
        self, request: TakeSnapshot, owner: Owner, tensors: Mapping[str, Array], copy_s: float
    ) -> None:
        started = perf_counter()
        try:
            size = write_snapshot(Path(request.path), owner, request.position, tensors)
        except Exception as error:  # the edge of a thread: whatever it is, it is reported
            self._refuse(request, error)
            return
        self._answer(SnapshotWritten(
            path=request.path, position=request.position, size_bytes=size, copy_s=copy_s,
            write_s=perf_counter() - started))

    def _refuse(self, request: TakeSnapshot, error: Exception) -> None:
        code, message = code_and_message(error)
        self._answer(SnapshotNotWritten(
            position=request.position, code=code,
            message=f"The snapshot of position {request.position} was not written: {message}"))
