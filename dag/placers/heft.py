"""HEFT: list scheduling by upward rank with insertion, under memory and co-location constraints.

Topcuoglu, Hariri & Wu 2002 (IEEE TPDS 13(3), section 4.1): nodes by decreasing length of the
longest path to an exit, times averaged over devices and pairs; each to the device where it finishes
first, in the earliest gap that holds it. We differ: a device must have room for the node's whole
co-location group, whose members then follow; over serial channels the transfers of a candidate
device are queued behind those already made; and the rank may be taken with the least instead of the
mean times, and with transfers weighed less, because a rank made of mean transfers overstates them
on networks where most neighbours end up on one device.
"""

from __future__ import annotations

import numpy as np

from dag.compiled import compiled
from dag.mapping.judge import Wiring, makespan, running_order, transfer_s, wiring
from dag.mapping.memory import GroupCosts, group_costs, group_seconds, has_room
from dag.mapping.paths import by_rank, longest_after
from dag.mapping.problem import (
    BoolArray,
    FloatArray,
    IntArray,
    Mapping,
    MappingProblem,
    Unmapped,
)


def heft(problem: MappingProblem) -> Mapping | Unmapped:
    """The published algorithm. Cost: O(edges * devices + nodes * nodes) at worst."""
    return ranked(problem, upward_rank(problem), "heft")


def ranked(problem: MappingProblem, rank: FloatArray, algorithm: str) -> Mapping | Unmapped:
    """List scheduling by any rank that decreases along every edge.

    Args:
        problem: the problem; few enough nodes and devices for a table of both.
        rank: [nodes]; ties go topologically.
        algorithm: name for the answer.
    """
    graph = problem.graph
    order = by_rank(graph, rank)
    seconds = problem.seconds()
    able = np.isfinite(group_seconds(problem, seconds))
    device, start, stuck = _schedule(
        order, seconds, able, graph.group, group_costs(graph), problem.devices.memory_bytes,
        wiring(problem))
    if stuck >= 0:
        return Unmapped(
            algorithm=algorithm, reason=f"no device has room left for node '{graph.ids[stuck]}'")
    _, starts = makespan(problem, device, running_order(problem, device, start))
    return Mapping(algorithm=algorithm, device=device, start_s=starts)


def upward_rank(
    problem: MappingProblem, *, least: bool = False, transfer_weight: float = 1.0
) -> FloatArray:
    """Longest path from each node to an exit, its own time included, [nodes], seconds.

    Args:
        problem: the problem.
        least: count a node's least time over the devices instead of the mean.
        transfer_weight: multiplies the mean transfer of every edge.
    """
    graph = problem.graph
    node_s = typical_seconds(problem.seconds(), least=least)
    tensor_s = transfer_weight * mean_transfers(problem)
    return node_s + longest_after(graph, node_s, tensor_s[graph.edge_tensor])


def typical_seconds(seconds: FloatArray, *, least: bool = False) -> FloatArray:
    """Mean (or least) time of each node over the devices that can run it, [nodes]."""
    finite = np.isfinite(seconds)
    if least:
        best: FloatArray = np.where(finite, seconds, np.inf).min(axis=1)
        return np.where(np.isfinite(best), best, 0.0)
    mean: FloatArray = (
        np.where(finite, seconds, 0.0).sum(axis=1) / np.maximum(finite.sum(axis=1), 1))
    return mean


def mean_transfers(problem: MappingProblem) -> FloatArray:
    """Mean time of each tensor over all ordered pairs of different devices, [tensors], seconds."""
    graph, devices = problem.graph, problem.devices
    apart = ~np.eye(devices.count, dtype=bool)
    if not apart.any():
        return np.zeros(len(graph.tensor_bytes))
    latency = devices.latency_s[apart].mean()
    mean: FloatArray = latency + graph.tensor_bytes * (
        1.0 / devices.bandwidth_bytes_per_s[apart]).mean()
    for tensor in np.flatnonzero(graph.override_row >= 0).tolist():
        given = graph.override_s[graph.override_row[tensor]]
        usual = devices.latency_s + graph.tensor_bytes[tensor] / devices.bandwidth_bytes_per_s
        mean[tensor] = np.where(np.isnan(given), usual, given)[apart].mean()
    return mean


