"""Local search for latency: simulated annealing over devices and running order.

A state is a device for every co-location group and one topological order of the nodes; the judge
plays it (`dag.mapping.judge.play`). Moves: one group to another device, a connected or consecutive
lot of them, two groups swapped, a node earlier or later. Playing stops as soon as a node ends so
late that the least times behind it exceed what would be accepted, so that most bad moves cost a
fraction of a play. Kirkpatrick, Gelatt & Vecchi 1983 for the acceptance rule; the threshold is
drawn before the move is played, which makes the early stop exact.
"""

from __future__ import annotations

import numpy as np

from dag.compiled import compiled
from dag.mapping.judge import Desk, desk, makespan, play, running_order
from dag.mapping.moves import (
    Search,
    State,
    choose_lot,
    choose_target,
    move_back,
    move_lot,
    search_tables,
    state_of,
)
from dag.mapping.problem import IntArray, Mapping, MappingProblem

COOLING = 0.01
"""The temperature at the end, as a share of that at the start."""
SORT_EVERY = 256
"""Accepted moves between two sortings of the order by start time."""


def anneal_latency(
    problem: MappingProblem, start: Mapping, visits: int, seed: int, hot: float
) -> Mapping:
    """Improve a mapping; never returns a worse one.

    Args:
        problem: with a table of nodes and devices that fits into memory.
        start: a feasible mapping.
        visits: budget: nodes and edges that may be visited, each about 10 ns.
        seed: of the random moves.
        hot: temperature at the start, as a share of the objective then, > 0; about the relative
            gain that is worth a detour. More visits pay for a hotter start.

    Cost: O(visits).
    """
    graph = problem.graph
    if graph.nodes == 0 or problem.devices.count == 1:
        return start
    search = search_tables(problem)
    order = running_order(problem, start.device, start.start_s)
    state = state_of(problem, search, start.device, order)
    slots = max(1, len(graph.tensor_source)) * problem.devices.count
    device, order = _anneal(
        np.random.default_rng(seed), search, state, desk(problem, slots), visits, hot,
        hot * COOLING)
    best, starts = makespan(problem, device, order)
    for _ in range(3):
        # Runs by start time let a gap close that the searched order kept open.
        sooner = running_order(problem, device, starts)
        value, again = makespan(problem, device, sooner)
        if value > best:
            break
        best, starts = value, again
    if best >= makespan(problem, start.device, running_order(
            problem, start.device, start.start_s))[0]:
        return start
    return Mapping(algorithm=f"{start.algorithm}+anneal", device=device, start_s=starts)


@compiled
def _anneal(
    draw: np.random.Generator, search: Search, state: State, written: Desk, visits: int,
    hot: float, cold: float,
) -> tuple[IntArray, IntArray]:
    """The best devices and order found."""
    nodes, edges = len(state.order), len(state.slot)
    number, spent, accepted = 1, 0, 0
    current = play(state.order, state.device, state.node_s, search.wires, state.slot, written,
                   number, search.tail, np.inf)
    scale = best = current
    best_device, best_order = state.device.copy(), state.order.copy()
    while spent < visits:
        number += 1
        heat = scale * hot * (cold / hot) ** (spent / visits)
        bound = current - heat * np.log(1.0 - draw.random())
        kind = draw.random()
        moved, node, was = 0, -1, -1
        if kind < 0.3:
            node = int(draw.integers(0, nodes))
            was = state.place[node]
            _shift(node, _window(node, draw, search, state), state)
            if state.place[node] == was:
                spent += 1
                continue
        else:
            moved = choose_lot(kind, number, draw, search, state)
            target = choose_target(moved, draw, search, state)
            if target < 0 or not move_lot(moved, target, search, state):
                spent += 1 + moved
                continue
        value = play(state.order, state.device, state.node_s, search.wires, state.slot, written,
                     number, search.tail, bound)
        spent += (nodes + edges) // 2 if value == np.inf else nodes + edges
        if value <= bound:
            current = value
            accepted += 1
            if value < best:
                best = value
                best_device[:] = state.device
                best_order[:] = state.order
            if accepted % SORT_EVERY == 0:
                number += 1
                current = _sorted(current, bound, number, search, state, written)
                spent += nodes + edges
        elif node >= 0:
            _shift(node, was, state)
        else:
            move_back(moved, search, state)
    return best_device, best_order


@compiled
def _window(node: int, draw: np.random.Generator, search: Search, state: State) -> int:
    """A random place for a node, after what it needs and before what needs it."""
    low, high = 0, len(state.order) - 1
    for edge in range(search.wires.first_in[node], search.wires.first_in[node + 1]):
        low = max(low, state.place[search.wires.edge_source[edge]] + 1)
    for number in range(search.first_out[node], search.first_out[node + 1]):
        high = min(high, state.place[search.edge_target[search.out_edges[number]]] - 1)
    return int(draw.integers(low, high + 1))


@compiled
def _shift(node: int, to: int, state: State) -> None:
    """Put a node at another place of the order."""
    at = state.place[node]
    step = 1 if to > at else -1
    while at != to:
        other = state.order[at + step]
        state.order[at] = other
        state.place[other] = at
        at += step
    state.order[at] = node
    state.place[node] = at


@compiled
def _sorted(
    current: float, bound: float, number: int, search: Search, state: State, written: Desk
) -> float:
    """Order by the start times of the last play; the makespan then. Undone if beyond `bound`.

    Over overlapping channels that closes gaps; over serial ones it may also open some.
    """
    before = state.order.copy()
    _reorder(before[np.argsort(written.start[before], kind="mergesort")], state)
    value = play(state.order, state.device, state.node_s, search.wires, state.slot, written,
                 number, search.tail, bound)
    if value <= bound:
        return float(value)
    _reorder(before, state)
    return current


@compiled
def _reorder(order: IntArray, state: State) -> None:
    state.order[:] = order
    for at in range(len(order)):
        state.place[order[at]] = at
