"""Single keys from a terminal, without Enter: the only place that knows how systems differ."""

from __future__ import annotations

import os
import sys
import time
from types import TracebackType
from typing import Any


class Keyboard:
    """The keys that are pressed while this context lasts; none where standard input is no terminal.

    The terminal is as it was afterwards, whatever ended the context.
    """

    def __init__(self) -> None:
        self._is_there = sys.stdin is not None and sys.stdin.isatty()
        self._before: Any = None

    def __enter__(self) -> Keyboard:
        if self._is_there:
            self._before = _begin()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._is_there:
            _end(self._before)

    def wait(self, timeout_s: float) -> str:
        """The next key, or "" when the time is over."""
        if self._is_there:
            return _next_key(timeout_s)
        time.sleep(timeout_s)
        return ""


if os.name == "nt":
    import msvcrt

    _LOOK_S = 0.05

    def _begin() -> Any:
        return None

    def _end(before: Any) -> None:
        return None

    def _next_key(timeout_s: float) -> str:
        ends_at = time.monotonic() + timeout_s
        while not msvcrt.kbhit():  # type: ignore[attr-defined]
            if time.monotonic() >= ends_at:
                return ""
            time.sleep(_LOOK_S)
        return str(msvcrt.getwch())  # type: ignore[attr-defined]

else:
    import select
    import termios
    import tty

    def _begin() -> Any:
        before = termios.tcgetattr(sys.stdin)
        tty.setcbreak(sys.stdin)
        return before

    def _end(before: Any) -> None:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)

    def _next_key(timeout_s: float) -> str:
        """Read from the descriptor: what `sys.stdin` has buffered, `select` does not see."""
        descriptor = sys.stdin.fileno()
        ready, _, _ = select.select([descriptor], [], [], timeout_s)
        if not ready:
            return ""
        # A terminal that is gone is always ready and has nothing: as if "q" had been pressed.
        return os.read(descriptor, 1).decode("ascii", "replace") or "q"
