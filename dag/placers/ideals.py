"""The best contiguous stages for throughput, over all down-sets where there are few enough.

Tarnawski et al. 2020 (NeurIPS, section 5). We differ: devices have speeds, memories and links of
their own, so several orders of them are tried; sets that cannot improve on the best cut of one
topological order are skipped; and where the graph has too many down-sets, that cut is the answer,
named `ideals-linear`.
"""

from __future__ import annotations

import numpy as np

from dag.mapping import judge
from dag.mapping.problem import FloatArray, Mapping, MappingProblem, Unmapped
from dag.mapping.units import Units, acyclic_groups
from dag.placers.contiguous import cut, down_sets, family, prefixes, readers

NAME, LINEAR = "ideals", "ideals-linear"
MOST_SETS = 3_000
MOST_WORK = 500_000_000
"""Pairs of sets * devices in one search."""


def ideals(problem: MappingProblem, *, most_sets: int = MOST_SETS) -> Mapping | Unmapped:
    """Contiguous stages, the best over some orders of the devices.

    Args:
        problem: the problem; for latency the mapping of the stages for throughput that is best.
        most_sets: with more down-sets than this, only those of one topological order.
    """
    units = acyclic_groups(problem)
    devices = problem.devices.count
    if (units.count + 1)**2 * devices > MOST_WORK:
        return Unmapped(algorithm=NAME, reason=f"{units.count} units on {devices} devices are too "
                        "many for a dynamic program; coarsen the graph first")
    tensors = readers(problem, units)
    linear = family(prefixes(units), units, tensors)
    every = down_sets(units, min(most_sets, int((MOST_WORK / devices)**0.5)))
    whole = family(every, units, tensors) if every and len(every) > units.count + 1 else None
    name = LINEAR if every is None else NAME
    best: Mapping | None = None
    for order in device_orders(problem, units):
        found = cut(problem, units, tensors, linear, order)
        device, bottleneck = found.device, found.bottleneck_s
        if whole is not None:
            found = cut(problem, units, tensors, whole, order, below=bottleneck)
            if found.bottleneck_s < bottleneck:
                device, bottleneck = found.device, found.bottleneck_s
        if not np.isfinite(bottleneck):
            continue
        mapping = Mapping(
            algorithm=name, device=device, start_s=judge.makespan(problem, device)[1])
        if best is None or judge.value(problem, mapping) < judge.value(problem, best):
            best = mapping
    return best or Unmapped(
        algorithm=name, reason="no contiguous stages satisfy memory and pins in the orders of the "
        "devices that were tried")


def device_orders(problem: MappingProblem, units: Units) -> list[list[int]]:
    """Orders to try: as given, fastest first, most memory first, and along good links.

    Pinned units come first or last in these only by chance; the given order is then the caller's.
    """
    devices = problem.devices
    finite = np.isfinite(units.load_s)
    typical = np.where(finite, units.load_s, 0.0).sum(axis=0) / np.maximum(finite.sum(axis=0), 1)
    typical[~finite.any(axis=0)] = np.inf
    numbers = np.arange(devices.count)
    fastest = np.lexsort((numbers, -devices.memory_bytes, typical)).tolist()
    orders = [
        numbers.tolist(), fastest,
        np.lexsort((numbers, typical, -devices.memory_bytes)).tolist(),
        along_links(_link_seconds(problem), fastest[0])]
    return [order for place, order in enumerate(orders) if order not in orders[:place]]


def along_links(link_s: FloatArray, first: int) -> list[int]:
    """From one device always to the nearest that is left. Cost: O(devices**2)."""
    order, left = [first], [n for n in range(len(link_s)) if n != first]
    while left:
        here = order[-1]
        order.append(min(left, key=lambda there: (float(link_s[here, there]), there)))
        left.remove(order[-1])
    return order


def _link_seconds(problem: MappingProblem) -> FloatArray:
    """Time of a tensor of mean size between all pairs, [devices, devices]."""
    mean = float(problem.graph.tensor_bytes.mean()) if len(problem.graph.tensor_bytes) else 0.0
    seconds: FloatArray = (
        problem.devices.latency_s + mean / problem.devices.bandwidth_bytes_per_s)
    return seconds


