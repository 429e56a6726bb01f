"""Move single nodes off the most loaded device, with the change of every load kept exactly."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from dag.compiled import compiled
from dag.mapping.build import starts
from dag.mapping.candidates import work_table
from dag.mapping.judge import Wiring, loads, peak_bytes, transfer_s, wiring
from dag.mapping.problem import BoolArray, FloatArray, IntArray, MappingProblem

LEAST_GAIN = 1e-9
"""Share of the largest load that a move must save, so that rounding moves nothing."""


class Moving(NamedTuple):
    """What compiled code reads to move nodes.

    Attributes:
        free: whether a node may move, [nodes].
        work: seconds at speed 1, [nodes, columns].
        column: of each device.
        speed: of each device.
        held: persistent and output bytes, [nodes].
        temporary: [nodes].
        memory: bytes, [devices].
        edge_target: see `CostGraph`.
        edge_tensor: see `CostGraph`.
        made: tensors ordered by source, [tensors].
        first_made: tensors of node n are `made[first_made[n]:first_made[n + 1]]`.
        readers: edges ordered by tensor, [edges].
        first_reader: edges of tensor t are `readers[first_reader[t]:first_reader[t + 1]]`.
    """

    free: BoolArray
    work: FloatArray
    column: IntArray
    speed: FloatArray
    held: FloatArray
    temporary: FloatArray
    memory: FloatArray
    edge_target: IntArray
    edge_tensor: IntArray
    made: IntArray
    first_made: IntArray
    readers: IntArray
    first_reader: IntArray


class Changes(NamedTuple):
    """What one move does to the loads; empty between moves.

    Attributes:
        load: seconds added to each device, [devices].
        touched: devices concerned, the first `filled[0]` of them.
        filled: [1].
        listed: whether a device is among them, [devices].
        seen: the last round in which a device was met, [devices].
        round: number of the present round, [1].
    """

    load: FloatArray
    touched: IntArray
    filled: IntArray
    listed: BoolArray
    seen: IntArray
    round: IntArray


def free_nodes(problem: MappingProblem) -> BoolArray:
    """Nodes that are alone in their co-location group and not pinned, [nodes]."""
    graph = problem.graph
    members = np.bincount(graph.group, minlength=graph.groups)
    free: BoolArray = (members[graph.group] == 1) & (graph.pin < 0)
    return free


def levelled(problem: MappingProblem, device: IntArray, visits: int) -> IntArray:
    """Move nodes while that lowers the largest load of all devices concerned.

    A node goes to the device of a neighbour or to the least loaded one.

    Args:
        problem: a throughput problem.
        device: of each node; a sound mapping.
        visits: bound of the work, in edges looked at.
    """
    graph, on = problem.graph, problem.devices
    by_tensor = np.argsort(graph.edge_tensor, kind="stable")
    by_source = np.argsort(graph.tensor_source, kind="stable")
    nodes = Moving(
        free_nodes(problem), work_table(problem), on.column, on.speed,
        graph.persistent_bytes + graph.output_bytes, graph.temporary_bytes, on.memory_bytes,
        graph.edge_target, graph.edge_tensor, by_source,
        starts(graph.tensor_source[by_source], graph.nodes), by_tensor,
        starts(graph.edge_tensor[by_tensor], len(graph.tensor_bytes)))
    moved = device.copy()
    _level(nodes, wiring(problem), moved, loads(problem, device), peak_bytes(problem, device),
           _changes(on.count), visits)
    return moved


def _changes(devices: int) -> Changes:
    return Changes(
        np.zeros(devices), np.zeros(devices, dtype=np.int64), np.zeros(1, dtype=np.int64),
        np.zeros(devices, dtype=np.bool_), np.zeros(devices, dtype=np.int64),
        np.zeros(1, dtype=np.int64))


@compiled
def _level(
    nodes: Moving, wires: Wiring, device: IntArray, load: FloatArray, peak: FloatArray,
    changes: Changes, visits: int,
) -> None:
    """Change `device`; `peak` never shrinks by temporary bytes, so it is never too small."""
    nearby = np.empty(len(load), dtype=np.int64)
    while visits > 0:
        worst, idle = int(np.argmax(load)), int(np.argmin(load))
        node, there, top = -1, -1, load[worst] * (1.0 - LEAST_GAIN)
        for tried in range(len(device)):
            if device[tried] != worst or not nodes.free[tried]:
                continue
            count, looked = _nearby(nodes, wires, device, tried, idle, changes, nearby)
            visits -= looked
            for number in range(count):
                target = nearby[number]
                own = nodes.work[tried, nodes.column[target]] / nodes.speed[target]
                if load[target] + own >= top and not wires.serial:
                    continue
                if peak[target] + nodes.held[tried] + nodes.temporary[tried] > nodes.memory[target]:
                    continue
                visits -= _try(nodes, wires, device, tried, target, changes)
                reached = _reached(load, changes)
                _forget(changes)
                if reached < top:
                    node, there, top = tried, target, reached
        if node < 0:
            return
        _try(nodes, wires, device, node, there, changes)
        for number in range(changes.filled[0]):
            load[changes.touched[number]] += changes.load[changes.touched[number]]
        _forget(changes)
        peak[worst] -= nodes.held[node]
        peak[there] += nodes.held[node] + nodes.temporary[node]
        device[node] = there


@compiled
def _nearby(
    nodes: Moving, wires: Wiring, device: IntArray, node: int, idle: int, changes: Changes,
    nearby: IntArray,
) -> tuple[int, int]:
    """Other devices to try for a node, the first so many of `nearby`; and edges looked at."""
    changes.round[0] += 1
    changes.seen[device[node]] = changes.round[0]
    count, looked = 0, 1
    if changes.seen[idle] != changes.round[0]:
        changes.seen[idle] = changes.round[0]
        nearby[count] = idle
        count += 1
    for place in range(nodes.first_made[node], nodes.first_made[node + 1]):
        tensor = nodes.made[place]
        for number in range(nodes.first_reader[tensor], nodes.first_reader[tensor + 1]):
            at = device[nodes.edge_target[nodes.readers[number]]]
            looked += 1
            if changes.seen[at] != changes.round[0]:
                changes.seen[at] = changes.round[0]
                nearby[count] = at
                count += 1
    for edge in range(wires.first_in[node], wires.first_in[node + 1]):
        at = device[wires.edge_source[edge]]
        looked += 1
        if changes.seen[at] != changes.round[0]:
            changes.seen[at] = changes.round[0]
            nearby[count] = at
            count += 1
    return count, looked


@compiled
def _try(
    nodes: Moving, wires: Wiring, device: IntArray, node: int, there: int, changes: Changes
) -> int:
    """Fill `changes` for a move of a node; edges looked at."""
    here = device[node]
    _add(changes, here, -nodes.work[node, nodes.column[here]] / nodes.speed[here])
    _add(changes, there, nodes.work[node, nodes.column[there]] / nodes.speed[there])
    if not wires.serial:
        return 1
    looked = 0
    for place in range(nodes.first_made[node], nodes.first_made[node + 1]):
        looked += _resend(nodes, wires, device, nodes.made[place], here, there, changes)
    for edge in range(wires.first_in[node], wires.first_in[node + 1]):
        tensor = nodes.edge_tensor[edge]
        repeated = False
        for other in range(wires.first_in[node], edge):
            repeated = repeated or nodes.edge_tensor[other] == tensor
        if repeated:
            continue
        read_here, read_there = False, False
        for number in range(nodes.first_reader[tensor], nodes.first_reader[tensor + 1]):
            reader = nodes.edge_target[nodes.readers[number]]
            looked += 1
            if reader != node:
                read_here = read_here or device[reader] == here
                read_there = read_there or device[reader] == there
        source = device[wires.edge_source[edge]]
        if source != here and not read_here:
            _send(wires, tensor, source, here, -1.0, changes)
        if source != there and not read_there:
            _send(wires, tensor, source, there, 1.0, changes)
    return looked


@compiled
def _resend(
    nodes: Moving, wires: Wiring, device: IntArray, tensor: int, here: int, there: int,
    changes: Changes,
) -> int:
    """A tensor comes from `there` instead of `here`; edges looked at."""
    changes.round[0] += 1
    looked = 0
    for number in range(nodes.first_reader[tensor], nodes.first_reader[tensor + 1]):
        at = device[nodes.edge_target[nodes.readers[number]]]
        looked += 1
        if changes.seen[at] == changes.round[0]:
            continue
        changes.seen[at] = changes.round[0]
        if at != here:
            _send(wires, tensor, here, at, -1.0, changes)
        if at != there:
            _send(wires, tensor, there, at, 1.0, changes)
    return looked


@compiled
def _send(
    wires: Wiring, tensor: int, source: int, target: int, sign: float, changes: Changes
) -> None:
    seconds = sign * transfer_s(wires, tensor, source, target)
    _add(changes, source, seconds)
    _add(changes, target, seconds)


@compiled
def _add(changes: Changes, device: int, seconds: float) -> None:
    if not changes.listed[device]:
        changes.listed[device] = True
        changes.touched[changes.filled[0]] = device
        changes.filled[0] += 1
    changes.load[device] += seconds


@compiled
def _reached(load: FloatArray, changes: Changes) -> float:
    """Largest load, after the move, of the devices that it concerns."""
    top = 0.0
    for number in range(changes.filled[0]):
        device = changes.touched[number]
        top = max(top, load[device] + changes.load[device])
    return top


@compiled
def _forget(changes: Changes) -> None:
    for number in range(changes.filled[0]):
        changes.load[changes.touched[number]] = 0.0
        changes.listed[changes.touched[number]] = False
    changes.filled[0] = 0
