"""Placements made for memory alone: where room is scarce, the others start from here.

Decreasing best fit: groups from large to small, each to the device where it takes the largest share
of what is left (Johnson 1974 for one dimension; here devices also differ in what they can run). The
variants order groups by bytes, or by how few devices can take them.
"""

from __future__ import annotations

import numpy as np

from dag.mapping.judge import makespan
from dag.mapping.memory import ROUNDING, group_costs, group_seconds
from dag.mapping.problem import BoolArray, FloatArray, IntArray, Mapping, MappingProblem, Unmapped


def packing(problem: MappingProblem) -> Mapping | Unmapped:
    """The first variant under which everything finds room. Cost: O(groups * devices)."""
    graph, limit = problem.graph, problem.devices.memory_bytes
    costs = group_costs(graph)
    able = np.isfinite(group_seconds(problem, problem.load_seconds()))
    pinned = np.flatnonzero(costs.pin >= 0)
    able[pinned] &= costs.pin[pinned, None] == np.arange(problem.devices.count)
    taken = costs.held + costs.temporary
    choices = (able & (taken[:, None] <= limit)).sum(axis=1)
    stuck = 0
    for order in (
        np.lexsort((-taken, choices)), np.lexsort((choices, -taken)), np.argsort(-costs.temporary),
    ):
        home, stuck = _packed(order, costs.held, costs.temporary, able, limit)
        if stuck < 0:
            device = home[graph.group]
            return Mapping(
                algorithm="packing", device=device, start_s=makespan(problem, device)[1])
    node = graph.ids[int(costs.members[costs.first[stuck]])]
    return Unmapped(algorithm="packing", reason=f"no device has room left for node '{node}'")


def _packed(
    order: IntArray, held: FloatArray, temporary: FloatArray, able: BoolArray, limit: FloatArray
) -> tuple[IntArray, int]:
    """Device of each group, and the first that found no room, or -1."""
    home = np.full(len(held), -1, dtype=np.int64)
    used, largest = np.zeros(len(limit)), np.zeros(len(limit))
    for group in order.tolist():
        needed = used + held[group] + np.maximum(largest, temporary[group])
        left = np.where(able[group] & (needed <= limit * ROUNDING), limit - needed, np.inf)
        device = int(left.argmin())
        if not np.isfinite(left[device]):
            return home, group
        home[group] = device
        used[device] += held[group]
        largest[device] = max(largest[device], temporary[group])
    return home, -1