@compiled
def _schedule(
    order: IntArray, seconds: FloatArray, able: BoolArray, group: IntArray, costs: GroupCosts,
    limit: FloatArray, wires: Wiring,
) -> tuple[IntArray, FloatArray, int]:
    """Device and start of each node, and the first node that no device has room for, or -1."""
    nodes, devices = seconds.shape
    device = np.full(nodes, -1, dtype=np.int64)
    start, end = np.zeros(nodes), np.zeros(nodes)
    home = np.full(len(costs.held), -1, dtype=np.int64)
    held, temporary = np.zeros(devices), np.zeros(devices)
    channel = np.zeros(devices)
    busy_from = np.zeros((devices, nodes))
    busy_to = np.zeros((devices, nodes))
    count = np.zeros(devices, dtype=np.int64)
    trial = np.zeros(devices)
    for node in order:
        wanted = home[group[node]]
        best, best_start, best_end = -1, 0.0, np.inf
        for here in range(devices):
            if wanted >= 0:
                if here != wanted:
                    continue
            elif not able[group[node], here] or not has_room(
                    group[node], here, costs, held, temporary, limit):
                continue
            ready = _ready(node, here, device, end, channel, trial, wires)
            begin = _gap(ready, seconds[node, here], busy_from[here], busy_to[here], count[here])
            if begin + seconds[node, here] < best_end:
                best, best_start, best_end = here, begin, begin + seconds[node, here]
        if best < 0:
            return device, start, int(node)
        if wires.serial:
            _ready(node, best, device, end, channel, trial, wires)
            channel[:] = trial
        device[node] = best
        start[node] = best_start
        end[node] = best_end
        _occupy(best_start, best_end, busy_from[best], busy_to[best], count[best])
        count[best] += 1
        if wanted < 0:
            home[group[node]] = best
            held[best] += costs.held[group[node]]
            temporary[best] = max(temporary[best], costs.temporary[group[node]])
    return device, start, -1


@compiled
def _ready(
    node: int, here: int, device: IntArray, end: FloatArray, channel: FloatArray,
    trial: FloatArray, wires: Wiring,
) -> float:
    """When a node's inputs are on a device; `trial` becomes the channels after that.

    A tensor that an earlier node fetched to the same device is counted again here: a small
    overstatement, which the judge does not share.
    """
    ready = 0.0
    if wires.serial:
        trial[:] = channel
    for edge in range(wires.first_in[node], wires.first_in[node + 1]):
        source = wires.edge_source[edge]
        there = device[source]
        if there == here:
            ready = max(ready, end[source])
            continue
        taken = transfer_s(wires, wires.edge_tensor[edge], there, here)
        if wires.serial:
            begin = max(end[source], max(trial[there], trial[here]))
            trial[there] = begin + taken
            trial[here] = begin + taken
            ready = max(ready, begin + taken)
        else:
            ready = max(ready, end[source] + taken)
    return ready


@compiled
def _gap(
    ready: float, taken: float, busy_from: FloatArray, busy_to: FloatArray, count: int
) -> float:
    """Earliest start of so much work, at or after `ready`, between the busy stretches."""
    low, high = 0, count
    while low < high:
        middle = (low + high) // 2
        if busy_to[middle] <= ready:
            low = middle + 1
        else:
            high = middle
    begin = ready
    for place in range(low, count):
        if begin + taken <= busy_from[place]:
            return begin
        begin = max(begin, busy_to[place])
    return begin


@compiled
def _occupy(
    begin: float, end: float, busy_from: FloatArray, busy_to: FloatArray, count: int
) -> None:
    place = count
    while place > 0 and busy_from[place - 1] > begin:
        busy_from[place] = busy_from[place - 1]
        busy_to[place] = busy_to[place - 1]
        place -= 1
    busy_from[place] = begin
    busy_to[place] = end
