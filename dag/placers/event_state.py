"""What a run of the event-driven schedule reads and changes."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from dag.mapping.problem import BoolArray, FloatArray, IntArray, MappingProblem


class Rules(NamedTuple):
    """What a run reads.

    Attributes:
        seconds: of every node on every device, [nodes, devices].
        able: whether every member of a group can run on a device, [groups, devices].
        rank: decides between nodes that could start together, lowest first, [nodes].
        favourite: child that a node's device may wait for, or -1, [nodes].
        group: co-location group, [nodes].
        limit: bytes of each device, [devices].
        out_edges: see `CostGraph`.
        first_out: see `CostGraph`.
        edge_target: see `CostGraph`.
    """

    seconds: FloatArray
    able: BoolArray
    rank: IntArray
    favourite: IntArray
    group: IntArray
    limit: FloatArray
    out_edges: IntArray
    first_out: IntArray
    edge_target: IntArray


class State(NamedTuple):
    """What a run changes.

    Attributes:
        device: of a node that was started, else -1, [nodes].
        start: [nodes].
        end: [nodes].
        home: device of a group, or -1, [groups].
        held: bytes that a device's groups keep, [devices].
        temporary: largest temporary bytes of a group on a device, [devices].
        free: when a device is through with what it was given, not in the past, [devices].
        channel: when a device's serial channel is free, [devices].
        running: node that a device has not finished, or -1, [devices].
        last: node that a device was given last, or -1, [devices].
        waiting: edges into a node from nodes that have not finished, [nodes].
        ready: the nodes that wait for nothing and were not started; `counts[0]` of them, [nodes].
        counts: how many are ready, how many were started, [2].
        inputs: when a ready node's inputs can be on a device, infinite where the node may not run,
            [nodes, devices].
        arrived: over serial channels, when a tensor reached a device, or -1, [tensors, devices].
        first: ready node that could start first on a device, or -1, [devices].
        first_s: when, [devices].
        everywhere_s: when a ready node could start on any device that may run it, [nodes].
    """

    device: IntArray
    start: FloatArray
    end: FloatArray
    home: IntArray
    held: FloatArray
    temporary: FloatArray
    free: FloatArray
    channel: FloatArray
    running: IntArray
    last: IntArray
    waiting: IntArray
    ready: IntArray
    counts: IntArray
    inputs: FloatArray
    arrived: FloatArray
    first: IntArray
    first_s: FloatArray
    everywhere_s: FloatArray


def at_rest(problem: MappingProblem) -> State:
    """Nothing was started, and nothing is held. Cost: nodes * devices cells."""
    graph, devices = problem.graph, problem.devices.count
    tensors = len(graph.tensor_bytes) if problem.devices.serial else 0

    def none(count: int) -> IntArray:
        return np.full(count, -1, dtype=np.int64)

    return State(
        device=none(graph.nodes), start=np.zeros(graph.nodes), end=np.zeros(graph.nodes),
        home=none(graph.groups), held=np.zeros(devices), temporary=np.zeros(devices),
        free=np.zeros(devices), channel=np.zeros(devices), running=none(devices),
        last=none(devices), waiting=np.diff(graph.first_in), ready=none(graph.nodes),
        counts=np.zeros(2, dtype=np.int64), inputs=np.zeros((graph.nodes, devices)),
        arrived=np.full((tensors, devices), -1.0), first=none(devices),
        first_s=np.zeros(devices), everywhere_s=np.zeros(graph.nodes))
