"""Optima of tiny problems by trying everything; nothing shared with the exact programs."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np

from dag.mapping import judge
from dag.mapping.problem import LATENCY, IntArray, MappingProblem


def feasible(problem: MappingProblem) -> Iterator[IntArray]:
    """Every assignment that keeps pins, groups, memory and what devices can run."""
    graph = problem.graph
    for chosen in itertools.product(range(problem.devices.count), repeat=graph.groups):
        device = np.array(chosen, dtype=np.int64)[graph.group]
        pinned = (graph.pin < 0) | (graph.pin == device)
        if (pinned.all() and judge.fits(problem, device)
                and np.isfinite(judge.node_seconds(problem, device)).all()):
            yield device


def least(problem: MappingProblem) -> float:
    """The optimum: over assignments, and for latency over all schedules."""
    if problem.objective != LATENCY:
        return min((float(judge.loads(problem, device).max()) for device in feasible(problem)),
                   default=np.inf)
    return min((shortest(problem, device) for device in feasible(problem)), default=np.inf)


def shortest(problem: MappingProblem, device: IntArray) -> float:
    """Over every order of nodes and transfers, each as early as the order allows."""
    graph, serial = problem.graph, problem.devices.serial
    seconds = judge.node_seconds(problem, device)
    edges = list(zip(graph.edge_tensor.tolist(), graph.edge_target.tolist(), strict=True))
    transfers = sorted({
        (tensor, int(device[target])) for tensor, target in edges
        if device[graph.tensor_source[tensor]] != device[target]})
    best = [np.inf]

    def go(left: frozenset[object], ends: dict[object, float], free: dict[object, float]) -> None:
        top = max(ends.values(), default=0.0)
        if top >= best[0]:
            return
        if not left:
            best[0] = top
            return
        for task in sorted(left, key=str):
            if isinstance(task, tuple):
                tensor, to = task
                source = int(graph.tensor_source[tensor])
                needs: list[object] = [source]
                there = int(device[source])
                length = problem.transfer_seconds(tensor, there, to)
                uses = [("channel", there), ("channel", to)] if serial else []
            else:
                assert isinstance(task, int)
                needs = [
                    int(graph.tensor_source[tensor])
                    if device[graph.tensor_source[tensor]] == device[task]
                    else (tensor, int(device[task])) for tensor, target in edges if target == task]
                length, uses = float(seconds[task]), [("device", int(device[task]))]
            if any(need not in ends for need in needs):
                continue
            begin = max([0.0, *(ends[need] for need in needs), *(free.get(u, 0.0) for u in uses)])
            go(left - {task}, {**ends, task: begin + length},
               {**free, **dict.fromkeys(uses, begin + length)})

    go(frozenset([*range(graph.nodes), *transfers]), {}, {})
    return best[0]
