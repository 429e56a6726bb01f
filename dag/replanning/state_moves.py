"""What moving state between devices takes when a mapping changes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy.optimize import linear_sum_assignment

from dag.mapping.problem import Devices, FloatArray, IntArray, MappingProblem

NOWHERE = -1
"""Device number of a node that runs nowhere, or of state that no device is known to have."""


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Running:
    """Where nodes run now and where their state is, in the numbers of the changed cluster.

    Attributes:
        device: of each node; `NOWHERE` where its device has left, [nodes].
        start_s: start times of the present mapping, [nodes]; None if unknown.
        state_bytes: what must move with a node, [nodes].
        state_at: device that has the node's state, such as a backup of a lost one, [nodes];
            `NOWHERE`: it is counted as coming from whichever device has the fastest link.
    """

    device: IntArray
    state_bytes: FloatArray
    state_at: IntArray
    start_s: FloatArray | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Traffic:
    """State that moves from one device to another.

    Attributes:
        source: device number.
        target: device number.
        bytes: sum over nodes.
        seconds: latency and bytes over the link alone.
    """

    source: int
    target: int
    bytes: float
    seconds: float


class Moved(NamedTuple):
    """Traffic as arrays, one entry per ordered pair of devices that exchange state."""

    source: IntArray
    target: IntArray
    size: FloatArray
    seconds: FloatArray


def moved(
    running: Running, devices: Devices, device: IntArray, near: IntArray
) -> Moved:
    """The traffic of taking up a mapping: of state that is not yet where its node goes.

    Args:
        running: the present mapping and where its state is.
        devices: the cluster.
        device: of each node then.
        near: from where unknown state comes to each device (`nearest`).
    """
    node = np.flatnonzero((running.state_at != device) & (running.state_bytes > 0.0))
    target = device[node]
    source = running.state_at[node]
    source = np.where(source == NOWHERE, near[target], source)
    keys, place = np.unique(source * devices.count + target, return_inverse=True)
    size = np.bincount(place, weights=running.state_bytes[node], minlength=len(keys))
    source, target = keys // devices.count, keys % devices.count
    seconds = devices.latency_s[source, target] + (
        size / devices.bandwidth_bytes_per_s[source, target])
    # A lone device has no neighbour: what it fetches comes from outside, at no known cost.
    seconds = np.where(source == target, 0.0, seconds)
    return Moved(source, target, size.astype(np.float64), seconds)


def move_seconds(traffic: Moved, devices: Devices) -> float:
    """Until all state is there: the longest that a device sends and receives, one at a time.

    A bound from below of one-at-a-time transfers that large states come near to, because pieces
    of them can take turns.
    """
    if not len(traffic.source):
        return 0.0
    busy = np.bincount(traffic.source, weights=traffic.seconds, minlength=devices.count)
    busy += np.bincount(traffic.target, weights=traffic.seconds, minlength=devices.count)
    return float(busy.max())


def renamed(problem: MappingProblem, running: Running, device: IntArray) -> IntArray:
    """A mapping with equal devices exchanged so that most state is where it goes.

    Devices are equal here if speed, memory and times given by device are. Links may differ, so
    the value may change. Devices that nodes are pinned to keep their part.

    Cost: O(devices**3) at worst.
    """
    graph, on = problem.graph, problem.devices
    known = running.state_at >= 0
    shared = np.zeros((on.count, on.count))
    np.add.at(shared, (device[known], running.state_at[known]), running.state_bytes[known])
    traits = np.column_stack([on.speed, on.memory_bytes, on.column])
    kind = np.unique(traits, axis=0, return_inverse=True)[1].reshape(-1)
    pinned = np.unique(graph.pin[graph.pin >= 0])
    kind[pinned] = on.count + np.arange(len(pinned))
    unequal = kind[:, None] != kind[None, :]
    part, name = linear_sum_assignment(np.where(unequal, 1.0 + shared.sum(), -shared))
    new = np.empty(on.count, dtype=np.int64)
    new[part] = name
    exchanged: IntArray = new[device]
    return exchanged


def nearest(devices: Devices) -> IntArray:
    """For each device the other one with the fastest link to it, [devices]; itself if alone."""
    if devices.count == 1:
        return np.zeros(1, dtype=np.int64)
    rate = devices.bandwidth_bytes_per_s.copy()
    np.fill_diagonal(rate, -1.0)
    fastest: IntArray = np.argmax(rate, axis=0).astype(np.int64)
    return fastest


def listed(traffic: Moved) -> tuple[Traffic, ...]:
    """Traffic for people, by source then target."""
    return tuple(
        Traffic(source=source, target=target, bytes=size, seconds=seconds)
        for source, target, size, seconds in zip(
            traffic.source.tolist(), traffic.target.tolist(), traffic.size.tolist(),
            traffic.seconds.tolist(), strict=True))
