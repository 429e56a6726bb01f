"""Plan graphs and clusters too large to search pair by pair.

A promising few devices are chosen, the graph is coarsened, a planner for small problems maps it,
and the answer is brought back and refined node by node. For throughput all devices are also filled
with stretches of the graph. The best single device is always among the candidates.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from dag.mapping.candidates import chosen_devices, restricted, widened, work_table
from dag.mapping.coarsen import Coarse, coarsened, expanded
from dag.mapping.judge import fits, makespan, value
from dag.mapping.paths import places
from dag.mapping.problem import (
    LATENCY,
    FloatArray,
    IntArray,
    Mapping,
    MappingPlacer,
    MappingProblem,
    Unmapped,
)
from dag.mapping.refine import refined
from dag.mapping.stretches import depth_first, stretches
from dag.placers.heft import heft

INNER_DEVICES = 48
"""Devices that the planner for small problems sees."""
INNER_NODES = 500
"""Nodes that it sees."""
FINER = 4
"""It sees so many times more if it finds nothing at first: smaller parts fit where large do not."""
LIST_NODES = 4000
"""Nodes of the graph on which numbers of devices are compared for latency."""
BALANCED = 0.003
"""Loads that are above equal shares by so little are not searched further."""
STRETCH_NODES = 8
"""Coarse nodes for each device whose order stretches are cut from."""


def is_large(problem: MappingProblem) -> bool:
    """Whether coarsening or a choice of devices would make the problem smaller."""
    return problem.graph.nodes > INNER_NODES or problem.devices.count > INNER_DEVICES


def plan_large(problem: MappingProblem, inner: MappingPlacer) -> Mapping | Unmapped:
    """The best of: the inner planner's answer, a quicker and finer one, a single device.

    Args:
        problem: of any size.
        inner: a deterministic planner for about `INNER_NODES` nodes and `INNER_DEVICES` devices.

    Cost: that of `inner`, O(devices * devices + (nodes + edges) log edges), and of refinement,
    whose work is bounded; for latency also a list schedule of all nodes on `INNER_DEVICES`.
    """
    if not is_large(problem):
        return inner(problem)
    answers = [best_single(problem)]
    if problem.objective != LATENCY:
        answers.append(_by_stretches(problem))
        if _is_balanced(problem, answers[-1]):
            return answers[-1]
    chosen = chosen_devices(problem, INNER_DEVICES).devices
    if len(chosen):
        few = restricted(problem, chosen)
        answers.append(_widened(_by_inner(few, inner), chosen))
        if problem.objective == LATENCY:
            pinned = len(np.unique(problem.graph.pin[problem.graph.pin >= 0]))
            answers.append(_widened(_by_list(few, pinned), chosen))
    found = [answer for answer in answers if isinstance(answer, Mapping)]
    if found:
        return min(found, key=lambda mapping: value(problem, mapping))
    return Unmapped(algorithm="large", reason="; ".join(
        f"{answer.algorithm}: {answer.reason}"
        for answer in answers if isinstance(answer, Unmapped)))


def best_single(problem: MappingProblem) -> Mapping | Unmapped:
    """Everything on the device that does it fastest. Cost: O(cells of the table of seconds)."""
    graph, on = problem.graph, problem.devices
    seconds = single_seconds(problem)
    if not np.isfinite(seconds).any():
        return Unmapped(algorithm="single", reason="no device alone can hold and run all nodes")
    device = np.full(graph.nodes, int(np.argmin(seconds)), dtype=np.int64)
    return Mapping(algorithm=f"single({on.ids[int(np.argmin(seconds))]})", device=device,
                   start_s=makespan(problem, device)[1])


def single_seconds(problem: MappingProblem) -> FloatArray:
    """Time of all nodes on each device alone, infinite where it cannot be, [devices]."""
    graph, on = problem.graph, problem.devices
    seconds = work_table(problem).sum(axis=0)[on.column] / on.speed
    held = float((graph.persistent_bytes + graph.output_bytes).sum())
    possible = held + float(graph.temporary_bytes.max(initial=0.0)) <= on.memory_bytes
    pins = np.unique(graph.pin[graph.pin >= 0])
    if len(pins):
        possible &= (np.arange(on.count) == pins[0]) & (len(pins) == 1)
    total: FloatArray = np.where(possible, seconds, np.inf)
    return total


def _widened(answer: Mapping | Unmapped, devices: IntArray) -> Mapping | Unmapped:
    return widened(answer, devices) if isinstance(answer, Mapping) else answer


def _by_inner(problem: MappingProblem, inner: MappingPlacer) -> Mapping | Unmapped:
    """What the inner planner says of the coarse graph; of a finer one if it finds nothing."""
    answer: Mapping | Unmapped = Unmapped(algorithm="coarse", reason="not tried")
    for nodes in (INNER_NODES, FINER * INNER_NODES):
        coarse = coarsened(problem.graph, nodes)
        answer = inner(replace(problem, graph=coarse.graph))
        if isinstance(answer, Mapping):
            return refined(problem, _brought_back(answer, coarse, problem))
    return answer


def _brought_back(answer: Mapping, coarse: Coarse, problem: MappingProblem) -> Mapping:
    return expanded(replace(answer, algorithm=f"coarse({answer.algorithm})"), coarse, problem)


def _by_list(problem: MappingProblem, pinned: int) -> Mapping | Unmapped:
    """List schedules of a coarse graph on the first 2, 4, ... devices, then of the whole graph.

    Args:
        problem: on devices of which each prefix is a good smaller set.
        pinned: so many of them must be in each prefix.
    """
    total = problem.devices.count
    coarse = coarsened(problem.graph, LIST_NODES)
    counts = [2**power for power in range(1, 20) if pinned <= 2**power < total]
    tried: list[tuple[Mapping, int]] = []
    for count in [*counts, total]:
        answer = _list_schedule(replace(problem, graph=coarse.graph), count)
        if isinstance(answer, Mapping):
            tried.append((_brought_back(answer, coarse, problem), count))
    best_count = total
    if tried:
        best_count = min(tried, key=lambda found: value(problem, found[0]))[1]
    answer = _list_schedule(problem, best_count)
    found = [mapping for mapping, _ in tried]
    if isinstance(answer, Mapping):
        found.append(answer)
    elif not found:
        return answer
    return refined(problem, min(found, key=lambda mapping: value(problem, mapping)))


def _list_schedule(problem: MappingProblem, count: int) -> Mapping | Unmapped:
    first = np.arange(count)
    return _widened(heft(restricted(problem, first)), first)


def _is_balanced(problem: MappingProblem, answer: Mapping | Unmapped) -> bool:
    """Whether no other mapping can have a largest load that is smaller by more than `BALANCED`."""
    table = work_table(problem)
    if isinstance(answer, Unmapped) or table.shape[1] > 1:
        return False
    shared = float(table.sum() / problem.devices.speed.sum())
    return value(problem, answer) <= shared * (1.0 + BALANCED)


def _by_stretches(problem: MappingProblem) -> Mapping | Unmapped:
    devices = chosen_devices(problem, problem.devices.count).devices
    graph = problem.graph
    coarse = coarsened(graph, STRETCH_NODES * problem.devices.count)
    turn = places(depth_first(coarse.graph))
    order = np.lexsort((places(graph.topological), turn[coarse.part])).astype(np.int64)
    answer = stretches(problem, order, devices)
    if isinstance(answer, Unmapped) or not fits(problem, answer.device):
        return answer if isinstance(answer, Unmapped) else Unmapped(
            algorithm="stretches", reason="pinned nodes alone exceed a device's memory")
    return refined(problem, answer)
