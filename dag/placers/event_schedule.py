"""Event-driven list scheduling: the engine that m-ETF and m-SCT share.

As in Baechi (Jeon et al., SoCC 2020; extended in arXiv 2301.08695): time goes from event to event,
and no device that could start a node stays idle, except to wait for a favourite child (`sct`).
What we generalise and where we differ is in `docs/adr/0021-baechi.md`.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from dag.compiled import compiled
from dag.mapping.judge import Wiring, transfer_s, wiring
from dag.mapping.memory import GroupCosts, group_costs, group_seconds, has_room
from dag.mapping.problem import (
    BoolArray,
    FloatArray,
    IntArray,
    Mapping,
    MappingProblem,
    Unmapped,
)
from dag.placers.topo import breadth_first


class Rules(NamedTuple):
    """What a run reads.

    Attributes:
        seconds: of every node on every device, [nodes, devices].
        able: whether every member of a group can run on a device, [groups, devices].
        rank: decides between nodes that could start together, lowest first, [nodes].
        favourite: child that a node's device may wait for, or -1, [nodes].
        group: co-location group, [nodes].
        limit: bytes of each device, [devices].
        out_edges: see `CostGraph`.
        first_out: see `CostGraph`.
        edge_target: see `CostGraph`.
    """

    seconds: FloatArray
    able: BoolArray
    rank: IntArray
    favourite: IntArray
    group: IntArray
    limit: FloatArray
    out_edges: IntArray
    first_out: IntArray
    edge_target: IntArray


class State(NamedTuple):
    """What a run changes.

    Attributes:
        device: of a node that was started, else -1, [nodes].
        start: [nodes].
        end: [nodes].
        home: device of a group, or -1, [groups].
        held: bytes that a device's groups keep, [devices].
        temporary: largest temporary bytes of a group on a device, [devices].
        free: when a device is through with what it was given, not in the past, [devices].
        channel: when a device's serial channel is free, [devices].
        running: node that a device has not finished, or -1, [devices].
        last: node that a device was given last, or -1, [devices].
        waiting: edges into a node from nodes that have not finished, [nodes].
        ready: the nodes that wait for nothing and were not started; `counts[0]` of them, [nodes].
        counts: how many are ready, how many were started, [2].
        inputs: when a ready node's inputs can be on a device, infinite where the node may not run,
            [nodes, devices].
        arrived: over serial channels, when a tensor reached a device, or -1, [tensors, devices].
        first: ready node that could start first on a device, or -1, [devices].
        first_s: when, [devices].
        everywhere_s: when a ready node could start on any device that may run it, [nodes].
    """

    device: IntArray
    start: FloatArray
    end: FloatArray
    home: IntArray
    held: FloatArray
    temporary: FloatArray
    free: FloatArray
    channel: FloatArray
    running: IntArray
    last: IntArray
    waiting: IntArray
    ready: IntArray
    counts: IntArray
    inputs: FloatArray
    arrived: FloatArray
    first: IntArray
    first_s: FloatArray
    everywhere_s: FloatArray


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
    costs, state = group_costs(graph), _at_rest(problem)
    seconds = np.ascontiguousarray(problem.seconds())
    rank = np.empty(graph.nodes, dtype=np.int64)
    rank[breadth_first(graph)] = np.arange(graph.nodes)
    rules = Rules(
        seconds, np.isfinite(group_seconds(problem, seconds)), rank, favourite, graph.group,
        devices.memory_bytes, graph.out_edges, graph.first_out, graph.edge_target)
    for group in np.flatnonzero(costs.pin >= 0).tolist():
        # Pins need no decision: their bytes are taken before anyone else fills the device.
        member = int(costs.members[costs.first[group]])
        if not _may_run(member, int(costs.pin[group]), rules, costs, state):
            return _stuck(problem, member, algorithm)
        _settle(group, int(costs.pin[group]), costs, state)
    _run(rules, costs, _by_source(problem), state)
    if state.counts[1] < graph.nodes:
        return _stuck(problem, int(state.ready[:state.counts[0]].min()), algorithm)
    return Mapping(algorithm=algorithm, device=state.device, start_s=state.start)


def _at_rest(problem: MappingProblem) -> State:
    graph, devices = problem.graph, problem.devices.count
    tensors = len(graph.tensor_bytes) if problem.devices.serial else 0

    def none(count: int) -> IntArray:
        return np.full(count, -1, dtype=np.int64)

    return State(
        device=none(graph.nodes), start=np.zeros(graph.nodes), end=np.zeros(graph.nodes),
        home=none(graph.groups), held=np.zeros(devices), temporary=np.zeros(devices),
        free=np.zeros(devices), channel=np.zeros(devices), running=none(devices),
        last=none(devices), waiting=np.diff(graph.first_in), ready=none(graph.nodes),
        counts=np.zeros(2, dtype=np.int64), inputs=np.zeros((graph.nodes, devices)),
        arrived=np.full((tensors, devices), -1.0), first=none(devices),
        first_s=np.zeros(devices), everywhere_s=np.zeros(graph.nodes))


def _by_source(problem: MappingProblem) -> Wiring:
    """The wiring with the edges from one source to one target side by side, each tensor once."""
    graph = problem.graph
    _, once = np.unique(
        graph.edge_target * len(graph.tensor_bytes) + graph.edge_tensor, return_index=True)
    edges = np.sort(once)
    source, target = graph.edge_source[edges], graph.edge_target[edges]
    _, first, pair = np.unique(
        target * graph.nodes + source, return_index=True, return_inverse=True)
    edges = edges[np.argsort(first[pair], kind="stable")]
    return wiring(problem)._replace(
        first_in=np.searchsorted(
            graph.edge_target[edges], np.arange(graph.nodes + 1)).astype(np.int64),
        edge_source=graph.edge_source[edges], edge_tensor=graph.edge_tensor[edges])


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
            _inputs_at(node, at, wires, state) if _may_run(node, at, rules, costs, state)
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
        arrived = _receive(node, at, wires, state)
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


@compiled
def _inputs_at(node: int, at: int, wires: Wiring, state: State) -> float:
    """When a node's inputs could be on a device, if nothing else were sent before them.

    Over serial channels each producer is looked at alone, as in the reference: what it has to send
    goes after what the two channels were given, and the producers do not wait for each other here.
    """
    latest = 0.0
    edge = wires.first_in[node]
    while edge < wires.first_in[node + 1]:
        source = wires.edge_source[edge]
        there = state.device[source]
        latest = max(latest, state.end[source])
        taken = 0.0
        while edge < wires.first_in[node + 1] and wires.edge_source[edge] == source:
            tensor = wires.edge_tensor[edge]
            edge += 1
            if there == at:
                continue
            if not wires.serial:
                latest = max(latest, state.end[source] + transfer_s(wires, tensor, there, at))
            elif state.arrived[tensor, at] >= 0.0:
                latest = max(latest, state.arrived[tensor, at])
            else:
                taken += transfer_s(wires, tensor, there, at)
        if taken > 0.0:
            begin = max(state.end[source], max(state.channel[there], state.channel[at]))
            latest = max(latest, begin + taken)
    return latest


@compiled
def _receive(node: int, at: int, wires: Wiring, state: State) -> float:
    """Send a node what it lacks, one tensor after the other; when it has everything.

    As in the reference a sender is through when its own part is, even if the receiver's channel was
    busy and took the tensor later.
    """
    latest = 0.0
    used = np.zeros(len(state.free), dtype=np.bool_)
    for edge in range(wires.first_in[node], wires.first_in[node + 1]):
        source, tensor = wires.edge_source[edge], wires.edge_tensor[edge]
        there = state.device[source]
        latest = max(latest, state.end[source])
        if there == at:
            continue
        if state.arrived[tensor, at] < 0.0:
            taken = transfer_s(wires, tensor, there, at)
            sent = max(state.end[source], state.channel[there])
            received = max(sent, state.channel[at])
            state.channel[there] = sent + taken
            state.channel[at] = received + taken
            state.arrived[tensor, at] = received + taken
            used[there] = True
            used[at] = True
        latest = max(latest, state.arrived[tensor, at])
    if used.any():
        _look_again(used, wires, state)
    return latest


@compiled
def _look_again(used: BoolArray, wires: Wiring, state: State) -> None:
    """Renew when ready nodes could have their inputs, where that depends on the used channels."""
    for number in range(state.counts[0]):
        node = state.ready[number]
        sends = False
        for edge in range(wires.first_in[node], wires.first_in[node + 1]):
            sends = sends or used[state.device[wires.edge_source[edge]]]
        for at in range(len(used)):
            if (sends or used[at]) and state.inputs[node, at] < np.inf:
                state.inputs[node, at] = _inputs_at(node, at, wires, state)
