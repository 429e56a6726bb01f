"""How what computes shares the processor with its owner's programs: each system's call is here."""

from __future__ import annotations

import contextlib
import sys
from enum import StrEnum

LOW_NICE = 10
"""On Linux about a tenth of the processor beside a program that wants all of it."""


class Priority(StrEnum):
    """Of the processes that compute."""

    LOW = "low"
    """They give way to whatever else wants the processor."""
    NORMAL = "normal"
    """They share it evenly."""


def give_way() -> None:
    """Have this process give way to others from now on, with every thread that it starts later.

    One that gives way even more already stays as it is. A system that refuses costs no more than
    the consideration.
    """
    import psutil

    process = psutil.Process()
    with contextlib.suppress(psutil.Error, OSError):
        if sys.platform == "win32":
            if process.nice() != psutil.IDLE_PRIORITY_CLASS:
                process.nice(psutil.BELOW_NORMAL_PRIORITY_CLASS)
        elif process.nice() < LOW_NICE:
            process.nice(LOW_NICE)
