"""Since when nobody has touched this machine, by the most honest signal that the system has."""

from __future__ import annotations

import ctypes
import os
import re
import time
from collections.abc import Callable, Mapping
from typing import Any

from peer.owner.core.readings import Reading, unread
from peer.owner.sensors.asking import NotReadable, ask, reading

_MUTTER = (
    "gdbus", "call", "--session", "--timeout", "2", "--dest", "org.gnome.Mutter.IdleMonitor",
    "--object-path", "/org/gnome/Mutter/IdleMonitor/Core",
    "--method", "org.gnome.Mutter.IdleMonitor.GetIdletime")
_LOGIND = (
    "busctl", "--timeout=2", "get-property", "org.freedesktop.login1", "/org/freedesktop/login1",
    "org.freedesktop.login1.Manager", "IdleHint", "IdleSinceHint")
_IOREG = ("ioreg", "-c", "IOHIDSystem", "-d", "4")
TICKS_MODULUS = 1 << 32


def idle_s() -> Reading[float]:
    """Seconds since somebody last touched the machine."""
    return reading(_SYSTEMS, "no signal of presence is known on {system}")


def _linux() -> Reading[float]:
    """GNOME says it to the millisecond; logind says what the desktop told it."""
    if "DBUS_SESSION_BUS_ADDRESS" in os.environ:
        try:
            return Reading(mutter_idle_s(ask(_MUTTER)), "GNOME's idle monitor")
        except NotReadable:
            pass  # another desktop, or none
    return Reading(logind_idle_s(ask(_LOGIND), time.time()), "logind IdleHint")


def mutter_idle_s(answer: str) -> float:
    """Seconds out of `(uint64 12345,)`.

    Raises:
        NotReadable: it is something else.
    """
    found = re.search(r"uint64 (\d{1,18})", answer)
    if found is None:
        raise NotReadable(f"GNOME's idle monitor answered {answer.strip()[:60]!r}")
    return int(found[1]) / 1000


def logind_idle_s(answer: str, unix_s: float) -> float:
    """Seconds out of logind's two properties, `b true` and `t 1764245000000000`.

    Without a hint of idleness somebody is there, since just now.

    Raises:
        NotReadable: it is something else.
    """
    hint = re.search(r"^b (true|false)$", answer, re.MULTILINE)
    since = re.search(r"^t (\d{1,20})$", answer, re.MULTILINE)
    if hint is None or since is None:
        raise NotReadable(f"logind answered {answer.strip()[:60]!r}")
    if hint[1] == "false":
        return 0.0
    return max(0.0, unix_s - int(since[1]) / 1e6)


def _mac() -> Reading[float]:
    return Reading(hid_idle_s(ask(_IOREG)), "HIDIdleTime")


def hid_idle_s(answer: str) -> float:
    """Seconds out of macOS' registry, `"HIDIdleTime" = 123456789` (nanoseconds).

    Raises:
        NotReadable: it does not say.
    """
    found = re.search(r'"HIDIdleTime" = (\d{1,20})', answer)
    if found is None:
        raise NotReadable("this Mac has no keyboard, mouse or screen that is watched")
    return int(found[1]) / 1e9


def _windows() -> Reading[float]:
    windows: Any = getattr(ctypes, "windll")  # noqa: B009 - there is none elsewhere
    session = ctypes.c_ulong()
    if windows.kernel32.ProcessIdToSessionId(os.getpid(), ctypes.byref(session)) and (
            session.value == 0):
        return unread("a service of Windows sees no keyboard; run the peer in your own session")
    last = _LastInput(ctypes.sizeof(_LastInput), 0)
    if not windows.user32.GetLastInputInfo(ctypes.byref(last)):
        return unread("GetLastInputInfo failed")
    windows.kernel32.GetTickCount.restype = ctypes.c_ulong
    return Reading(
        ticks_idle_s(windows.kernel32.GetTickCount(), last.ticks), "Windows' last input")


def ticks_idle_s(now_ticks: int, last_ticks: int) -> float:
    """Seconds between two of Windows' milliseconds, which begin anew every 49 days."""
    return (now_ticks - last_ticks) % TICKS_MODULUS / 1000


class _LastInput(ctypes.Structure):
    _fields_ = [("size_bytes", ctypes.c_uint), ("ticks", ctypes.c_uint)]


_SYSTEMS: Mapping[str, Callable[[], Reading[float]]] = {
    "linux": _linux, "darwin": _mac, "win32": _windows}
