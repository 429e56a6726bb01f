"""The time in which replicas of a model sum their gradients (all-reduce).

A ring sends 2 (n - 1) parts of 1/n each (Patarasuk & Yuan 2009, J. Parallel Distrib. Comput.,
section 3): least bytes, many latencies. A tree sends the whole up and down in log2 n rounds each
(Thakur et al. 2005, Int. J. High Perform. Comput. Appl., section 4.5): few latencies. Both go at
the pace of their slowest link. The faster is taken.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from math import ceil, log2

import numpy as np

from dag.mapping.problem import Devices, FloatArray, IntArray


def all_reduce_s(count: int, size_bytes: float, latency_s: float, bandwidth: float) -> float:
    """Seconds to sum `size_bytes` over `count` devices and give all of them the sum.

    Args:
        count: devices, >= 1; one has nothing to do.
        size_bytes: of the tensor, on each.
        latency_s: of the slowest link.
        bandwidth: of the slowest link, bytes per second.
    """
    if count == 1 or size_bytes <= 0:
        return 0.0
    rounds = 2 * (count - 1)
    ring = rounds * (latency_s + size_bytes / count / bandwidth)
    tree = 2 * ceil(log2(count)) * (latency_s + size_bytes / bandwidth)
    return min(ring, tree)


def exchange_s(
    devices: Devices, held: Sequence[tuple[Sequence[int], Sequence[int]]],
    gradient_bytes: FloatArray,
) -> float:
    """Seconds until all replicas have all sums.

    Each stretch of nodes between two cuts of any replica is reduced over the devices that hold it.
    A device reduces its stretches one after the other, different devices at the same time.

    Args:
        devices: all devices.
        held: for each replica its devices and their bounds in the chain.
        gradient_bytes: of each node, in chain order.

    Cost: O(replicas * stretches).
    """
    bounds = np.unique(np.concatenate([np.asarray(cuts) for _, cuts in held]))
    total = np.concatenate([np.zeros(1), np.cumsum(gradient_bytes)])
    busy_s = np.zeros(devices.count)
    for first, end in pairwise(bounds.tolist()):
        members = np.array([
            stages[int(np.searchsorted(cuts, first, side="right")) - 1] for stages, cuts in held],
            dtype=np.int64)
        latency_s, bandwidth = _slowest(devices, members)
        size_bytes = float(total[end] - total[first])
        busy_s[members] += all_reduce_s(len(members), size_bytes, latency_s, bandwidth)
    return float(busy_s.max())


def _slowest(devices: Devices, members: IntArray) -> tuple[float, float]:
    """Largest latency and least bandwidth around the ring of the members."""
    after = np.roll(members, -1)
    return (float(devices.latency_s[members, after].max()),
            float(devices.bandwidth_bytes_per_s[members, after].min()))
