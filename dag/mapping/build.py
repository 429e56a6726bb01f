"""Make a `CostGraph` or `Devices` from descriptions, and check that they make sense."""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from dag.mapping.problem import CostGraph, Devices, FloatArray, IntArray
from homespun.errors import Code, HomespunError

Seconds = float | Mapping[str, float]
"""At speed 1, or by device id; a device that is absent cannot run the node."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeCosts:
    """One node of a cost graph, as described; see `CostGraph` for the meaning."""

    id: str
    compute_s: Seconds
    backward_s: Seconds = 0.0
    persistent_bytes: float = 0.0
    output_bytes: float = 0.0
    temporary_bytes: float = 0.0
    colocate: str = ""
    pin: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class EdgeCosts:
    """One edge. Edges of one source with equal `port`, or without one equal bytes, are one tensor.

    Attributes:
        transfer_s: (source device, target device) -> seconds, in place of latency and bandwidth.
    """

    src: str
    dst: str
    bytes: float
    port: str | None = None
    transfer_s: Mapping[tuple[str, str], float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceCosts:
    """One device."""

    id: str
    memory_bytes: float
    speed: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkCosts:
    """An ordered pair of devices."""

    latency_s: float
    bandwidth_bytes_per_s: float


def devices(
    described: Sequence[DeviceCosts], default: LinkCosts,
    links: Mapping[tuple[str, str], LinkCosts] | None = None, *, serial: bool = False,
    by_device: bool = False,
) -> Devices:
    """Devices as arrays.

    Args:
        described: at least one; unique ids.
        default: the link of every pair that `links` does not name.
        links: by (source id, target id).
        serial: one transfer at a time per device.
        by_device: the graph gives seconds per device id, so each device reads a column of its own.

    Raises:
        HomespunError: INVALID_ARGUMENT names what is missing, doubled or out of range.
    """
    if not described:
        raise _invalid("The cluster has no device.")
    place = _numbered([device.id for device in described], "device")
    count = len(described)
    latency_s = np.full((count, count), default.latency_s, dtype=np.float64)
    bandwidth = np.full(
        (count, count), default.bandwidth_bytes_per_s, dtype=np.float64)
    for (source, target), link in (links or {}).items():
        for end in (source, target):
            if end not in place:
                raise _invalid(f"A link names device '{end}', which the cluster does not have.")
        latency_s[place[source], place[target]] = link.latency_s
        bandwidth[place[source], place[target]] = link.bandwidth_bytes_per_s
    np.fill_diagonal(latency_s, 0.0)
    np.fill_diagonal(bandwidth, np.inf)
    return Devices(
        ids=tuple(device.id for device in described),
        speed=np.array([device.speed for device in described], dtype=np.float64),
        column=np.arange(count) if by_device else np.zeros(count, dtype=np.int64),
        memory_bytes=np.array([device.memory_bytes for device in described], dtype=np.float64),
        latency_s=latency_s, bandwidth_bytes_per_s=bandwidth, serial=serial)


def cost_graph(
    nodes: Sequence[NodeCosts], edges: Sequence[EdgeCosts], on: Sequence[DeviceCosts],
) -> tuple[CostGraph, bool]:
    """A graph as arrays, for these devices.

    Returns:
        The graph, and whether it gives seconds per device (`devices(..., by_device=...)`).

    Raises:
        HomespunError: INVALID_ARGUMENT names the node or edge that is unknown, doubled,
            contradictory or part of a cycle.

    Cost: O(nodes + edges), and nodes * devices where seconds are given per device.
    """
    place = _numbered([node.id for node in nodes], "node")
    device_place = _numbered([device.id for device in on], "device")
    for edge in edges:
        for end in (edge.src, edge.dst):
            if end not in place:
                raise _invalid(f"An edge names node '{end}', which the graph does not have.")
    by_device = any(
        isinstance(cost, Mapping) for node in nodes for cost in (node.compute_s, node.backward_s))
    group, groups, pin = _bound(nodes, device_place)
    wired = _Wiring(nodes, edges, place, device_place)
    return CostGraph(
        ids=tuple(node.id for node in nodes),
        compute_s=_seconds([node.compute_s for node in nodes], on, by_device),
        backward_s=_seconds([node.backward_s for node in nodes], on, by_device),
        persistent_bytes=np.array([node.persistent_bytes for node in nodes], dtype=np.float64),
        output_bytes=np.array([node.output_bytes for node in nodes], dtype=np.float64),
        temporary_bytes=np.array([node.temporary_bytes for node in nodes], dtype=np.float64),
        group=group, groups=groups, pin=pin,
        edge_source=wired.source, edge_target=wired.target, edge_tensor=wired.tensor,
        tensor_source=wired.tensor_source, tensor_bytes=wired.tensor_bytes,
        override_row=wired.override_row, override_s=wired.override_s,
        first_in=starts(wired.target, len(nodes)),
        out_edges=np.argsort(wired.source, kind="stable"),
        first_out=starts(np.sort(wired.source), len(nodes)),
        topological=topological_order(
            len(nodes), wired.source, wired.target, [node.id for node in nodes]),
    ), by_device


def starts(ascending: IntArray, count: int) -> IntArray:
    """Where each of the values 0 to `count` - 1 begins in a sorted array; one more at the end."""
    return np.searchsorted(ascending, np.arange(count + 1)).astype(np.int64)


def topological_order(
    count: int, source: IntArray, target: IntArray, ids: Sequence[str] = ()
) -> IntArray:
    """Nodes so that every edge goes forward; of those that are ready the smallest number first.

    Raises:
        HomespunError: INVALID_ARGUMENT names a node of a cycle.
    """
    waiting = np.bincount(target, minlength=count).tolist()
    by_source = np.argsort(source, kind="stable")
    first = starts(source[by_source], count).tolist()
    successors = target[by_source].tolist()
    ready = [node for node in range(count) if not waiting[node]]
    order: list[int] = []
    while ready:
        node = heapq.heappop(ready)
        order.append(node)
        for successor in successors[first[node]:first[node + 1]]:
            waiting[successor] -= 1
            if not waiting[successor]:
                heapq.heappush(ready, successor)
    if len(order) < count:
        stuck = next(node for node in range(count) if waiting[node])
        raise _invalid(f"The graph has a cycle; node '{ids[stuck] if ids else stuck}' waits for "
                       "one. A cost graph must be acyclic.")
    return np.array(order, dtype=np.int64)


def _numbered(ids: Sequence[str], what: str) -> dict[str, int]:
    place = {name: number for number, name in enumerate(ids)}
    if len(place) < len(ids):
        double = next(name for number, name in enumerate(ids) if place[name] != number)
        raise _invalid(f"The {what} id '{double}' is used twice; ids must be unique.")
    return place


def _seconds(
    costs: Sequence[Seconds], on: Sequence[DeviceCosts], by_device: bool
) -> FloatArray:
    if not by_device:
        return np.array(costs, dtype=np.float64).reshape(-1, 1)
    # Seconds per device hold for that device whatever its speed; a column is divided by it later.
    return np.array([
        [cost.get(device.id, np.inf) * device.speed if isinstance(cost, Mapping) else cost
         for device in on] for cost in costs], dtype=np.float64).reshape(len(costs), len(on))


def _bound(
    nodes: Sequence[NodeCosts], device_place: Mapping[str, int]
) -> tuple[IntArray, int, IntArray]:
    """Group of each node, their number, and the device it is pinned to."""
    number: dict[str, int] = {}
    pinned: dict[int, int] = {}
    group = np.zeros(len(nodes), dtype=np.int64)
    groups = 0
    for index, node in enumerate(nodes):
        if node.colocate and node.colocate in number:
            group[index] = number[node.colocate]
        else:
            group[index] = groups
            if node.colocate:
                number[node.colocate] = groups
            groups += 1
        if not node.pin:
            continue
        if node.pin not in device_place:
            raise _invalid(f"Node '{node.id}' is pinned to '{node.pin}', which the cluster does "
                           "not have.")
        wanted = device_place[node.pin]
        if pinned.setdefault(int(group[index]), wanted) != wanted:
            raise _invalid(f"Node '{node.id}' is pinned to '{node.pin}', but its co-location "
                           f"group '{node.colocate}' to another device.")
    pin = np.array([pinned.get(int(number), -1) for number in group], dtype=np.int64)
    return group, groups, pin


class _Wiring:
    """Edges sorted by target, and the tensors that they carry."""

    def __init__(
        self, nodes: Sequence[NodeCosts], edges: Sequence[EdgeCosts],
        place: Mapping[str, int], device_place: Mapping[str, int],
    ) -> None:
        ordered = sorted(edges, key=lambda edge: place[edge.dst])
        self.source = np.array([place[edge.src] for edge in ordered], dtype=np.int64)
        self.target = np.array([place[edge.dst] for edge in ordered], dtype=np.int64)
        tensors: dict[tuple[int, str | None, float], int] = {}
        sources: list[int] = []
        sizes: list[float] = []
        rows: dict[int, FloatArray] = {}
        carried = []
        for edge in ordered:
            key = (place[edge.src], edge.port, edge.bytes if edge.port is None else 0.0)
            tensor = tensors.setdefault(key, len(tensors))
            if tensor == len(sources):
                sources.append(place[edge.src])
                sizes.append(edge.bytes)
            elif sizes[tensor] != edge.bytes:
                raise _invalid(f"Port '{edge.port}' of node '{edge.src}' has edges of "
                               f"{sizes[tensor]:g} and {edge.bytes:g} bytes; one tensor has one "
                               "size.")
            carried.append(tensor)
            for (there, back), seconds in edge.transfer_s.items():
                for end in (there, back):
                    if end not in device_place:
                        raise _invalid(f"The edge '{edge.src}' -> '{edge.dst}' gives a transfer "
                                       f"time for device '{end}', which the cluster does not "
                                       "have.")
                count = len(device_place)
                row = rows.setdefault(tensor, np.full((count, count), np.nan))
                row[device_place[there], device_place[back]] = seconds
        self.tensor = np.array(carried, dtype=np.int64)
        self.tensor_source = np.array(sources, dtype=np.int64)
        self.tensor_bytes = np.array(sizes, dtype=np.float64)
        self.override_row = np.full(len(sources), -1, dtype=np.int64)
        for number, tensor in enumerate(rows):
            self.override_row[tensor] = number
        self.override_s = (
            np.stack(list(rows.values())) if rows else np.zeros((0, 1, 1), dtype=np.float64))


def _invalid(message: str) -> HomespunError:
    return HomespunError(Code.INVALID_ARGUMENT, message)
