"""Event-driven list scheduling: the engine that m-ETF and m-SCT share.

As in Baechi (Jeon et al., SoCC 2020; extended in arXiv 2301.08695): time goes from event to event,
and no device that could start a node stays idle, except to wait for a favourite child (`sct`).
What we generalise and where we differ is in `docs/adr/0021-baechi.md`.
"""

from __future__ import annotations

import numpy as np

from dag.compiled import compiled
from dag.mapping.judge import Wiring
from dag.mapping.memory import GroupCosts, group_costs, group_seconds, has_room
from dag.mapping.paths import places
from dag.mapping.problem import IntArray, Mapping, MappingProblem, Unmapped
from dag.placers.arrivals import by_source, inputs_at, receive
from dag.placers.event_state import Rules, State, at_rest
from dag.placers.topo import breadth_first


def schedule(
    problem: MappingProblem, favourite: IntArray, algorithm: str
) -> Mapping | Unmapped:
    """Start every node at the first event when a device could start it.

    Args:
        problem: the problem; few enough nodes and devices for a table of both.
        favourite: child that the device of a node may wait for, or -1, [nodes].
        algorithm: name for the answer.

    Cost: O(nodes * ready nodes * devices), times the in-degree over serial channels.
    """
    graph, devices = problem.graph, problem.devices
    costs, state = group_costs(graph), at_rest(problem)
    seconds = np.ascontiguousarray(problem.seconds())
    rules = Rules(
        seconds, np.isfinite(group_seconds(problem, seconds)), places(breadth_first(graph)),
        favourite, graph.group, devices.memory_bytes, graph.out_edges, graph.first_out,
        graph.edge_target)
    for group in np.flatnonzero(costs.pin >= 0).tolist():
        # Pins need no decision: their bytes are taken before anyone else fills the device.
        member = int(costs.members[costs.first[group]])
        if not _may_run(member, int(costs.pin[group]), rules, costs, state):
            return _stuck(problem, member, algorithm)
        _settle(group, int(costs.pin[group]), costs, state)
    _run(rules, costs, by_source(problem), state)
    if state.counts[1] < graph.nodes:
        return _stuck(problem, int(state.ready[:state.counts[0]].min()), algorithm)
    return Mapping(algorithm=algorithm, device=state.device, start_s=state.start)


def _stuck(problem: MappingProblem, node: int, algorithm: str) -> Unmapped:
    return Unmapped(
        algorithm=algorithm,
        reason=f"no device has room left for node '{problem.graph.ids[node]}'")


def _run(rules: Rules, costs: GroupCosts, wires: Wiring, state: State) -> None:
    """Event after event. Plain Python: compiled callers compile what they call once more."""
    for node in np.flatnonzero(state.waiting == 0).tolist():
        _make_ready(node, rules, costs, wires, state)
    now = 0.0
    while now < np.inf:
        _advance(now, rules, costs, wires, state)
        node, at, soonest = _choose(now, rules, state)
        while node >= 0:
            _start(node, at, rules, costs, wires, state)
            node, at, soonest = _choose(now, rules, state)
        now = soonest


@compiled
def _advance(
    now: float, rules: Rules, costs: GroupCosts, wires: Wiring, state: State
) -> None:
    """Finish what ends by now; whoever waited for nothing else becomes ready."""
    for at in range(len(state.free)):
        node = state.running[at]
        if node >= 0 and state.free[at] <= now:
            state.running[at] = -1
            for number in range(rules.first_out[node], rules.first_out[node + 1]):
                target = rules.edge_target[rules.out_edges[number]]
                state.waiting[target] -= 1
                if state.waiting[target] == 0:
                    _make_ready(target, rules, costs, wires, state)
        state.free[at] = max(state.free[at], now)


@compiled
def _make_ready(
    node: int, rules: Rules, costs: GroupCosts, wires: Wiring, state: State
) -> None:
    state.ready[state.counts[0]] = node
    state.counts[0] += 1
    for at in range(len(state.free)):
        state.inputs[node, at] = (
            inputs_at(node, at, wires, state) if _may_run(node, at, rules, costs, state)
            else np.inf)


@compiled
def _choose(now: float, rules: Rules, state: State) -> tuple[int, int, float]:
    """The node and the idle device to start now, or -1; when else something can happen next.

    An idle device is free since now at the latest, so all they can start by now starts now, and
    rank decides, then the device's place.
    """
    _survey(rules, state)
    best, best_at, soonest = -1, -1, np.inf
    for at in range(len(state.free)):
        if state.running[at] >= 0:
            soonest = min(soonest, state.free[at])
            continue
        node, when = _offer(at, now, rules, state)
        if when > now:
            soonest = min(soonest, when)
        elif best < 0 or rules.rank[node] < rules.rank[best]:
            best, best_at = node, at
    return best, best_at, float(soonest)


