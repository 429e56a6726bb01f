"""Moves of local search: which co-location groups go to which device, and what follows from it.

A lot is what moves at once: one group, several that are connected by edges on one device, or
several that follow each other on one device. Its size is drawn so that every order of magnitude is
equally likely: single nodes repair balance, whole branches have to move together where links are
slow, and neither is found by the other's steps.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from dag.compiled import compiled
from dag.mapping.judge import Wiring, wiring
from dag.mapping.memory import ROUNDING, GroupCosts, group_costs, group_seconds
from dag.mapping.paths import longest_after, places
from dag.mapping.problem import BoolArray, FloatArray, IntArray, MappingProblem


class Search(NamedTuple):
    """What compiled code reads of a problem.

    Attributes:
        seconds: of every node on every device, [nodes, devices].
        able: whether a device can run a whole group, [groups, devices].
        group: of each node.
        costs: of the groups.
        limit: bytes of each device.
        tight: whether memory can run out at all.
        largest: temporary bytes of any group.
        wires: edges and links.
        out_edges: see `CostGraph`.
        first_out: see `CostGraph`.
        edge_target: see `CostGraph`.
        tail: seconds that pass at least between a node's end and the end of all, [nodes].
    """

    seconds: FloatArray
    able: BoolArray
    group: IntArray
    costs: GroupCosts
    limit: FloatArray
    tight: bool
    largest: float
    wires: Wiring
    out_edges: IntArray
    first_out: IntArray
    edge_target: IntArray
    tail: FloatArray


class State(NamedTuple):
    """Where the search stands; written by moves.

    Attributes:
        device: of each node.
        node_s: its time there.
        order: nodes, topological.
        place: of each node in `order`.
        slot: of each edge, tensor * devices + device of its target.
        lot: groups of the move that is tried.
        before: their devices before it.
        mark: number of the move that looked at a group, [groups].
        held: persistent and output bytes, [devices].
    """

    device: IntArray
    node_s: FloatArray
    order: IntArray
    place: IntArray
    slot: IntArray
    lot: IntArray
    before: IntArray
    mark: IntArray
    held: FloatArray


def search_tables(problem: MappingProblem) -> Search:
    """Tables of a problem. Cost: nodes * devices cells."""
    graph, limit = problem.graph, problem.devices.memory_bytes
    seconds, costs = problem.seconds(), group_costs(graph)
    everything = costs.held.sum() + costs.temporary.max()
    return Search(
        seconds=seconds, able=np.isfinite(group_seconds(problem, seconds)), group=graph.group,
        costs=costs, limit=limit, tight=bool((everything > limit).any()),
        largest=float(costs.temporary.max()), wires=wiring(problem),
        out_edges=graph.out_edges, first_out=graph.first_out, edge_target=graph.edge_target,
        tail=longest_after(graph, seconds.min(axis=1), np.zeros(graph.edges)))


def state_of(
    problem: MappingProblem, search: Search, device: IntArray, order: IntArray
) -> State:
    """The state of these devices and this order; it owns its arrays."""
    graph = problem.graph
    return State(
        device=device.copy(), node_s=search.seconds[np.arange(graph.nodes), device],
        order=order.copy(), place=places(order),
        slot=graph.edge_tensor * problem.devices.count + device[graph.edge_target],
        lot=np.zeros(graph.groups, dtype=np.int64), before=np.zeros(graph.groups, dtype=np.int64),
        mark=np.zeros(graph.groups, dtype=np.int64),
        held=np.bincount(
            device, weights=graph.persistent_bytes + graph.output_bytes,
            minlength=problem.devices.count).astype(np.float64))



@compiled
def choose_lot(
    kind: float, number: int, draw: np.random.Generator, search: Search, state: State
) -> int:
    """Choose groups to move into `state.lot`; how many."""
    nodes, groups = len(state.order), len(search.costs.held)
    first = draw.integers(0, nodes)
    state.lot[0] = search.group[first]
    state.mark[state.lot[0]] = number
    most = 1
    if kind >= 0.6:  # sizes of every order of magnitude are equally likely
        most = int(np.exp(draw.random() * np.log(groups)))
    if most == 1:
        return 1
    if kind < 0.8:
        return _connected(most, number, search, state)
    found = 1
    here = state.device[first]
    # Looking at most at a few times as many keeps a move's cost in proportion to its size.
    for at in range(state.place[first] + 1, min(nodes, state.place[first] + 4 * most)):
        group = search.group[state.order[at]]
        if state.device[state.order[at]] == here and state.mark[group] != number:
            state.lot[found] = group
            state.mark[group] = number
            found += 1
            if found == most:
                break
    return found


@compiled
def _connected(most: int, number: int, search: Search, state: State) -> int:
    """Grow the lot over edges between nodes of its device."""
    found, looked = 1, 0
    here = state.device[search.costs.members[search.costs.first[state.lot[0]]]]
    while looked < found:
        group = state.lot[looked]
        looked += 1
        for member in range(search.costs.first[group], search.costs.first[group + 1]):
            node = search.costs.members[member]
            for place in range(_degree(node, search)):
                other = _neighbour(node, place, search)
                near = search.group[other]
                if state.device[other] == here and state.mark[near] != number:
                    if found == most:
                        return found
                    state.lot[found] = near
                    state.mark[near] = number
                    found += 1
    return found


@compiled
def _degree(node: int, search: Search) -> int:
    """Edges into and out of a node."""
    before = search.wires.first_in[node + 1] - search.wires.first_in[node]
    return int(before + search.first_out[node + 1] - search.first_out[node])


@compiled
def _neighbour(node: int, place: int, search: Search) -> int:
    """Other end of one of a node's edges: those into it first, then those out of it."""
    before = search.wires.first_in[node + 1] - search.wires.first_in[node]
    if place < before:
        return int(search.wires.edge_source[search.wires.first_in[node] + place])
    return int(search.edge_target[
        search.out_edges[search.first_out[node] + place - before]])


