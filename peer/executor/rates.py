"""The measured rates of a device: what the planner divides work by.

Every executor measures its own framework, on the same workloads; this module chooses their sizes
and keeps the time. What starting an operator takes is measured through the executor itself
(`peer.executor.overheads`).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import structlog

from dag.cluster import DenseRates, PeerRates
from peer.executor.overheads import Overheads

log = structlog.get_logger(__name__)

RATE_BUDGET_S = 0.6
NARROW_BUDGET_S = 0.2
RUNS_MIN = 5
LONG_ENOUGH_S = 0.002
"""A run this long is not dominated by starting it, and mostly fits between two interruptions."""
TOO_LONG_S = 0.1
"""A run this long is not repeated more often than needed: a device may only emulate a dtype."""
NARROW_DTYPES = ("bfloat16", "float16")
PIXELS, WIDE, SLIM = 28, 256, 64
"""Extent and channels of the images of `convolution`: the bottleneck block of a residual network
(He et al. 2016, arXiv:1512.03385, figure 5)."""
_IMAGE_FLOPS = 2.0 * PIXELS**2 * (WIDE * SLIM + 9 * SLIM * SLIM + SLIM * WIDE)

Run = Callable[[], object]
"""Does the work once, and returns when the device has finished it."""


@dataclass(frozen=True, slots=True, eq=False)
class RateWorkloads:
    """The workloads in a framework; each function prepares one of a dtype and a size.

    A function may raise whatever its framework raises where the device lacks the dtype.

    Attributes:
        matmul: product of two n x n matrices: 2 n^3 operations.
        attention: scaled dot-product attention, 8 heads of 64, over n positions without a mask:
            4 * 8 * n^2 * 64 operations (two products).
        convolution: n images of `WIDE` channels and `PIXELS` squared through three convolutions:
            1 x 1 to `SLIM` channels, 3 x 3, 1 x 1 back. One kind alone may be fast or slow by its
            kernel; networks mix them.
        addition: sum of two float32 arrays of n elements, far beyond any cache: 12 n bytes.
        is_asynchronous: whether the device works while the host starts the next operator.
    """

    matmul: Callable[[str, int], Run]
    attention: Callable[[str, int], Run]
    convolution: Callable[[str, int], Run]
    addition: Callable[[int], Run]
    is_asynchronous: bool


def measured_rates(workloads: RateWorkloads, overheads: Overheads) -> PeerRates:
    """Measure a device, about 7 s in all.

    Each is the rate of the fastest of many short runs: what the device does when it is left alone.
    Other work on the machine, such as other peers that measure at the same moment, only ever adds
    to the time of a run, so a mean or a median would tell equal devices apart by their luck.
    """
    whole = _dense_rates(workloads, "float32", RATE_BUDGET_S)
    return PeerRates(
        matmul_flops_per_s=whole.matmul_flops_per_s,
        attention_flops_per_s=whole.attention_flops_per_s,
        convolution_flops_per_s=whole.convolution_flops_per_s,
        memory_bytes_per_s=_rate(
            workloads.addition, lambda n: 12.0 * n, (1 << 23, 1 << 25), RATE_BUDGET_S),
        narrow=tuple(filter(None, (_narrow_rates(workloads, dtype) for dtype in NARROW_DTYPES))),
        forward_overhead_s=overheads.forward_s, backward_overhead_s=overheads.backward_s,
        is_asynchronous=workloads.is_asynchronous)


def _narrow_rates(workloads: RateWorkloads, dtype: str) -> DenseRates | None:
    """The rates of a dtype; None where the framework cannot compute in it on this device."""
    try:
        return _dense_rates(workloads, dtype, NARROW_BUDGET_S)
    except Exception as error:  # each framework has its own way to say that there is no kernel
        log.info("dtype_not_measured", dtype=dtype, reason=str(error)[:200])
        return None


def _dense_rates(workloads: RateWorkloads, dtype: str, budget_s: float) -> DenseRates:
    return DenseRates(
        dtype=dtype,
        matmul_flops_per_s=_rate(
            lambda n: workloads.matmul(dtype, n), lambda n: 2.0 * n**3,
            (256, 512, 1024, 2048, 4096, 8192), budget_s),
        attention_flops_per_s=_rate(
            lambda n: workloads.attention(dtype, n), lambda n: 4.0 * 8 * n * n * 64,
            (256, 512, 1024, 2048, 4096), budget_s),
        convolution_flops_per_s=_rate(
            lambda n: workloads.convolution(dtype, n), lambda n: n * _IMAGE_FLOPS,
            (1, 4, 16, 64, 256), budget_s))


def _rate(
    prepare: Callable[[int], Run], work: Callable[[int], float], sizes: tuple[int, ...],
    budget_s: float,
) -> float:
    """Work per second: the fastest of the runs at the first size that runs long enough."""
    for size in sizes:
        run = prepare(size)
        _timed_s(run)  # the first run also allocates and picks a kernel
        # The fastest of some: an interrupted run looks long at a size that is too small.
        if fastest_s(run, 0.0) >= LONG_ENOUGH_S:
            break
    return work(size) / fastest_s(run, budget_s)


def fastest_s(run: Run, budget_s: float) -> float:
    """Time of the fastest of at least `RUNS_MIN` runs, and of as many as the budget allows."""
    times: list[float] = []
    while len(times) < RUNS_MIN or sum(times) < budget_s:
        times.append(_timed_s(run))
        if times[-1] > TOO_LONG_S and sum(times) >= budget_s:
            break
    return min(times)


def _timed_s(run: Run) -> float:
    begin = time.perf_counter()
    run()
    return max(time.perf_counter() - begin, 1e-9)
