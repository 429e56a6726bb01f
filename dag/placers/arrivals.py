"""When the inputs of a node reach a device, over overlapping and over serial channels."""

from __future__ import annotations

import numpy as np

from dag.compiled import compiled
from dag.mapping.build import starts
from dag.mapping.judge import Wiring, transfer_s, wiring
from dag.mapping.problem import BoolArray, MappingProblem
from dag.placers.event_state import State


def by_source(problem: MappingProblem) -> Wiring:
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
        first_in=starts(graph.edge_target[edges], graph.nodes),
        edge_source=graph.edge_source[edges], edge_tensor=graph.edge_tensor[edges])


@compiled
def inputs_at(node: int, at: int, wires: Wiring, state: State) -> float:
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
def receive(node: int, at: int, wires: Wiring, state: State) -> float:
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
                state.inputs[node, at] = inputs_at(node, at, wires, state)