@compiled
def choose_target(moved: int, draw: np.random.Generator, search: Search, state: State) -> int:
    """A device for the lot: often that of a neighbour; -1 if it is where it is already."""
    group = state.lot[draw.integers(0, moved)]
    first, past = search.costs.first[group], search.costs.first[group + 1]
    node = search.costs.members[draw.integers(first, past)]
    degree = _degree(node, search)
    if degree > 0 and draw.random() < 0.6:
        target = state.device[_neighbour(node, int(draw.integers(0, degree)), search)]
    else:
        target = draw.integers(0, search.seconds.shape[1])
    return -1 if target == state.device[node] else int(target)


@compiled
def has_room_for_lot(moved: int, target: int, search: Search, state: State) -> bool:
    """Whether a device can run all groups of the lot and has memory for them."""
    size, largest = 0.0, 0.0
    for place in range(moved):
        group = state.lot[place]
        if not search.able[group, target] or (
                search.costs.pin[group] >= 0 and search.costs.pin[group] != target):
            return False
        size += search.costs.held[group]
        largest = max(largest, search.costs.temporary[group])
    if not search.tight or (
            state.held[target] + size + search.largest <= search.limit[target]):
        return True
    for group in range(len(search.costs.held)):
        if state.device[search.costs.members[search.costs.first[group]]] == target:
            largest = max(largest, search.costs.temporary[group])
    return bool(state.held[target] + size + largest <= search.limit[target] * ROUNDING)


@compiled
def move_lot(moved: int, target: int, search: Search, state: State) -> bool:
    """Move the lot, unless one of it cannot run there or has no room."""
    if not has_room_for_lot(moved, target, search, state):
        return False
    for place in range(moved):
        group = state.lot[place]
        state.before[place] = state.device[search.costs.members[search.costs.first[group]]]
        _put(group, target, search, state)
    return True


@compiled
def move_back(moved: int, search: Search, state: State) -> None:
    """Undo the last `move_lot`."""
    for place in range(moved):
        _put(state.lot[place], state.before[place], search, state)


@compiled
def _put(group: int, target: int, search: Search, state: State) -> None:
    """Set the device of a group and all that follows from it."""
    devices = search.seconds.shape[1]
    first = search.costs.first[group]
    state.held[state.device[search.costs.members[first]]] -= search.costs.held[group]
    state.held[target] += search.costs.held[group]
    for member in range(first, search.costs.first[group + 1]):
        node = search.costs.members[member]
        state.device[node] = target
        state.node_s[node] = search.seconds[node, target]
        for edge in range(search.wires.first_in[node], search.wires.first_in[node + 1]):
            state.slot[edge] = search.wires.edge_tensor[edge] * devices + target


