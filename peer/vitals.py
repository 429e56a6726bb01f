"""How the machine is doing, sampled now and then: what a diagnosis has to go by afterwards.

A process that was killed for memory has already given it back: what counts is what was seen shortly
before.
"""

from __future__ import annotations

import contextlib
import re
import shutil
import time
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import psutil

from homespun.errors import HomespunError
from peer.diagnosis import FailureFacts

SAMPLES_MAX = 150
"""Five minutes at one each two seconds, as long as a stall takes to be noticed."""
RECENT_S = 15.0
"""What counts as shortly before a process ended."""
COUNTER_BYTES_MAX = 1 << 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Vitals:
    """One sample."""

    at_s: float
    wall_s: float
    memory_available_bytes: int
    oom_kills: int | None


class VitalsLog:
    """The last minutes of a machine."""

    def __init__(self, directory: Path) -> None:
        """Begin with a sample.

        Args:
            directory: on the disk that matters.
        """
        self._directory = directory
        self._counters = (_own_group() / "memory.events", Path("/proc/vmstat"))
        self._samples: deque[Vitals] = deque(maxlen=SAMPLES_MAX)
        self.sample()

    def sample(self) -> None:
        """Look at the machine; takes well under a millisecond."""
        self._samples.append(Vitals(
            at_s=time.monotonic(), wall_s=time.time(),
            memory_available_bytes=psutil.virtual_memory().available,
            oom_kills=_oom_kills(self._counters)))

    def facts(
        self, error: HomespunError, *, blamed_peer: str = "", exit_status: int | None = None
    ) -> FailureFacts:
        """A failure beside what the machine was like when it came.

        Args:
            error: what failed.
            blamed_peer: as of `FailureFacts`.
            exit_status: as of `FailureFacts`.
        """
        self.sample()
        now, first = self._samples[-1], self._samples[0]
        recent = [each for each in self._samples if now.at_s - each.at_s <= RECENT_S]
        before = recent[0].oom_kills
        return FailureFacts(
            code=str(error.code), message=error.message, blamed_peer=blamed_peer,
            exit_status=exit_status,
            memory_available_bytes=min(each.memory_available_bytes for each in recent),
            memory_total_bytes=psutil.virtual_memory().total,
            oom_kills=None if now.oom_kills is None or before is None else now.oom_kills - before,
            disk_free_bytes=_disk_free(self._directory),
            clock_jump_s=(now.wall_s - first.wall_s) - (now.at_s - first.at_s))


def _disk_free(directory: Path) -> int | None:
    with contextlib.suppress(OSError):
        return shutil.disk_usage(directory).free
    return None


def _oom_kills(counters: Iterable[Path]) -> int | None:
    """Processes that Linux has ended for memory, by the first counter that there is."""
    for path in counters:
        if found := re.search(r"^oom_kill (\d+)$", _text(path), re.MULTILINE):
            return int(found[1])
    return None


def _own_group() -> Path:
    """Linux: the control group of this process, which counts those of its members alone."""
    found = re.search(r"^0::/(.*)$", _text(Path("/proc/self/cgroup")), re.MULTILINE)
    return Path("/sys/fs/cgroup") / (found[1] if found else "")


def _text(path: Path) -> str:
    """A small file of the system; "" where there is none."""
    try:
        with path.open("rb") as file:
            return file.read(COUNTER_BYTES_MAX).decode(errors="replace")
    except OSError:
        return ""
