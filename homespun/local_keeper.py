"""Ends the processes of a private network when the program that started it is gone.

A program that is killed runs nothing at its exit. So a small process of its own holds the other end
of a pipe: when that closes, for whatever reason, what still runs is ended, and a directory that is
temporary is removed.
"""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

STOP_TIMEOUT_S = 45.0
"""Longer than a peer takes to hand over."""
SAME_START_S = 60.0
"""A process that is said to have started so much earlier or later is another one; the time is told
by a clock that may be set in between."""
OWN_GROUP: int = getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0)
"""Windows sends Ctrl-Break to groups: each process needs one of its own."""


class Keeper:
    """The pipe's near end."""

    def __init__(self, removes: Path | None = None) -> None:
        """Start the process at the far end.

        Args:
            removes: a directory that goes at the end.
        """
        # In a group of its own, so that Ctrl-C in a terminal does not reach it; -P: a file in the
        # user's folder must not hide our packages.
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "homespun.local_keeper",
             *([] if removes is None else [str(removes.absolute())])],
            stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, process_group=0,
            creationflags=OWN_GROUP)

    def watch(self, pid: int) -> None:
        """Have a process ended when this one is gone."""
        import psutil

        assert self._process.stdin is not None
        # When it was created tells it from a later process with the same number.
        with contextlib.suppress(psutil.Error, OSError):
            line = f"{pid} {psutil.Process(pid).create_time()}\n"
            self._process.stdin.write(line.encode("ascii"))
            self._process.stdin.flush()

    def close(self) -> None:
        """End what still runs, remove what is to be removed, and end the keeper.

        Raises:
            subprocess.TimeoutExpired: if that takes longer than it can.
        """
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        self._process.wait(2 * STOP_TIMEOUT_S)


def main() -> None:
    """Read what to watch until the pipe closes; then end what is left, and remove the directory."""
    end(tuple(line.split()) for line in sys.stdin)
    for directory in sys.argv[1:]:
        shutil.rmtree(directory, ignore_errors=True)


def end(watched: Iterable[tuple[str, ...]]) -> None:
    """End processes, each given by its number and the time it was created: ask, then kill."""
    import psutil

    left = []
    for pid, created in watched:
        with contextlib.suppress(psutil.Error):
            process = psutil.Process(int(pid))
            if abs(process.create_time() - float(created)) < SAME_START_S:
                left.append(process)
    for process in left:
        with contextlib.suppress(psutil.Error):
            process.terminate()
    _, left = psutil.wait_procs(left, timeout=STOP_TIMEOUT_S)
    for process in left:
        with contextlib.suppress(psutil.Error):
            process.kill()


if __name__ == "__main__":
    main()
