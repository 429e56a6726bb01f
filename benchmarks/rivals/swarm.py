"""Processes of another project that train together, print their commits, and are killed.

A worker prints `commit STEP UNIX_S` lines. It may have children: it is killed with all of them, as
a machine that is switched off.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO

import psutil

START_TIMEOUT_S = 120.0


class Worker:
    """One process, its children, and what it prints."""

    def __init__(
        self, command: Sequence[str], environment: Mapping[str, str], on_line: Callable[[str], None]
    ) -> None:
        self.lines: list[str] = []
        self._on_line = on_line
        self._process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1", **environment})
        assert self._process.stdout is not None
        threading.Thread(target=self._read, args=(self._process.stdout,), daemon=True).start()

    def _read(self, stream: IO[str]) -> None:
        for line in stream:
            self.lines.append(line.strip())
            self._on_line(line.strip())

    @property
    def is_running(self) -> bool:
        """Whether it has not ended."""
        return self._process.poll() is None

    def kill(self) -> None:
        """End it and its children at once."""
        try:
            parent = psutil.Process(self._process.pid)
            family = [parent, *parent.children(recursive=True)]
        except psutil.NoSuchProcess:
            return
        for process in family:
            try:
                process.kill()
            except psutil.NoSuchProcess:
                continue
        self._process.wait()


class Swarm:
    """Workers with names, and the commits of all of them. Use it as a context manager."""

    def __init__(self) -> None:
        self.commits: list[float] = []
        """When each step was first committed, Unix seconds."""
        self.workers: dict[str, Worker] = {}
        self._last_step = -1
        self._told = threading.Condition()

    def __enter__(self) -> Swarm:
        return self

    def __exit__(self, *error: object) -> None:
        for worker in self.workers.values():
            worker.kill()

    def start(
        self, name: str, command: Sequence[str], environment: Mapping[str, str] | None = None
    ) -> Worker:
        """Start a worker."""
        self.workers[name] = Worker(command, environment or {}, self._heard)
        return self.workers[name]

    def kill(self, name: str) -> float:
        """Kill a worker; returns when, Unix seconds."""
        at_s = time.time()
        self.workers.pop(name).kill()
        return at_s

    def wait_for(self, is_so: Callable[[], bool], what: str) -> None:
        """Wait until something is so that the workers' lines decide.

        Raises:
            TimeoutError: it was not so in time.
        """
        with self._told:
            if not self._told.wait_for(is_so, START_TIMEOUT_S):
                raise TimeoutError(f"not so within {START_TIMEOUT_S:.0f} s: {what}")

    def wait_for_commits(self, count: int) -> None:
        """Wait for so many more commits."""
        wanted = len(self.commits) + count
        self.wait_for(lambda: len(self.commits) >= wanted, f"{count} more commits")

    def _heard(self, line: str) -> None:
        word, *fields = line.split()[:3] or ("",)
        with self._told:
            if word == "commit" and int(fields[0]) > self._last_step:
                self._last_step = int(fields[0])
                self.commits.append(float(fields[1]))
            self._told.notify_all()


def python_of(place: Path, name: str) -> str:
    """The interpreter of a virtual environment."""
    folder = "Scripts" if sys.platform == "win32" else "bin"
    return str(place / name / folder / "python")


def program_of(place: Path, name: str, program: str) -> str:
    """A program of a virtual environment."""
    return str(Path(python_of(place, name)).with_name(program))


def has_committed(worker: Worker) -> Callable[[], bool]:
    """Whether a worker takes part."""
    return lambda: any(line.startswith("commit") for line in worker.lines)
