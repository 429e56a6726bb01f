"""Sets of nodes that go to a device together, as the searches see them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from dag.mapping.build import topological_order
from dag.mapping.memory import ROUNDING
from dag.mapping.paths import places
from dag.mapping.problem import BoolArray, FloatArray, IntArray, MappingProblem


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Units:
    """A problem whose nodes are joined.

    Attributes:
        label: unit of each node, [nodes].
        count: how many units.
        forward_s: seconds forward, [units, devices]; infinite where a unit cannot run, be it for
            its nodes' times, their pins, or because it alone is more than the device holds.
        load_s: the same forward and backward.
        held_bytes: persistent and output bytes, [units].
        temporary_bytes: largest of a node, [units].
        tensor: tensors that leave their unit, once per unit that reads them, ordered by tensor.
        source: unit that makes each of these.
        target: unit that reads it.
    """

    label: IntArray
    count: int
    forward_s: FloatArray
    load_s: FloatArray
    held_bytes: FloatArray
    temporary_bytes: FloatArray
    tensor: IntArray
    source: IntArray
    target: IntArray


def groups(problem: MappingProblem) -> Units:
    """Co-location groups as units: the least that can be placed apart."""
    return units(problem, problem.graph.group, problem.graph.groups)


def acyclic_groups(problem: MappingProblem) -> Units:
    """Co-location groups, joined where a cycle runs through them: the least to cut between.

    Stages that follow one another cannot cut a cycle of groups, because all its edges would have
    to go forward. Numbered so that every tensor goes from a smaller number to a larger one.
    """
    graph = problem.graph
    source, target = graph.group[graph.edge_source], graph.group[graph.edge_target]
    wired = coo_array((np.ones(graph.edges), (source, target)), shape=(graph.groups,) * 2)
    count, component = connected_components(wired.tocsr(), directed=True, connection="strong")
    label = component[graph.group].astype(np.int64)
    crossing = label[graph.edge_source] != label[graph.edge_target]
    order = topological_order(
        count, label[graph.edge_source][crossing], label[graph.edge_target][crossing])
    return units(problem, places(order)[label], count)


def units(problem: MappingProblem, label: IntArray, count: int) -> Units:
    """Nodes joined by equal label. Cost: O(nodes * devices + edges log edges)."""
    graph, devices = problem.graph, problem.devices
    held, temporary = np.zeros(count), np.zeros(count)
    np.add.at(held, label, graph.persistent_bytes + graph.output_bytes)
    np.maximum.at(temporary, label, graph.temporary_bytes)
    allowed = (held + temporary)[:, None] <= devices.memory_bytes * ROUNDING
    pinned = np.flatnonzero(graph.pin >= 0)
    elsewhere = np.arange(devices.count) != graph.pin[pinned][:, None]
    for node, forbidden in zip(label[pinned], elsewhere, strict=True):
        allowed[node] &= ~forbidden
    source, target = label[graph.edge_source], label[graph.edge_target]
    crossing = np.flatnonzero(source != target)
    keys = np.unique(graph.edge_tensor[crossing] * count + target[crossing])
    tensor = keys // count
    return Units(
        label=label, count=count,
        forward_s=_joined(problem.seconds(), label, allowed),
        load_s=_joined(problem.load_seconds(), label, allowed),
        held_bytes=held, temporary_bytes=temporary,
        tensor=tensor, source=label[graph.tensor_source[tensor]], target=keys % count)


def _joined(seconds: FloatArray, label: IntArray, allowed: BoolArray) -> FloatArray:
    total = np.zeros(allowed.shape)
    np.add.at(total, label, seconds)
    total[~allowed] = np.inf
    return total
