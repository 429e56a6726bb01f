"""How much of the machine others use while something is measured."""

from __future__ import annotations

import threading
import time

import psutil

QUIET_CORES = 0.1
"""Steps during which others used more than this do not count where quieter ones are there."""
QUIET_FOR_S = 1.5
SAMPLE_S = 0.3


class LoadWatch:
    """Samples how much processor time of the machine goes to others."""

    def __init__(self) -> None:
        self._samples: list[tuple[float, float]] = []
        self._turn = threading.Lock()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)

    def __enter__(self) -> LoadWatch:
        self._take()
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._ended.set()
        self._thread.join()

    def foreign(self, begin_unix_s: float, end_unix_s: float) -> float:
        """Mean number of cores that others used, over the samples around two moments."""
        if self._samples[-1][0] < end_unix_s:
            self._take()
        samples = list(self._samples)
        first_s, first = next((s for s in reversed(samples) if s[0] <= begin_unix_s), samples[0])
        last_s, last = next((s for s in samples if s[0] >= end_unix_s), samples[-1])
        return max(0.0, (last - first) / (last_s - first_s))

    def wait_for_quiet(self, limit_s: float) -> None:
        """Wait until others leave the cores alone, at most so long."""
        deadline_s = time.monotonic() + limit_s
        while time.monotonic() < deadline_s:
            self._ended.wait(QUIET_FOR_S)
            now_s = time.time()
            if self.foreign(now_s - QUIET_FOR_S, now_s) <= QUIET_CORES:
                return

    def _sample(self) -> None:
        while not self._ended.is_set():
            self._take()
            self._ended.wait(SAMPLE_S)

    def _take(self) -> None:
        with self._turn:
            self._samples.append((time.time(), _busy_s() - _own_s()))


def _busy_s() -> float:
    times = psutil.cpu_times()
    return times.user + times.system + times.nice + getattr(times, "steal", 0.0)


def _own_s() -> float:
    """Processor seconds of this process and everything that it started."""
    total = 0.0
    for process in (me := psutil.Process(), *me.children(recursive=True)):
        try:
            times = process.cpu_times()
            total += times.user + times.system + times.children_user + times.children_system
        except psutil.NoSuchProcess:
            continue
    return total
