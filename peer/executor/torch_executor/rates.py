"""The three measured rates of a device: what the planner divides work by."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch

from dag.cluster import PeerRates

RATE_BUDGET_S = 0.8
RUNS_MIN = 5
LONG_ENOUGH_S = 0.002
"""A run this long is not dominated by starting it, and mostly fits between two interruptions."""

Run = Callable[[], object]


def measured_rates(device: str) -> PeerRates:
    """Measure float32 rates on `cpu` or `cuda:N`, about 3 s in all.

    Each is the rate of the fastest of many short runs: what the device does when it is left alone.
    Other work on the machine, such as other peers that measure at the same moment, only ever adds
    to the time of a run, so a mean or a median would tell equal devices apart by their luck.
    """
    with torch.inference_mode():
        return PeerRates(
            matmul_flops_per_s=_matmul_rate(device),
            attention_flops_per_s=_attention_rate(device),
            memory_bytes_per_s=_memory_rate(device))


def _matmul_rate(device: str) -> float:
    """2 n^3 operations per product of n x n matrices."""

    def prepare(n: int) -> Run:
        left, right = (torch.rand(n, n, device=device) for _ in range(2))
        return lambda: torch.mm(left, right)

    return _rate(device, prepare, lambda n: 2.0 * n**3, (256, 512, 1024, 2048, 4096, 8192))


def _attention_rate(device: str) -> float:
    """4 B H S^2 D operations (two products), 8 heads of 64."""

    def prepare(length: int) -> Run:
        query, key, value = (torch.rand(1, 8, length, 64, device=device) for _ in range(3))
        attention = torch.nn.functional.scaled_dot_product_attention
        return lambda: attention(query, key, value)

    return _rate(
        device, prepare, lambda s: 4.0 * 8 * s * s * 64, (512, 1024, 2048, 4096))


def _memory_rate(device: str) -> float:
    """Sum of two arrays far beyond any cache: 12 bytes per element."""

    def prepare(elements: int) -> Run:
        left, right = (torch.rand(elements, device=device) for _ in range(2))
        result = torch.empty_like(left)
        return lambda: torch.add(left, right, out=result)

    return _rate(device, prepare, lambda n: 12.0 * n, (1 << 23, 1 << 25))


def _rate(
    device: str, prepare: Callable[[int], Run], work: Callable[[int], float],
    sizes: tuple[int, ...],
) -> float:
    """Work per second: the fastest of the runs at the first size that runs long enough."""
    for size in sizes:
        run = prepare(size)
        _timed_s(device, run)  # the first run also allocates and picks a kernel
        # The fastest of some: an interrupted run looks long at a size that is too small.
        if min(_timed_s(device, run) for _ in range(RUNS_MIN)) >= LONG_ENOUGH_S:
            break
    times: list[float] = []
    while len(times) < RUNS_MIN or sum(times) < RATE_BUDGET_S:
        times.append(_timed_s(device, run))
    return work(size) / min(times)


def _timed_s(device: str, run: Run) -> float:
    _finish(device)
    begin = time.perf_counter()
    run()
    _finish(device)
    return max(time.perf_counter() - begin, 1e-9)


def _finish(device: str) -> None:
    if device != "cpu":
        torch.cuda.synchronize(device)
