"""Throughput by stretches: cut one order of the nodes into as many stretches as there are devices.

For one order of nodes and one of devices, the smallest possible largest load is found by bisection:
a limit can be kept if filling the devices one after the other up to it places every node. That is
the probing of chains-on-chains partitioning (Pinar & Aykanat 2004, J. Parallel Distrib. Comput.
64(8)); we differ: unequal devices in a given order, memory and co-location. Serial transfers are no
part of the probe; they are judged afterwards, for several numbers of devices.
"""

from __future__ import annotations

import numpy as np

from dag.compiled import compiled
from dag.mapping.candidates import work_table
from dag.mapping.judge import loads
from dag.mapping.memory import GroupCosts, group_costs, has_room
from dag.mapping.problem import CostGraph, FloatArray, IntArray, Mapping, MappingProblem, Unmapped

BISECTIONS = 50
"""Halvings of the interval of limits; the rest is below what sums round."""


def depth_first(graph: CostGraph) -> IntArray:
    """A topological order that goes on with what the last node made ready, branch by branch."""
    return _depth_first(graph.first_in, graph.first_out, graph.out_edges, graph.edge_target)


def stretches(
    problem: MappingProblem, order: IntArray, ranked: IntArray
) -> Mapping | Unmapped:
    """The best split over the first 1, 2, 4, ... and over all of the devices.

    Args:
        problem: a throughput problem.
        order: nodes, topological; neighbours in it should be neighbours in the graph.
        ranked: device numbers, the most promising first.

    Cost: O(BISECTIONS * nodes + edges log edges) for each number of devices.
    """
    graph = problem.graph
    first_seen = np.unique(graph.group[order], return_index=True)[1]
    groups = np.argsort(first_seen, kind="stable").astype(np.int64)
    table = work_table(problem)
    seconds = np.zeros((graph.groups, table.shape[1]))
    np.add.at(seconds, graph.group, table)
    costs = group_costs(graph)
    counts = [2**power for power in range(20) if 2**power < len(ranked)] + [len(ranked)]
    best, best_value = None, np.inf
    for count in counts:
        home = _split(problem, groups, _chain(problem, ranked[:count]), seconds, costs)
        if home is None:
            continue
        device = home[graph.group]
        load = float(loads(problem, device).max())
        if load < best_value:
            best, best_value = device, load
    if best is None:
        return Unmapped(algorithm="stretches", reason="no order of filling the devices holds all")
    return Mapping(algorithm="stretches", device=best, start_s=np.zeros(graph.nodes))


@compiled
def _depth_first(
    first_in: IntArray, first_out: IntArray, out_edges: IntArray, edge_target: IntArray
) -> IntArray:
    nodes = len(first_in) - 1
    order, ready = np.empty(nodes, dtype=np.int64), np.empty(nodes, dtype=np.int64)
    waiting = first_in[1:] - first_in[:-1]
    filled, done = 0, 0
    for node in range(nodes - 1, -1, -1):
        if waiting[node] == 0:
            ready[filled] = node
            filled += 1
    while filled > 0:
        filled -= 1
        node = ready[filled]
        order[done] = node
        done += 1
        for place in range(first_out[node + 1] - 1, first_out[node] - 1, -1):
            target = edge_target[out_edges[place]]
            waiting[target] -= 1
            if waiting[target] == 0:
                ready[filled] = target
                filled += 1
    return order


def _chain(problem: MappingProblem, devices: IntArray) -> IntArray:
    """The devices so that each is followed by the one that it reaches fastest."""
    sizes = problem.graph.tensor_bytes
    usual = float(sizes.mean()) if len(sizes) else 0.0
    pairs = np.ix_(devices, devices)
    hop_s = problem.devices.latency_s[pairs] + (
        usual / problem.devices.bandwidth_bytes_per_s[pairs])
    left = np.ones(len(devices), dtype=bool)
    chain = [0]
    left[0] = False
    while left.any():
        chain.append(int(np.argmin(np.where(left, hop_s[chain[-1]], np.inf))))
        left[chain[-1]] = False
    return devices[chain]


def _split(
    problem: MappingProblem, groups: IntArray, chain: IntArray, seconds: FloatArray,
    costs: GroupCosts,
) -> IntArray | None:
    """Device of each group under the smallest limit that can be kept; None if none can."""
    on = problem.devices
    low, high = 0.0, float(np.where(np.isfinite(seconds), seconds, 0.0).sum() / on.speed.min())
    home = _filled(high, groups, chain, seconds, on.column, on.speed, costs, on.memory_bytes)
    if (home < 0).any():
        return None
    for _ in range(BISECTIONS):
        middle = (low + high) / 2.0
        tried = _filled(
            middle, groups, chain, seconds, on.column, on.speed, costs, on.memory_bytes)
        if (tried < 0).any():
            low = middle
        else:
            home, high = tried, middle
    return home


@compiled
def _filled(
    limit: float, groups: IntArray, chain: IntArray, seconds: FloatArray, column: IntArray,
    speed: FloatArray, costs: GroupCosts, memory: FloatArray,
) -> IntArray:
    """Device of each group, -1 from the first that no later device of the chain takes."""
    home = np.full(len(groups), -1, dtype=np.int64)
    load, held, temporary = np.zeros(len(speed)), np.zeros(len(speed)), np.zeros(len(speed))
    for group in groups:
        device = costs.pin[group]
        if device >= 0:
            load[device] += seconds[group, column[device]] / speed[device]
            held[device] += costs.held[group]
            temporary[device] = max(temporary[device], costs.temporary[group])
            home[group] = device
    place = 0
    for group in groups:
        if home[group] >= 0:
            continue
        while place < len(chain):
            device = chain[place]
            taken = load[device] + seconds[group, column[device]] / speed[device]
            if taken <= limit and has_room(group, device, costs, held, temporary, memory):
                break
            place += 1
        if place == len(chain):
            break
        device = chain[place]
        load[device] += seconds[group, column[device]] / speed[device]
        held[device] += costs.held[group]
        temporary[device] = max(temporary[device], costs.temporary[group])
        home[group] = device
    return home
