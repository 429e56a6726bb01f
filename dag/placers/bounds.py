"""What no mapping can beat: cheap lower bounds of the objective.

Latency: the longest path, each node wherever that is best for the path, and the work shared by all
devices. Throughput: the linear relaxation of the assignment with memory and, over serial channels,
transfers (Tarnawski et al. 2020, section 4, without whole numbers); of large problems a weighting
of the devices, which is a feasible point of that relaxation's dual.
"""

from __future__ import annotations

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from dag.mapping.judge import transfers_seconds
from dag.mapping.memory import ROUNDING
from dag.mapping.problem import LATENCY, FloatArray, IntArray, MappingProblem
from dag.mapping.units import Units, groups
from dag.placers.exact import throughput_program, typical_seconds
from dag.placers.exact_latency import heads, tails

LINEAR_CELLS = 20_000
"""Variables up to which a linear program is solved."""
PATH_CELLS = 20_000_000
"""Edges * devices**2 up to which the longest path counts transfers."""
UNLIMITED_S = 3600.0


def lower_bound(problem: MappingProblem, *, linear_cells: int = LINEAR_CELLS) -> float:
    """No mapping of the problem has a smaller value; infinite if surely none is feasible.

    Args:
        problem: the problem.
        linear_cells: variables up to which a linear program is solved; 0 for never.
    """
    units = groups(problem)
    if problem.objective == LATENCY:
        work = units.forward_s
        if not np.isfinite(work).any(axis=1).all():
            return float(np.inf)
        return max(
            longest_path(problem, units), shared_work(work), _apart_or_alone(problem, units))
    if not np.isfinite(units.load_s).any(axis=1).all():
        return float(np.inf)
    indivisible = float(units.load_s.min(axis=1).max(initial=0.0))
    return max(indivisible, shared_work(units.load_s),
               _relaxed_throughput(problem, units, linear_cells))


def shared_work(seconds: FloatArray) -> float:
    """Largest load at least, if work could be divided at will.

    For any weights of the devices that sum up to 1 the largest load is at least the weighted mean
    of the loads, hence at least the sum over units of their least weighted time. Weights are how
    fast a device runs what it can run; for devices that differ by a factor alone the result is
    work / sum of speeds.

    Args:
        seconds: [units, devices], infinite where a unit cannot run.
    """
    if not seconds.size:
        return 0.0
    weighted = np.where(np.isfinite(seconds), seconds, 0.0) * device_weights(seconds)
    return float(np.where(np.isfinite(seconds), weighted, np.inf).min(axis=1).sum())


def device_weights(seconds: FloatArray) -> FloatArray:
    """How fast each device runs what it can run, as parts of 1, [devices].

    Args:
        seconds: [units, devices], infinite where a unit cannot run; each can somewhere.
    """
    finite = np.isfinite(seconds)
    least = seconds.min(axis=1, keepdims=True)
    own = np.where(finite, seconds, 0.0).sum(axis=0)
    best = np.where(finite, least, 0.0).sum(axis=0)
    weight = np.divide(best, own, out=np.ones_like(own), where=own > 0)
    parts: FloatArray = weight / (weight.sum() or 1.0)
    return parts


def longest_path(problem: MappingProblem, units: Units) -> float:
    """Makespan at least, by the chain of nodes that waits longest for one another.

    How early a node could end on each device if every input came from whichever device suits that
    input best. Cost: O(edges * devices**2); above `PATH_CELLS` transfers count as nothing.
    """
    graph, count = problem.graph, problem.devices.count
    seconds = problem.seconds()
    seconds[~np.isfinite(units.forward_s)[units.label]] = np.inf
    if graph.edges * count**2 > PATH_CELLS:
        least = seconds.min(axis=1)
        return float((heads(problem, least) + least).max(initial=0.0))
    there, here = (grid.ravel() for grid in np.indices((count, count)))
    ends = np.zeros_like(seconds)
    for node in graph.topological.tolist():
        ready = np.zeros(count)
        for edge in range(int(graph.first_in[node]), int(graph.first_in[node + 1])):
            source = int(graph.edge_source[edge])
            arrival = _between(problem, int(graph.edge_tensor[edge]), there, here)
            if graph.group[source] == graph.group[node]:
                ready = np.maximum(ready, ends[source])
            else:
                ready = np.maximum(ready, (ends[source][:, None] + arrival).min(axis=0))
        ends[node] = ready + seconds[node]
    return float(ends.min(axis=1).max(initial=0.0))


