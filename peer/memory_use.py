"""The memory that a peer's work has at a moment, looked up at the processes and the driver.

For the commands: that a device is free is not taken from the daemon's word.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import psutil

from homespun.units import format_size
from peer.devices import used_memory_bytes
from peer.memory_watch import private_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryUse:
    """What is taken.

    Attributes:
        processes: how many compute.
        process_bytes: of the machine's memory, theirs alone.
        device_bytes: of the GPU, by all programs, as NVML says; None for a processor, whose work
            lies in the memory of the processes, and where the driver does not say.
    """

    processes: int = 0
    process_bytes: int = 0
    device_bytes: int | None = None


def memory_use(processes: Iterable[psutil.Process], gpu: str) -> MemoryUse:
    """Look it up now.

    Args:
        processes: those that compute; ended ones have none.
        gpu: as `peer.devices.nvml_name` says; "" for a processor.
    """
    found = private_bytes(each.pid for each in processes if lives(each))
    return MemoryUse(
        processes=len(found), process_bytes=sum(found.values()),
        device_bytes=used_memory_bytes(gpu) if gpu else None)


def computing(daemon: psutil.Process | None) -> dict[int, psutil.Process]:
    """The executors of a daemon by their ids; it also asks small programs of the system."""
    try:
        children = [] if daemon is None else daemon.children(recursive=True)
    except psutil.Error:
        return {}  # it has just ended
    return {child.pid: child for child in children if _computes(child)}


def lives(process: psutil.Process) -> bool:
    """Whether it runs: a zombie has freed all but its exit status."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def in_words(use: MemoryUse) -> str:
    """For `peer status`: `1 process computes, with 310 MiB`."""
    if not use.processes:
        words = "no process computes"
    else:
        words = (f"{use.processes} process{'es compute' if use.processes > 1 else ' computes'}, "
                 f"with {format_size(use.process_bytes)}")
    if use.device_bytes is not None:
        words += f"; all programs use {format_size(use.device_bytes)} of the GPU (NVML)"
    return words


def change_in_words(before: MemoryUse, after: MemoryUse) -> str:
    """What has become free: `memory of its processes 310 MiB before, 0 B now`; "" if none was."""
    if not before.processes:
        return ""
    words = (f"memory of its processes {format_size(before.process_bytes)} before, "
             f"{format_size(after.process_bytes)} now")
    if before.device_bytes is not None and after.device_bytes is not None:
        words += (f"; memory of the GPU in use (NVML, all programs) "
                  f"{format_size(before.device_bytes)} before, "
                  f"{format_size(after.device_bytes)} now")
    return words


def _computes(child: psutil.Process) -> bool:
    try:
        return child.name().lower().startswith("python")
    except psutil.Error:
        return False
