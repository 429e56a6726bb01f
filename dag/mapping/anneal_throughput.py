"""Local search for throughput: simulated annealing of the largest load of a device.

Moves are those of `dag.mapping.moves`; a move changes the loads of few devices, so it is weighed
in time proportional to the edges of what moves. The largest load alone does not change with most
moves; the mean load that a unit of load meets is added to it, small, so that moves which even out
the others are steps too. The best state is chosen by the largest load alone.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from dag.compiled import compiled
from dag.mapping.build import starts
from dag.mapping.judge import loads, transfer_s
from dag.mapping.moves import (
    Search,
    State,
    choose_lot,
    choose_target,
    has_room_for_lot,
    search_tables,
    state_of,
)
from dag.mapping.problem import FloatArray, IntArray, Mapping, MappingProblem

COOLING = 0.01
"""The temperature at the end, as a share of that at the start."""
EVENNESS = 0.05
"""Weight of the mean load met, beside the largest load."""
MOVE_VISITS = 20
"""What choosing and weighing a move costs beside its edges and devices."""
RECOUNT_EVERY = 4096
"""Moves between two counts of the loads from nothing, which drops rounding errors."""


class Load(NamedTuple):
    """Loads and what they are made of; written by moves.

    Attributes:
        seconds: of every node on every device, forward and backward, [nodes, devices].
        load: [devices].
        consumers: edges of a tensor to nodes on a device, [tensors, devices].
        tensors: numbers ordered by source, [tensors].
        first_tensor: tensors of node n are `tensors[first_tensor[n]:first_tensor[n + 1]]`.
    """

    seconds: FloatArray
    load: FloatArray
    consumers: IntArray
    tensors: IntArray
    first_tensor: IntArray


def anneal_throughput(
    problem: MappingProblem, start: Mapping, visits: int, seed: int, hot: float
) -> Mapping:
    """Improve a mapping; never returns a worse one.

    Args:
        problem: with tables of nodes, tensors and devices that fit into memory.
        start: a feasible mapping.
        visits: budget: edges and devices that may be visited, each about 10 ns.
        seed: of the random moves.
        hot: temperature at the start, as a share of the objective then, > 0; about the relative
            gain that is worth a detour. More visits pay for a hotter start.

    Cost: O(visits).
    """
    graph = problem.graph
    if graph.nodes == 0 or problem.devices.count == 1:
        return start
    search = search_tables(problem)
    state = state_of(problem, search, start.device, graph.topological)
    device = _anneal(
        np.random.default_rng(seed), search, state, _load(problem, start.device), visits, hot,
        hot * COOLING)
    if loads(problem, device).max() >= loads(problem, start.device).max():
        return start
    return Mapping(
        algorithm=f"{start.algorithm}+anneal", device=device, start_s=np.zeros(graph.nodes))


def _load(problem: MappingProblem, device: IntArray) -> Load:
    graph, count = problem.graph, problem.devices.count
    tensors = np.argsort(graph.tensor_source, kind="stable")
    return Load(
        seconds=problem.load_seconds(), load=loads(problem, device),
        consumers=np.zeros((len(tensors), count), dtype=np.int64), tensors=tensors,
        first_tensor=starts(graph.tensor_source[tensors], graph.nodes))


@compiled
def _anneal(
    draw: np.random.Generator, search: Search, state: State, load: Load, visits: int,
    hot: float, cold: float,
) -> IntArray:
    """The best devices found."""
    devices = len(load.load)
    _recount(search, state, load)
    scale = best = load.load.max()
    current = _cost(load.load)
    best_device = state.device.copy()
    spent, number = 0, 0
    while spent < visits:
        number += 1
        if number % RECOUNT_EVERY == 0:
            _recount(search, state, load)
            current = _cost(load.load)
            spent += len(state.slot)
        heat = scale * hot * (cold / hot) ** (spent / visits)
        moved = choose_lot(draw.random(), number, draw, search, state)
        target = choose_target(moved, draw, search, state)
        spent += devices + 8 * moved + MOVE_VISITS
        if target < 0 or not has_room_for_lot(moved, target, search, state):
            continue
        for place in range(moved):
            group = state.lot[place]
            state.before[place] = state.device[search.costs.members[search.costs.first[group]]]
            spent += _shift_load(group, target, search, state, load)
        cost = _cost(load.load)
        if cost <= current - heat * np.log(1.0 - draw.random()):
            current = cost
            if load.load.max() < best:
                best = load.load.max()
                best_device[:] = state.device
        else:
            for place in range(moved):
                spent += _shift_load(
                    state.lot[place], state.before[place], search, state, load)
    return best_device


@compiled
def _cost(load: FloatArray) -> float:
    total, squares, most = 0.0, 0.0, 0.0
    for one in load:
        total += one
        squares += one * one
        most = max(most, one)
    return most + (EVENNESS * squares / total if total > 0.0 else 0.0)


@compiled
def _recount(search: Search, state: State, load: Load) -> None:
    """Loads and consumers from nothing."""
    load.load[:] = 0.0
    load.consumers[:] = 0
    for edge in range(len(state.slot)):
        devices = len(load.load)
        load.consumers[state.slot[edge] // devices, state.slot[edge] % devices] += 1
    for node in range(len(state.device)):
        load.load[state.device[node]] += load.seconds[node, state.device[node]]
        if search.wires.serial:
            _sends(node, 1.0, search, state, load)


@compiled
def _sends(node: int, sign: float, search: Search, state: State, load: Load) -> int:
    """Add (or take away) the transfers of all that a node makes; how many cells were looked at."""
    here = state.device[node]
    first, past = load.first_tensor[node], load.first_tensor[node + 1]
    for number in range(first, past):
        tensor = load.tensors[number]
        for there in range(len(load.load)):
            if there != here and load.consumers[tensor, there] > 0:
                taken = sign * transfer_s(search.wires, tensor, here, there)
                load.load[here] += taken
                load.load[there] += taken
    return int((past - first) * len(load.load))


@compiled
def _shift_load(group: int, target: int, search: Search, state: State, load: Load) -> int:
    """Move a group and its loads; how many cells were looked at."""
    devices, wires = len(load.load), search.wires
    first, past = search.costs.first[group], search.costs.first[group + 1]
    was = state.device[search.costs.members[first]]
    state.held[was] -= search.costs.held[group]
    state.held[target] += search.costs.held[group]
    looked = 0
    for member in range(first, past):
        node = search.costs.members[member]
        load.load[was] -= load.seconds[node, was]
        load.load[target] += load.seconds[node, target]
        if wires.serial:
            looked += _sends(node, -1.0, search, state, load)
        for edge in range(wires.first_in[node], wires.first_in[node + 1]):
            tensor = wires.edge_tensor[edge]
            source = state.device[wires.edge_source[edge]]
            load.consumers[tensor, was] -= 1
            load.consumers[tensor, target] += 1
            state.slot[edge] = tensor * devices + target
            looked += 1
            if wires.serial:
                if load.consumers[tensor, was] == 0 and source != was:
                    taken = transfer_s(wires, tensor, source, was)
                    load.load[source] -= taken
                    load.load[was] -= taken
                if load.consumers[tensor, target] == 1 and source != target:
                    taken = transfer_s(wires, tensor, source, target)
                    load.load[source] += taken
                    load.load[target] += taken
        state.device[node] = target
        state.node_s[node] = search.seconds[node, target]
        if wires.serial:
            looked += _sends(node, 1.0, search, state, load)
    return looked
