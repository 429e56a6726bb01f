"""Whether the network is paid by the byte, as the system has been told or guesses."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from peer.owner.core.readings import Reading, unread
from peer.owner.sensors.asking import ask, reading

_NETWORK_MANAGER = (
    "busctl", "--timeout=2", "get-property", "org.freedesktop.NetworkManager",
    "/org/freedesktop/NetworkManager", "org.freedesktop.NetworkManager", "Metered")
_POWERSHELL = (
    "powershell", "-NoProfile", "-NonInteractive", "-Command",
    "[Windows.Networking.Connectivity.NetworkInformation,Windows.Networking.Connectivity,"
    "ContentType=WindowsRuntime]::GetInternetConnectionProfile().GetConnectionCost()"
    ".NetworkCostType")
POWERSHELL_S = 15.0
_METERED = {1: True, 2: False, 3: True, 4: False}
"""NetworkManager: yes, no, guessed yes, guessed no; 0 is unknown."""
_COSTS = {"unrestricted": False, "fixed": True, "variable": True}


def is_metered() -> Reading[bool]:
    """Whether bytes cost money here."""
    return reading(_SYSTEMS, "{system} does not tell programs like this one")


def _linux() -> Reading[bool]:
    return network_manager_says(ask(_NETWORK_MANAGER))


def network_manager_says(answer: str) -> Reading[bool]:
    """A reading out of `u 4`."""
    found = re.fullmatch(r"u (\d)\s*", answer)
    number = int(found[1]) if found else 0
    if number not in _METERED:
        return unread("NetworkManager does not know")
    return Reading(_METERED[number], "NetworkManager")


def _windows() -> Reading[bool]:
    return windows_says(ask(_POWERSHELL, POWERSHELL_S))


def windows_says(answer: str) -> Reading[bool]:
    """A reading out of Windows' word for what a connection costs."""
    word = answer.strip().lower()
    if word not in _COSTS:
        return unread("Windows does not know")
    return Reading(_COSTS[word], "Windows' connection cost")


_SYSTEMS: Mapping[str, Callable[[], Reading[bool]]] = {"linux": _linux, "win32": _windows}
