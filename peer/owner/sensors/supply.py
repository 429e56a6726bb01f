"""Whether the machine runs on its battery."""

from __future__ import annotations

import psutil

from peer.owner.core.readings import Reading, unread


def is_on_battery() -> Reading[bool]:
    """True on battery; False on mains, and without a battery."""
    ask_battery = getattr(psutil, "sensors_battery", None)
    if ask_battery is None:
        return unread("batteries cannot be read on this system")
    try:
        battery = ask_battery()
    except Exception as error:  # drivers of batteries fail in many ways
        return unread(f"the battery cannot be read: {error!r:.120}")
    if battery is None:
        return Reading(False, "no battery")
    if battery.power_plugged is None:
        return unread("the system does not say whether the battery is charged or used")
    return Reading(not battery.power_plugged, f"battery at {battery.percent:.0f} %")