def _apart_or_alone(problem: MappingProblem, units: Units) -> float:
    """Makespan at least, if all units hang together: of one device, or with a tensor sent.

    With two devices in use some edge is between them, and the longest path through that edge takes
    at least its nodes' least times and the tensor's least transfer.
    """
    graph, devices = problem.graph, problem.devices
    label = units.label
    crossing = np.flatnonzero(label[graph.edge_source] != label[graph.edge_target])
    alone = single_device(problem, units, units.forward_s)
    if not _connected(units):
        return 0.0
    if devices.count < 2 or not len(crossing):
        return alone
    least = np.where(np.isfinite(units.forward_s)[label], problem.seconds(), np.inf).min(axis=1)
    before, after = heads(problem, least) + least, tails(problem, least) + least
    through = before[graph.edge_source[crossing]] + after[graph.edge_target[crossing]]
    through += _least_transfers(problem)[graph.edge_tensor[crossing]]
    return min(alone, float(through.min()))


def single_device(problem: MappingProblem, units: Units, seconds: FloatArray) -> float:
    """Time of all units on the best device that holds them; infinite if none does."""
    total = units.held_bytes.sum() + units.temporary_bytes.max(initial=0.0)
    fits = total <= problem.devices.memory_bytes * ROUNDING
    return float(np.where(fits, seconds.sum(axis=0), np.inf).min())


def _least_transfers(problem: MappingProblem) -> FloatArray:
    """Seconds of each tensor over the link that suits it best, [tensors]."""
    graph, devices = problem.graph, problem.devices
    there, here = np.nonzero(~np.eye(devices.count, dtype=bool))
    if devices.count**2 * len(graph.tensor_bytes) > PATH_CELLS:
        return np.where(graph.override_row < 0, devices.latency_s[there, here].min(), 0.0)
    least: FloatArray = transfers_seconds(
        problem, np.arange(len(graph.tensor_bytes))[:, None], there, here).min(axis=1)
    return least


def _between(
    problem: MappingProblem, tensor: int, there: IntArray, here: IntArray
) -> FloatArray:
    """Seconds of a tensor between all pairs, [devices, devices]."""
    seconds = transfers_seconds(problem, np.full(len(there), tensor), there, here)
    table = seconds.reshape((problem.devices.count,) * 2)
    np.fill_diagonal(table, 0.0)
    return table


def _relaxed_throughput(problem: MappingProblem, units: Units, cells: int) -> float:
    """The linear relaxation; over serial channels, with at least one transfer or one device."""
    devices = problem.devices
    size = units.count * devices.count
    if devices.serial:
        size += len(np.unique(units.tensor)) * devices.count**2
    if size > cells:
        return 0.0
    scale = typical_seconds(units.load_s)
    made = throughput_program(problem, units, scale)
    alone = np.inf
    if devices.serial and _connected(units):
        made.program.at_least([(variable, 1.0) for variable in made.sent], 1.0)
        alone = single_device(problem, units, units.load_s)
    solved = made.program.solve(made.largest, UNLIMITED_S, 0.0, relaxed=True)
    # The solver's rows hold to one part in a million, so its bound may be above by as much.
    return min(alone, solved.bound * scale * (1 - 1e-6))


def _connected(units: Units) -> bool:
    """Whether tensors join all units, so that two devices in use mean a transfer."""
    wired = coo_array(
        (np.ones(len(units.tensor)), (units.source, units.target)), shape=(units.count,) * 2)
    return int(connected_components(wired.tocsr(), directed=False)[0]) == 1
