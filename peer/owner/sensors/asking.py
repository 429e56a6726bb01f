"""Asking a system, each in its way: most by their own small programs, with a deadline."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from peer.owner.core.readings import Reading, unread

T = TypeVar("T")

ANSWER_S = 3.0
ANSWER_CHARACTERS_MAX = 1 << 16
_NO_WINDOW: int = getattr(subprocess, "CREATE_NO_WINDOW", 0)


class NotReadable(Exception):  # noqa: N818 - an answer, not an error
    """There is no value; the text says why."""


def ask(command: Sequence[str], timeout_s: float = ANSWER_S) -> str:
    """What a program prints.

    Raises:
        NotReadable: it is not there, fails, or does not answer in time.
    """
    name = command[0]
    try:
        done = subprocess.run(
            list(command), stdin=subprocess.DEVNULL, capture_output=True, text=True,
            errors="replace", timeout=timeout_s, check=False, creationflags=_NO_WINDOW)
    except subprocess.TimeoutExpired:
        raise NotReadable(f"{name} did not answer for {timeout_s:.0f} s") from None
    except OSError:
        raise NotReadable(f"{name} is not on this system") from None
    if done.returncode != 0:
        said = done.stderr.strip().splitlines()[-1:] or [f"exit code {done.returncode}"]
        raise NotReadable(f"{name} failed: {said[0][:120]}")
    return done.stdout[:ANSWER_CHARACTERS_MAX]


def reading(ways: Mapping[str, Callable[[], Reading[T]]], nowhere: str) -> Reading[T]:
    """What this system says; what cannot be read says why.

    Args:
        ways: `system()` -> how it is asked.
        nowhere: why another one cannot be asked; `{system}` is its name.
    """
    way = ways.get(system())
    if way is None:
        return unread(nowhere.format(system=system()))
    try:
        return way()
    except NotReadable as reason:
        return unread(str(reason))


def system() -> str:
    """`linux`, `darwin`, `win32`, or another platform's name."""
    return sys.platform
