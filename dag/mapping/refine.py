"""Improve a mapping of a large graph node by node, in few passes.

Throughput: `dag.mapping.load_moves`. Latency: nodes are scheduled again in order of their longest
path to an exit, each on its own device or that of a neighbour, and the judge decides. Only nodes
that are alone in their co-location group and not pinned move.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from dag.compiled import compiled
from dag.mapping.judge import (
    Wiring,
    fits,
    makespan,
    node_seconds,
    peak_bytes,
    transfer_s,
    transfers_seconds,
    value,
    wiring,
)
from dag.mapping.load_moves import free_nodes, levelled
from dag.mapping.paths import by_rank, longest_after
from dag.mapping.problem import (
    LATENCY,
    BoolArray,
    FloatArray,
    IntArray,
    Mapping,
    MappingProblem,
)

VISITS = 20_000_000
"""Work of one refinement for throughput: edges looked at."""
PASSES = 3
"""Schedules made anew for latency."""


def refined(problem: MappingProblem, mapping: Mapping) -> Mapping:
    """A mapping that is at least as good; the same if no better one is found.

    Args:
        problem: the problem.
        mapping: sound.
    """
    name = f"{mapping.algorithm}+refined"
    if problem.objective == LATENCY:
        return _rescheduled(problem, mapping, name)
    device = levelled(problem, mapping.device, VISITS)
    better = replace(mapping, algorithm=name, device=device)
    if fits(problem, device) and value(problem, better) < value(problem, mapping):
        return better
    return mapping


def _rescheduled(problem: MappingProblem, mapping: Mapping, name: str) -> Mapping:
    """First the order alone, then devices, too, while that helps."""
    graph, on = problem.graph, problem.devices
    best, best_s = mapping, value(problem, mapping)
    if on.count == 1:
        return mapping
    wires, free = wiring(problem), free_nodes(problem)
    device = mapping.device
    for number in range(PASSES):
        rank = exit_rank(problem, device)
        order = by_rank(graph, rank)
        if number:
            device = _rehomed(
                order, device, rank, free, graph.compute_s, on.column, on.speed,
                graph.first_out, graph.out_edges, graph.edge_target,
                graph.persistent_bytes + graph.output_bytes, graph.temporary_bytes,
                on.memory_bytes, peak_bytes(problem, device), wires)
        better = Mapping(
            algorithm=name, device=device, start_s=makespan(problem, device, order)[1])
        better_s = value(problem, better)
        if better_s < best_s and fits(problem, device):
            best, best_s = better, better_s
    return best


def exit_rank(problem: MappingProblem, device: IntArray) -> FloatArray:
    """Longest path from each node to an exit on these devices, its own time included, [nodes]."""
    graph = problem.graph
    node_s = node_seconds(problem, device)
    source, target = device[graph.edge_source], device[graph.edge_target]
    crosses = source != target
    edge_s = np.zeros(graph.edges)
    edge_s[crosses] = transfers_seconds(
        problem, graph.edge_tensor[crosses], source[crosses], target[crosses])
    return node_s + longest_after(graph, node_s, edge_s)


def rank_order(problem: MappingProblem, device: IntArray) -> IntArray:
    """Nodes by decreasing `exit_rank`: a topological order in which what is urgent runs first."""
    return by_rank(problem.graph, exit_rank(problem, device))


@compiled
def _rehomed(
    order: IntArray, before: IntArray, rank: FloatArray, free: BoolArray, compute_s: FloatArray,
    column: IntArray, speed: FloatArray, first_out: IntArray, out_edges: IntArray,
    edge_target: IntArray, held: FloatArray, temporary: FloatArray, memory: FloatArray,
    peak: FloatArray, wires: Wiring,
) -> IntArray:
    """Each node where the path through it, the rest staying where it is, would end first."""
    device = before.copy()
    ready_at, end = np.zeros(len(memory)), np.zeros(len(before))
    tried = np.zeros(len(memory), dtype=np.int64)
    round_ = 0
    for node in order:
        inputs, outputs = wires.first_in[node], first_out[node]
        count = wires.first_in[node + 1] - inputs
        best, best_end, best_exit = device[node], 0.0, np.inf
        last = count + first_out[node + 1] - outputs if free[node] else 0
        round_ += 1
        for place in range(-1, last):
            if place < 0:
                here = device[node]
            elif place < count:
                here = device[wires.edge_source[inputs + place]]
            else:
                here = device[edge_target[out_edges[outputs + place - count]]]
            if tried[here] == round_:
                continue
            tried[here] = round_
            if place >= 0 and peak[here] + held[node] + temporary[node] > memory[here]:
                continue
            begin = ready_at[here]
            for edge in range(inputs, inputs + count):
                source = wires.edge_source[edge]
                arrives = end[source]
                if device[source] != here:
                    arrives += transfer_s(wires, wires.edge_tensor[edge], device[source], here)
                begin = max(begin, arrives)
            ends = begin + compute_s[node, column[here]] / speed[here]
            exits = ends
            for number in range(outputs, first_out[node + 1]):
                target = edge_target[out_edges[number]]
                after = ends + rank[target]
                if device[target] != here:
                    after += transfer_s(
                        wires, wires.edge_tensor[out_edges[number]], here, device[target])
                exits = max(exits, after)
            if exits < best_exit:
                best, best_end, best_exit = here, ends, exits
        if best != device[node]:
            peak[device[node]] -= held[node]
            peak[best] += held[node] + temporary[node]
            device[node] = best
        end[node] = best_end
        ready_at[best] = best_end
    return device