@compiled
def _survey(rules: Rules, state: State) -> None:
    """Find what could start first on each device, and when each ready node could on every one."""
    state.first[:] = -1
    state.first_s[:] = np.inf
    for number in range(state.counts[0]):
        node = state.ready[number]
        state.everywhere_s[node] = 0.0
        for at in range(len(state.free)):
            when = max(state.inputs[node, at], state.free[at])
            if when == np.inf:
                continue
            state.everywhere_s[node] = max(state.everywhere_s[node], when)
            if when < state.first_s[at] or (
                    when == state.first_s[at] and rules.rank[node] < rules.rank[state.first[at]]):
                state.first[at] = node
                state.first_s[at] = when


@compiled
def _offer(at: int, now: float, rules: Rules, state: State) -> tuple[int, float]:
    """What an idle device would do next, and when; infinite if nothing."""
    child = _awaited(at, rules, state)
    if child < 0:
        return int(state.first[at]), float(state.first_s[at])
    urgent, urgent_s = _urgent(at, rules, state)
    if urgent_s <= now:
        return urgent, urgent_s
    return child, float(min(urgent_s, max(state.inputs[child, at], state.free[at])))


@compiled
def _awaited(at: int, rules: Rules, state: State) -> int:
    """The favourite child for which an idle device is awake, or -1.

    It is that of the device's last node, is ready, has no device, and could start nowhere sooner.
    """
    if state.last[at] < 0 or rules.favourite[state.last[at]] < 0:
        return -1
    child = rules.favourite[state.last[at]]
    if state.waiting[child] > 0 or state.home[rules.group[child]] >= 0:
        return -1
    here = max(state.inputs[child, at], state.free[at])
    for there in range(len(state.free)):
        if max(state.inputs[child, there], state.free[there]) < here:
            return -1
    return int(child) if here < np.inf else -1


@compiled
def _urgent(at: int, rules: Rules, state: State) -> tuple[int, float]:
    """Of what a device may run, the node that is first to be startable everywhere, and when."""
    best, best_s = -1, np.inf
    for number in range(state.counts[0]):
        node = state.ready[number]
        if state.inputs[node, at] == np.inf:
            continue
        when = state.everywhere_s[node]
        if when < best_s or (when == best_s and rules.rank[node] < rules.rank[best]):
            best, best_s = node, when
    return best, best_s


@compiled
def _start(
    node: int, at: int, rules: Rules, costs: GroupCosts, wires: Wiring, state: State
) -> None:
    """Run a node on a device, which becomes the home of the node's group."""
    arrived = state.inputs[node, at]
    _no_longer_ready(node, state)
    if state.home[rules.group[node]] < 0:
        _settle(rules.group[node], at, costs, state)
        _bar(rules.group[node], at, rules, costs, state)
    if wires.serial:
        arrived = receive(node, at, wires, state)
    state.device[node] = at
    state.start[node] = max(arrived, state.free[at])
    state.end[node] = state.start[node] + rules.seconds[node, at]
    state.free[at] = state.end[node]
    state.running[at] = node
    state.last[at] = node


@compiled
def _no_longer_ready(node: int, state: State) -> None:
    place = 0
    while state.ready[place] != node:
        place += 1
    state.counts[0] -= 1
    state.counts[1] += 1
    state.ready[place] = state.ready[state.counts[0]]


@compiled
def _may_run(node: int, at: int, rules: Rules, costs: GroupCosts, state: State) -> bool:
    group = rules.group[node]
    if state.home[group] >= 0:
        return bool(state.home[group] == at)
    return bool(rules.able[group, at]) and has_room(
        group, at, costs, state.held, state.temporary, rules.limit)


@compiled
def _settle(group: int, at: int, costs: GroupCosts, state: State) -> None:
    """Give a group its device, and reserve the bytes of all its members there."""
    state.home[group] = at
    state.held[at] += costs.held[group]
    state.temporary[at] = max(state.temporary[at], costs.temporary[group])


@compiled
def _bar(group: int, at: int, rules: Rules, costs: GroupCosts, state: State) -> None:
    """Bar ready nodes from where a group that was just settled leaves them no place."""
    for number in range(state.counts[0]):
        node = state.ready[number]
        if rules.group[node] == group:
            for there in range(len(state.free)):
                if there != at:
                    state.inputs[node, there] = np.inf
        elif not _may_run(node, at, rules, costs, state):
            state.inputs[node, at] = np.inf
