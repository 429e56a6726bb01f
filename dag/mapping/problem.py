"""A cost graph, devices, and what to optimise: arrays, one entry per node, edge, tensor, device.

This is the planner's neutral form (`docs/cost-graph.md`): published profiles, hand-made cases and
the blocks of a job's graph are all written in it. Bytes are floats here, exact up to 2**53; times
are seconds.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]

Objective = Literal["latency", "throughput"]
LATENCY: Objective = "latency"
"""The makespan of one pass forward."""
THROUGHPUT: Objective = "throughput"
"""The largest load of a device: of its nodes forward and backward, and of serial transfers."""


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class CostGraph:
    """A DAG of nodes with costs. Node numbers need not be topological; `topological` is.

    A node takes `compute_s[node, column[device]] / speed[device]` seconds on a device; infinite
    where it cannot run. A tensor is what one producer makes and sends once to each other device
    that has consumers of it; several edges may carry one tensor.

    Attributes:
        ids: name of each node, unique.
        compute_s: forward seconds at speed 1, [nodes, columns].
        backward_s: backward seconds at speed 1, [nodes, columns]; zeros outside training.
        persistent_bytes: parameters and what stays with them, [nodes].
        output_bytes: the node's results, held on its device, [nodes].
        temporary_bytes: taken only while the node runs, [nodes].
        group: co-location group, [nodes]; numbers 0 to `groups` - 1 in order of first member; a
            node of no group is alone in one.
        groups: how many.
        pin: device that a node must run on, or -1, [nodes]; equal within a group.
        edge_source: [edges], ordered by target then as given.
        edge_target: [edges].
        edge_tensor: tensor that the edge carries, [edges].
        tensor_source: node that makes it, [tensors].
        tensor_bytes: [tensors].
        override_row: row of `override_s` that replaces link times for the tensor, or -1, [tensors].
        override_s: seconds of a transfer by (row, source device, target device); NaN: not replaced.
        first_in: edges into node n are `first_in[n]` to `first_in[n + 1] - 1`, [nodes + 1].
        out_edges: edge numbers ordered by source, [edges].
        first_out: edges out of n are `out_edges[first_out[n]:first_out[n + 1]]`, [nodes + 1].
        topological: node numbers so that every edge goes forward; smallest number first, [nodes].
    """

    ids: tuple[str, ...]
    compute_s: FloatArray
    backward_s: FloatArray
    persistent_bytes: FloatArray
    output_bytes: FloatArray
    temporary_bytes: FloatArray
    group: IntArray
    groups: int
    pin: IntArray
    edge_source: IntArray
    edge_target: IntArray
    edge_tensor: IntArray
    tensor_source: IntArray
    tensor_bytes: FloatArray
    override_row: IntArray
    override_s: FloatArray
    first_in: IntArray
    out_edges: IntArray
    first_out: IntArray
    topological: IntArray

    @property
    def nodes(self) -> int:
        """Number of nodes."""
        return len(self.ids)

    @property
    def edges(self) -> int:
        """Number of edges."""
        return len(self.edge_source)


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Devices:
    """Where nodes can run, and the ordered pairs between them.

    Attributes:
        ids: name of each device, unique.
        speed: divides `compute_s`, > 0, [devices].
        column: which column of `compute_s` a device reads, [devices].
        memory_bytes: [devices].
        latency_s: [devices, devices].
        bandwidth_bytes_per_s: > 0, may be infinite, [devices, devices].
        serial: one transfer at a time per device, sending and receiving together; otherwise
            transfers start when the producer ends and do not contend.
    """

    ids: tuple[str, ...]
    speed: FloatArray
    column: IntArray
    memory_bytes: FloatArray
    latency_s: FloatArray
    bandwidth_bytes_per_s: FloatArray
    serial: bool

    @property
    def count(self) -> int:
        """Number of devices."""
        return len(self.ids)


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class MappingProblem:
    """Which device runs each node of `graph`, so that `objective` is smallest."""

    graph: CostGraph
    devices: Devices
    objective: Objective

    def seconds(self) -> FloatArray:
        """Time of every node on every device, forward, [nodes, devices]. Cost: that many cells."""
        return self._on_devices(self.graph.compute_s)

    def load_seconds(self) -> FloatArray:
        """The same, forward and backward."""
        return self._on_devices(self.graph.compute_s + self.graph.backward_s)

    def _on_devices(self, at_speed_one: FloatArray) -> FloatArray:
        table: FloatArray = at_speed_one[:, self.devices.column] / self.devices.speed
        return table

    def transfer_seconds(self, tensor: int, source: int, target: int) -> float:
        """Time of one tensor from one device to another; 0 on the same device."""
        if source == target:
            return 0.0
        row = int(self.graph.override_row[tensor])
        if row >= 0 and not np.isnan(self.graph.override_s[row, source, target]):
            return float(self.graph.override_s[row, source, target])
        return float(
            self.devices.latency_s[source, target]
            + self.graph.tensor_bytes[tensor] / self.devices.bandwidth_bytes_per_s[source, target])


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Mapping:
    """An answer: a device for each node and, for latency, when it starts.

    Attributes:
        algorithm: name of what found it.
        device: [nodes].
        start_s: [nodes]; meaningful for latency. Sorted by it (ties: topologically), the nodes of
            a device run one after the other.
    """

    algorithm: str
    device: IntArray
    start_s: FloatArray


@dataclass(frozen=True, slots=True, kw_only=True)
class Unmapped:
    """An algorithm found nothing: why.

    Attributes:
        algorithm: its name.
        reason: one sentence for a person.
    """

    algorithm: str
    reason: str


MappingPlacer = Callable[[MappingProblem], Mapping | Unmapped]
"""Finds a mapping or says why not; deterministic."""
