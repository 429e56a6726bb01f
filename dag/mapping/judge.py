"""What a mapping costs: makespan, loads, bytes. The one judge of all mappings.

Latency. Nodes run in a given topological order, each as early as its device, its inputs and the
transfers allow. Over overlapping channels a tensor arrives `transfer_seconds` after its producer
ended. Over serial channels a transfer keeps both ends' channels busy from start to end; a node's
missing inputs are fetched when its turn comes, those whose producers ended first before the others,
after everything that the two channels were given before. A tensor is sent to a device once.

Throughput. The load of a device is its nodes' time forward and backward and, over serial channels,
the time of every tensor that it sends or receives, once per remote device.

Memory. A device holds the persistent and output bytes of all its nodes, and the largest temporary
bytes of one. Copies of received tensors are counted where they are made.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from dag.compiled import compiled
from dag.mapping.paths import places
from dag.mapping.problem import (
    LATENCY,
    CostGraph,
    FloatArray,
    IntArray,
    Mapping,
    MappingProblem,
)


class Wiring(NamedTuple):
    """What compiled code reads of a problem; see `CostGraph` and `Devices`."""

    first_in: IntArray
    edge_source: IntArray
    edge_tensor: IntArray
    tensor_bytes: FloatArray
    override_row: IntArray
    override_s: FloatArray
    latency_s: FloatArray
    bandwidth: FloatArray
    serial: bool


def wiring(problem: MappingProblem) -> Wiring:
    """The problem's edges and links."""
    graph, devices = problem.graph, problem.devices
    return Wiring(
        graph.first_in, graph.edge_source, graph.edge_tensor, graph.tensor_bytes,
        graph.override_row, graph.override_s, devices.latency_s, devices.bandwidth_bytes_per_s,
        devices.serial)


class Desk(NamedTuple):
    """Where a play is written down; used again by the next, so that none allocates.

    Attributes:
        start: when each node starts, [nodes].
        end: when it ends, [nodes].
        free: when each device has ended its last node, [devices].
        channel: when its channel has ended its last transfer, [devices].
        arrived: when a tensor reached a device, [slots].
        played: number of the play that wrote `arrived`, [slots].
        queue: edges whose tensors a node still needs, [edges].
    """

    start: FloatArray
    end: FloatArray
    free: FloatArray
    channel: FloatArray
    arrived: FloatArray
    played: IntArray
    queue: IntArray


def desk(problem: MappingProblem, slots: int) -> Desk:
    """An empty desk for plays 1, 2, ..."""
    nodes, devices = problem.graph.nodes, problem.devices.count
    return Desk(
        np.zeros(nodes), np.zeros(nodes), np.zeros(devices), np.zeros(devices), np.zeros(slots),
        np.zeros(slots, dtype=np.int64), np.zeros(problem.graph.edges, dtype=np.int64))


@compiled
def transfer_s(wires: Wiring, tensor: int, source: int, target: int) -> float:
    """Seconds of a tensor between two different devices."""
    row = wires.override_row[tensor]
    if row >= 0 and not np.isnan(wires.override_s[row, source, target]):
        return float(wires.override_s[row, source, target])
    return float(
        wires.latency_s[source, target]
        + wires.tensor_bytes[tensor] / wires.bandwidth[source, target])


@compiled
def play(
    order: IntArray, device: IntArray, node_s: FloatArray, wires: Wiring, slot: IntArray,
    desk: Desk, number: int, tail: FloatArray, bound: float,
) -> float:
    """Play one pass through; the makespan, or infinity once it is clear that it exceeds `bound`.

    Args:
        order: nodes, topological.
        device: of each node.
        node_s: seconds of each node on its device.
        wires: edges and links.
        slot: for each edge the place in `desk.arrived` of (its tensor, its target's device).
        desk: written.
        number: of this play at this desk; another each time.
        tail: seconds that pass at least between a node's end and the end of all, [nodes].
        bound: give up beyond it.

    Cost: O(nodes + edges), quadratic in the in-degree over serial channels.
    """
    free, channel, end = desk.free, desk.channel, desk.end
    free[:] = 0.0
    channel[:] = 0.0
    makespan = 0.0
    for node in order:
        at = device[node]
        ready = free[at]
        waiting = 0
        for edge in range(wires.first_in[node], wires.first_in[node + 1]):
            source = wires.edge_source[edge]
            if device[source] == at:
                ready = max(ready, end[source])
            elif not wires.serial:
                ready = max(ready, end[source] + transfer_s(
                    wires, wires.edge_tensor[edge], device[source], at))
            elif desk.played[slot[edge]] == number:
                ready = max(ready, desk.arrived[slot[edge]])
            else:
                place = waiting
                while place > 0 and end[wires.edge_source[desk.queue[place - 1]]] > end[source]:
                    desk.queue[place] = desk.queue[place - 1]
                    place -= 1
                desk.queue[place] = edge
                waiting += 1
        for place in range(waiting):
            edge = desk.queue[place]
            if desk.played[slot[edge]] != number:
                source = wires.edge_source[edge]
                there = device[source]
                begin = max(end[source], max(channel[there], channel[at]))
                done = begin + transfer_s(wires, wires.edge_tensor[edge], there, at)
                channel[there] = done
                channel[at] = done
                desk.arrived[slot[edge]] = done
                desk.played[slot[edge]] = number
            ready = max(ready, desk.arrived[slot[edge]])
        desk.start[node] = ready
        end[node] = ready + node_s[node]
        free[at] = end[node]
        makespan = max(makespan, end[node])
        if end[node] + tail[node] > bound:
            return np.inf
    return makespan


