"""Which programs run."""

from __future__ import annotations

import psutil

from peer.owner.core.objections import program_name
from peer.owner.core.readings import Reading


def running_programs() -> Reading[frozenset[str]]:
    """Names of all programs that run, as they are compared. Cost: O(processes)."""
    names = {process.info["name"] for process in psutil.process_iter(["name"])}
    return Reading(frozenset(program_name(name) for name in names if name), "the process list")
