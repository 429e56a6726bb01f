"""Which signals ask a program to end, on every system."""

from __future__ import annotations

import signal

STOP_SIGNALS = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGBREAK") if hasattr(signal, name))
"""The last one is Windows' Ctrl-Break, and its closing of a console."""