def makespan(
    problem: MappingProblem, device: IntArray, order: IntArray | None = None
) -> tuple[float, FloatArray]:
    """Makespan and start times of one pass.

    Args:
        problem: the problem.
        device: of each node.
        order: nodes, topological; the graph's own if None.
    """
    graph = problem.graph
    node_s = node_seconds(problem, device)
    slot, slots = _slots(graph, device)
    written = desk(problem, slots)
    total = play(
        graph.topological if order is None else order, device, node_s, wiring(problem), slot,
        written, 1, np.zeros(graph.nodes), np.inf)
    return float(total), written.start


def node_seconds(problem: MappingProblem, device: IntArray) -> FloatArray:
    """Forward time of each node on its device, [nodes]."""
    return _on_own_device(problem, problem.graph.compute_s, device)


def loads(problem: MappingProblem, device: IntArray) -> FloatArray:
    """Load of each device, [devices]. Cost: O(nodes + edges log edges)."""
    graph, devices = problem.graph, problem.devices
    node_s = _on_own_device(problem, graph.compute_s + graph.backward_s, device)
    load = np.bincount(device, weights=node_s, minlength=devices.count).astype(np.float64)
    if devices.serial and graph.edges:
        tensor, target = _sent(graph, device, devices.count)
        source = device[graph.tensor_source[tensor]]
        seconds = transfers_seconds(problem, tensor, source, target)
        load += np.bincount(source, weights=seconds, minlength=devices.count)
        load += np.bincount(target, weights=seconds, minlength=devices.count)
    return load


def transfers_seconds(
    problem: MappingProblem, tensor: IntArray, source: IntArray, target: IntArray
) -> FloatArray:
    """Seconds of each of many transfers between different devices."""
    graph, devices = problem.graph, problem.devices
    seconds: FloatArray = devices.latency_s[source, target] + (
        graph.tensor_bytes[tensor] / devices.bandwidth_bytes_per_s[source, target])
    row = graph.override_row[tensor]
    if (row >= 0).any():
        given = graph.override_s[row, source, target]
        seconds = np.where((row >= 0) & ~np.isnan(given), given, seconds)
    return seconds


def peak_bytes(problem: MappingProblem, device: IntArray) -> FloatArray:
    """Bytes that each device holds at most, [devices]."""
    graph, count = problem.graph, problem.devices.count
    held = np.bincount(
        device, weights=graph.persistent_bytes + graph.output_bytes, minlength=count)
    temporary = np.zeros(count)
    np.maximum.at(temporary, device, graph.temporary_bytes)
    total: FloatArray = held + temporary
    return total


def fits(problem: MappingProblem, device: IntArray) -> bool:
    """Whether every device holds what it is given. Sums may round by one part in 10**12."""
    limit = problem.devices.memory_bytes
    return bool((peak_bytes(problem, device) <= limit * (1 + 1e-12)).all())


def value(problem: MappingProblem, mapping: Mapping) -> float:
    """The objective of a mapping: its makespan by its start times, or its largest load."""
    if problem.objective != LATENCY:
        return float(loads(problem, mapping.device).max())
    order = running_order(problem, mapping.device, mapping.start_s)
    return makespan(problem, mapping.device, order)[0]


def running_order(problem: MappingProblem, device: IntArray, start_s: FloatArray) -> IntArray:
    """Nodes by start time: a topological order, if the starts respect the edges.

    Of those that start together the shorter go first, because those that take no time may start
    with another one; then topologically.
    """
    place = places(problem.graph.topological)
    return np.lexsort((place, node_seconds(problem, device), start_s)).astype(np.int64)


def _on_own_device(problem: MappingProblem, table: FloatArray, device: IntArray) -> FloatArray:
    nodes = np.arange(problem.graph.nodes)
    seconds: FloatArray = (
        table[nodes, problem.devices.column[device]] / problem.devices.speed[device])
    return seconds


def _slots(graph: CostGraph, device: IntArray) -> tuple[IntArray, int]:
    """A number for each edge's (tensor, target device), and how many there are."""
    if not graph.edges:
        return np.zeros(0, dtype=np.int64), 0
    keys = graph.edge_tensor * (int(device.max()) + 1) + device[graph.edge_target]
    distinct, slot = np.unique(keys, return_inverse=True)
    return slot.astype(np.int64), len(distinct)


def _sent(graph: CostGraph, device: IntArray, count: int) -> tuple[IntArray, IntArray]:
    """Tensors that travel, and to which device, each pair once."""
    target = device[graph.edge_target]
    crosses = device[graph.edge_source] != target
    keys = np.unique(graph.edge_tensor[crosses] * count + target[crosses])
    return keys // count, keys % count
