"""The three measured rates of a device: what the planner divides work by.

Every executor measures its own framework, on the same three workloads; this module chooses their
sizes and keeps the time.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from dag.cluster import PeerRates

RATE_BUDGET_S = 0.8
RUNS_MIN = 5
LONG_ENOUGH_S = 0.002
"""A run this long is not dominated by starting it, and mostly fits between two interruptions."""

Run = Callable[[], object]
"""Does the work once, and returns when the device has finished it."""


@dataclass(frozen=True, slots=True, eq=False)
class RateWorkloads:
    """The workloads in a framework, float32; each function prepares one of a size.

    Attributes:
        matmul: product of two n x n matrices: 2 n^3 operations.
        attention: scaled dot-product attention, 8 heads of 64, over n positions without a mask:
            4 * 8 * n^2 * 64 operations (two products).
        addition: sum of two arrays of n elements, far beyond any cache: 12 n bytes.
    """

    matmul: Callable[[int], Run]
    attention: Callable[[int], Run]
    addition: Callable[[int], Run]


def measured_rates(workloads: RateWorkloads) -> PeerRates:
    """Measure a device, about 3 s in all.

    Each is the rate of the fastest of many short runs: what the device does when it is left alone.
    Other work on the machine, such as other peers that measure at the same moment, only ever adds
    to the time of a run, so a mean or a median would tell equal devices apart by their luck.
    """
    return PeerRates(
        matmul_flops_per_s=_rate(
            workloads.matmul, lambda n: 2.0 * n**3, (256, 512, 1024, 2048, 4096, 8192)),
        attention_flops_per_s=_rate(
            workloads.attention, lambda n: 4.0 * 8 * n * n * 64, (512, 1024, 2048, 4096)),
        memory_bytes_per_s=_rate(
            workloads.addition, lambda n: 12.0 * n, (1 << 23, 1 << 25)))


def _rate(
    prepare: Callable[[int], Run], work: Callable[[int], float], sizes: tuple[int, ...]
) -> float:
    """Work per second: the fastest of the runs at the first size that runs long enough."""
    for size in sizes:
        run = prepare(size)
        _timed_s(run)  # the first run also allocates and picks a kernel
        # The fastest of some: an interrupted run looks long at a size that is too small.
        if min(_timed_s(run) for _ in range(RUNS_MIN)) >= LONG_ENOUGH_S:
            break
    times: list[float] = []
    while len(times) < RUNS_MIN or sum(times) < RATE_BUDGET_S:
        times.append(_timed_s(run))
    return work(size) / min(times)


def _timed_s(run: Run) -> float:
    begin = time.perf_counter()
    run()
    return max(time.perf_counter() - begin, 1e-9)
