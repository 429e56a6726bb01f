"""m-TOPO: fill one device after the other in topological order, the baseline of Baechi's paper."""

from __future__ import annotations

from collections import deque

import numpy as np

from dag.mapping.judge import makespan
from dag.mapping.memory import ROUNDING, GroupCosts, group_costs, group_seconds
from dag.mapping.problem import (
    BoolArray,
    CostGraph,
    FloatArray,
    IntArray,
    Mapping,
    MappingProblem,
    Unmapped,
)


def m_topo(problem: MappingProblem) -> Mapping | Unmapped:
    """Equal bytes per device, give or take a node: the published variant ("uniform").

    A device takes groups in topological order of their first members up to the mean bytes per
    device plus the largest group; then comes the next device. The reference assumes that every
    device has that much. Where one has less, its own limit counts, and if something is left over in
    the end, all start again with real limits alone (the reference's other variant). Groups with
    pins are placed before the others, and a group that cannot run on the device whose turn it is
    goes to the first one that can and has room. Start times are the judge's for that order.

    Cost: O(edges + nodes log nodes + groups * devices).
    """
    graph, limit = problem.graph, problem.devices.memory_bytes
    costs, order = group_costs(graph), breadth_first(graph)
    able = np.isfinite(group_seconds(problem, problem.seconds()))
    share = costs.held.sum() / problem.devices.count
    share += costs.held.max(initial=0.0) + costs.temporary.max(initial=0.0)
    groups = list(dict.fromkeys(graph.group[order].tolist()))
    home, stuck = _fill(groups, costs, able, np.minimum(limit, share))
    if stuck >= 0:
        home, stuck = _fill(groups, costs, able, limit)
    if stuck >= 0:
        name = graph.ids[int(costs.members[costs.first[stuck]])]
        return Unmapped(algorithm="m-topo", reason=f"no device has room left for node '{name}'")
    device = home[graph.group]
    return Mapping(
        algorithm="m-topo", device=device, start_s=makespan(problem, device, order)[1])


def breadth_first(graph: CostGraph) -> IntArray:
    """Nodes in the topological order of Kahn's algorithm with a queue, [nodes].

    The reference places in this order and decides ties by it. Cost: O(nodes + edges).
    """
    waiting = np.diff(graph.first_in).tolist()
    targets = graph.edge_target[graph.out_edges].tolist()
    first = graph.first_out.tolist()
    queue = deque(node for node, edges in enumerate(waiting) if not edges)
    order: list[int] = []
    while queue:
        node = queue.popleft()
        order.append(node)
        for target in targets[first[node]:first[node + 1]]:
            waiting[target] -= 1
            if not waiting[target]:
                queue.append(target)
    return np.array(order, dtype=np.int64)


def _fill(
    groups: list[int], costs: GroupCosts, able: BoolArray, limit: FloatArray
) -> tuple[IntArray, int]:
    """Device of each group, and the first that found none, or -1."""
    devices = len(limit)
    home = np.full(len(costs.held), -1, dtype=np.int64)
    held, temporary = np.zeros(devices), np.zeros(devices)

    def room(group: int, at: int) -> bool:
        largest = max(temporary[at], costs.temporary[group])
        return bool(held[at] + costs.held[group] + largest <= limit[at] * ROUNDING)

    def place(group: int, wanted: list[int]) -> None:
        for at in wanted:
            if able[group, at] and room(group, at):
                home[group] = at
                held[at] += costs.held[group]
                temporary[at] = max(temporary[at], costs.temporary[group])
                return

    turn = 0
    pinned = [group for group in groups if costs.pin[group] >= 0]
    for group in pinned:
        place(group, [int(costs.pin[group])])
    for group in [group for group in groups if costs.pin[group] < 0]:
        while turn < devices and able[group, turn] and not room(group, turn):
            turn += 1
        place(group, [turn] if turn < devices and able[group, turn] else list(range(devices)))
    return home, next((group for group in groups if home[group] < 0), -1)
