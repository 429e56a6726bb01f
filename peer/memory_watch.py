"""Whether the processes of leases keep to the memory that the owner lends.

A framework's allocator holds the share of a GPU to the byte (`ExecutorProcess.start`). No system
holds a process's own memory to a number without breaking what is inside it, so that is looked at
every other second, and what is over ends with a reason. It works alike on every system.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import psutil

from homespun.errors import Code, HomespunError
from homespun.units import format_size

FRAMEWORK_BYTES = 1 << 30
"""What a framework takes before it holds a tensor, at most."""
SLACK = 1.25
"""Allocators keep what was freed; a plan counts what is used."""


@dataclass(frozen=True, slots=True)
class MemoryLimits:
    """What the owner lends of the machine's own memory; 0 for no limit.

    Attributes:
        lease_bytes: for one lease's tensors, where its device is the processor.
        ram_bytes: for the daemon and all that computes for it.
    """

    lease_bytes: int
    ram_bytes: int


def private_bytes(process_ids: Iterable[int]) -> dict[int, int]:
    """Memory of processes that is theirs alone; one that has ended has none."""
    found = {}
    for pid in process_ids:
        try:
            info = psutil.Process(pid).memory_info()
        except psutil.Error:
            continue
        found[pid] = int(getattr(info, "private", info.rss - getattr(info, "shared", 0)))
    return found


def over_limit(
    own_bytes: int, leases: Mapping[int, int], limits: MemoryLimits
) -> tuple[int, HomespunError] | None:
    """The process that has to end, with the reason; None while all is well.

    Args:
        own_bytes: of the daemon.
        leases: process id -> its memory.
        limits: the owner's.
    """
    if not leases:
        return None
    largest = max(leases, key=lambda pid: (leases[pid], pid))
    allowed = round(limits.lease_bytes * SLACK) + FRAMEWORK_BYTES
    if limits.lease_bytes and leases[largest] > allowed:
        return largest, _error(
            f"the process that computes holds {format_size(leases[largest])}; "
            f"{format_size(limits.lease_bytes)} are lent, and {format_size(allowed)} with what "
            "frameworks take", leases[largest], allowed)
    total = own_bytes + sum(leases.values())
    if limits.ram_bytes and total > limits.ram_bytes:
        return largest, _error(
            f"this peer's processes hold {format_size(total)} together; its owner allows "
            f"{format_size(limits.ram_bytes)}", total, limits.ram_bytes)
    return None


def _error(text: str, had: int, allowed: int) -> HomespunError:
    return HomespunError(
        Code.OUT_OF_MEMORY, text, had_bytes=had, limit_bytes=allowed)
