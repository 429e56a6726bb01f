"""Say why a mapping is as it is: what limits it, and why devices are idle, with figures."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from dag.mapping.judge import fits, loads, makespan, node_seconds, running_order, value
from dag.mapping.memory import group_costs
from dag.mapping.problem import LATENCY, FloatArray, IntArray, Mapping, MappingProblem

GROUPS_TRIED = 48
"""Groups that are tried on an idle device, those that take longest."""
IDLE_TOLD = 32
"""Idle devices that are told of one by one."""
VISITS = 4_000_000
"""Nodes and edges that all these trials may look at: in large graphs fewer devices are told of."""


def explanation(problem: MappingProblem, best: Mapping) -> tuple[str, ...]:
    """Sentences about a sound mapping.

    Cost: O(`VISITS` + nodes + edges).
    """
    limit = _path(problem, best) if problem.objective == LATENCY else _fullest(problem, best)
    return (limit, *_idle(problem, best))


def _fullest(problem: MappingProblem, best: Mapping) -> str:
    load = loads(problem, best.device)
    device = int(load.argmax())
    computing = float(_seconds_on(problem, device)[best.device == device].sum())
    text = f"'{problem.devices.ids[device]}' has the largest load: it computes {computing:.4g} s"
    return f"{text} and transfers {load[device] - computing:.4g} s." if (
        problem.devices.serial) else f"{text}."


def _seconds_on(problem: MappingProblem, device: int) -> FloatArray:
    """Time of every node on one device, forward and backward, [nodes]."""
    graph, column = problem.graph, int(problem.devices.column[device])
    at_speed_one = graph.compute_s[:, column] + graph.backward_s[:, column]
    total: FloatArray = at_speed_one / problem.devices.speed[device]
    return total


def _path(problem: MappingProblem, best: Mapping) -> str:
    """Follow the node that ends last back to what it waited for."""
    graph = problem.graph
    taken = node_seconds(problem, best.device)
    order = running_order(problem, best.device, best.start_s)
    total, start = makespan(problem, best.device, order)
    before = _predecessors_on_device(best.device, order)
    end = start + taken
    node = int(end.argmax())
    computing, waiting = 0.0, 0.0
    for _ in range(graph.nodes):
        computing += float(taken[node])
        causes = [int(source) for source in
                  graph.edge_source[graph.first_in[node]:graph.first_in[node + 1]]]
        if before[node] >= 0 and start[node] <= end[before[node]]:
            cause = int(before[node])
        elif causes:
            # Of inputs from elsewhere the last to end; transfers are what lies between.
            local = [one for one in causes if best.device[one] == best.device[node]
                     and start[node] <= end[one]]
            cause = local[0] if local else max(causes, key=lambda one: (end[one], -one))
        else:
            break
        waiting += max(0.0, float(start[node] - end[cause]))
        node = cause
    return (f"The longest chain of causes computes {computing:.4g} s and waits {waiting:.4g} s for "
            f"transfers, of {total:.4g} s.")


def _predecessors_on_device(device: IntArray, order: IntArray) -> list[int]:
    last: dict[int, int] = {}
    before = [-1] * len(device)
    for node in order.tolist():
        before[node] = last.get(int(device[node]), -1)
        last[int(device[node])] = node
    return before


def _idle(problem: MappingProblem, best: Mapping) -> Iterator[str]:
    used = np.bincount(best.device, minlength=problem.devices.count)
    idle = np.flatnonzero(used == 0).tolist()
    if not idle:
        return
    current = value(problem, best)
    goal = "makespan" if problem.objective == LATENCY else "largest load"
    trials = max(2, VISITS // (problem.graph.nodes + problem.graph.edges))
    told = idle[:min(IDLE_TOLD, trials // 2)]
    tries = min(GROUPS_TRIED, trials // len(told))
    for device in told:
        name = problem.devices.ids[device]
        least = _least_with(problem, best, device, tries)
        if least is None:
            yield f"'{name}' left idle: it cannot run or hold any part."
        elif least > current:
            yield (f"'{name}' left idle: adding it would raise the {goal} from {current:.4g} s "
                   f"to {least:.4g} s.")
        elif least < current:
            yield (f"'{name}' left idle, though adding it would lower the {goal} from "
                   f"{current:.4g} s to {least:.4g} s: a longer search would use it.")
        else:
            yield f"'{name}' left idle: adding it would not lower the {goal} of {current:.4g} s."
    if len(idle) > len(told):
        yield f"{len(idle) - len(told)} more devices are idle."


def _least_with(
    problem: MappingProblem, best: Mapping, device: int, tries: int
) -> float | None:
    """The best objective with one of `tries` groups moved to a device; None if none can be."""
    costs = group_costs(problem.graph)
    seconds = np.bincount(
        problem.graph.group, weights=_seconds_on(problem, device), minlength=problem.graph.groups)
    able = np.isfinite(seconds) & ((costs.pin < 0) | (costs.pin == device))
    groups = np.flatnonzero(able)
    longest = groups[np.argsort(-seconds[groups], kind="stable")]
    # Short ones too: where links are slow, little work is the least harm.
    tried = dict.fromkeys([*longest[:tries // 2].tolist(), *longest[::-1][:tries // 2].tolist()])
    order = running_order(problem, best.device, best.start_s)
    least: float | None = None
    for group in tried:
        moved = np.where(problem.graph.group == group, device, best.device)
        if fits(problem, moved):
            found = makespan(problem, moved, order)[0] if problem.objective == LATENCY else (
                float(loads(problem, moved).max()))
            least = found if least is None else min(least, found)
    return least
