"""Make a cost graph smaller without making a cycle, and bring an answer back.

Rounds of merges (`dag.mapping.matching`), heaviest edges first, until few enough nodes are left.
Costs add up exactly: a mapping of the coarse graph and its expansion have the same loads and peak
bytes. Its makespan is pessimistic, because a coarse node waits for all inputs of all its members.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from dag.compiled import compiled
from dag.mapping.build import starts, topological_order
from dag.mapping.judge import makespan, running_order
from dag.mapping.matching import (
    Dag,
    Limits,
    into_source,
    into_target,
    level_mates,
    levels,
    neighbours,
    root,
)
from dag.mapping.paths import places
from dag.mapping.problem import (
    LATENCY,
    CostGraph,
    FloatArray,
    IntArray,
    Mapping,
    MappingProblem,
)

GRAIN = 2.0
"""What a merge makes has at most so many times the mean work and bytes of a coarse node."""
WORTH = 0.1
"""A rule that removes a smaller share of the nodes is followed by the next one."""
RELAXATIONS = 8
"""How often the limits are raised when all rules together remove less than that."""


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Coarse:
    """A smaller graph.

    Attributes:
        graph: each node named after its first member.
        part: coarse node of each fine one, [fine nodes].
    """

    graph: CostGraph
    part: IntArray


def coarsened(graph: CostGraph, target: int, apart: IntArray | None = None) -> Coarse:
    """Merge nodes until about `target` are left.

    Nodes of different pins, of different devices that can run them, or of different `apart` are
    never merged. Merging two nodes puts their co-location groups together. Members of one group
    are merged where that makes no cycle; elsewhere the group keeps several coarse nodes.

    Args:
        graph: the graph.
        target: wished number of nodes, >= 1; more are left if the above asks for it.
        apart: a label of each node, equal within a group, [nodes].

    Cost: O((nodes + edges) log edges) for each round, of which there are about
    log(nodes / target).
    """
    part = np.arange(graph.nodes)
    if graph.nodes > target:
        state = _begin(graph, target, apart)
        part = _merged(state, target)
    return Coarse(graph=contracted(graph, part), part=part)


def contracted(graph: CostGraph, part: IntArray) -> CostGraph:
    """The graph of parts, whose quotient must be acyclic.

    A tensor whose consumers are all in its producer's part disappears; several edges with one
    tensor into one part become one.

    Args:
        graph: the fine graph.
        part: numbers 0 to parts - 1, none of them empty, [nodes]; a pin or a group is kept for the
            whole part.

    Raises:
        HomespunError: INVALID_ARGUMENT, the quotient has a cycle.
    """
    count = int(part.max()) + 1 if len(part) else 0
    by_part = np.argsort(part, kind="stable")
    first = starts(part[by_part], count)
    ids = tuple(graph.ids[node] for node in by_part[first[:-1]].tolist())
    group, groups, pin = _bound(graph, part, count)
    edge, tensor = _crossing(graph, part)
    kept, edge_tensor = np.unique(tensor, return_inverse=True)
    source, target = part[graph.edge_source[edge]], part[graph.edge_target[edge]]
    temporary = np.zeros(count)
    np.maximum.at(temporary, part, graph.temporary_bytes)
    return CostGraph(
        ids=ids,
        compute_s=_added(graph.compute_s, by_part, first),
        backward_s=_added(graph.backward_s, by_part, first),
        persistent_bytes=_added(graph.persistent_bytes, by_part, first),
        output_bytes=_added(graph.output_bytes, by_part, first),
        temporary_bytes=temporary, group=group, groups=groups, pin=pin,
        edge_source=source, edge_target=target, edge_tensor=edge_tensor.astype(np.int64),
        tensor_source=part[graph.tensor_source[kept]], tensor_bytes=graph.tensor_bytes[kept],
        override_row=graph.override_row[kept], override_s=graph.override_s,
        first_in=starts(target, count), out_edges=np.argsort(source, kind="stable"),
        first_out=starts(np.sort(source), count),
        topological=topological_order(count, source, target, ids))


def expanded(mapping: Mapping, coarse: Coarse, problem: MappingProblem) -> Mapping:
    """A mapping of the coarse graph as one of the graph it came from.

    Args:
        mapping: of `coarse.graph`.
        coarse: made from `problem.graph`.
        problem: the fine problem, on the same devices.
    """
    device = mapping.device[coarse.part]
    graph = problem.graph
    if problem.objective != LATENCY:
        return Mapping(algorithm=mapping.algorithm, device=device, start_s=np.zeros(graph.nodes))
    problem_there = replace(problem, graph=coarse.graph)
    turn = places(running_order(problem_there, mapping.device, mapping.start_s))
    order = np.lexsort((places(graph.topological), turn[coarse.part])).astype(np.int64)
    return Mapping(
        algorithm=mapping.algorithm, device=device, start_s=makespan(problem, device, order)[1])


def least_seconds(graph: CostGraph) -> FloatArray:
    """Least time of each node at speed 1 over the columns, forward and backward, [nodes]."""
    total = graph.compute_s + graph.backward_s
    least: FloatArray = total.min(axis=1)
    return np.where(np.isfinite(least), least, 0.0)


class _State(NamedTuple):
    """One level of the coarsening."""

    part: IntArray
    dag: Dag
    work: FloatArray
    limits: Limits


def _begin(graph: CostGraph, target: int, apart: IntArray | None) -> _State:
    work = least_seconds(graph)
    held = graph.persistent_bytes + graph.output_bytes
    limits = Limits(
        graph.group, np.arange(graph.groups), _by_group(graph, work), _by_group(graph, held),
        _kinds(graph, apart), GRAIN / target * np.array([work.sum(), held.sum()]))
    weight = graph.tensor_bytes[graph.edge_tensor]
    dag = _dag(graph.edge_source, graph.edge_target, weight, graph.nodes)
    return _State(np.arange(graph.nodes), dag, work, limits)


def _by_group(graph: CostGraph, of_node: FloatArray) -> FloatArray:
    return np.bincount(graph.group, weights=of_node, minlength=graph.groups).astype(np.float64)


def _kinds(graph: CostGraph, apart: IntArray | None) -> IntArray:
    """A number for each group; those of equal number may be merged, [groups]."""
    able = np.ones((graph.groups, graph.compute_s.shape[1]), dtype=np.bool_)
    np.logical_and.at(able, graph.group, np.isfinite(graph.compute_s + graph.backward_s))
    labels = list(np.packbits(able, axis=1).T.astype(np.int64))
    for label in (graph.pin, *(() if apart is None else (apart,))):
        of_group = np.zeros(graph.groups, dtype=np.int64)
        of_group[graph.group] = label
        labels.append(of_group)
    _, kind = np.unique(np.column_stack(labels), axis=0, return_inverse=True)
    return kind.reshape(-1).astype(np.int64)


def _dag(source: IntArray, target: IntArray, weight: FloatArray, nodes: int) -> Dag:
    """Edges between different nodes, equal ones as one."""
    crosses = source != target
    keys, place = np.unique(source[crosses] * nodes + target[crosses], return_inverse=True)
    added = np.bincount(place, weights=weight[crosses], minlength=len(keys))
    source, target = keys // nodes, keys % nodes
    return Dag(source, target, added.astype(np.float64), starts(source, nodes))


def _merged(state: _State, target: int) -> IntArray:
    """Rounds of merges until `target` nodes are left or nothing more can be merged; the parts."""
    relaxed = 0
    everything = np.array([state.limits.work.sum(), state.limits.held.sum()])
    while len(state.work) > target:
        before = len(state.work)
        for rule in range(5):
            state = _applied(state, rule, len(state.work) - target)
            if len(state.work) <= (1.0 - WORTH) * before:
                break
        if len(state.work) > (1.0 - WORTH) * before:
            relaxed += 1
            unbound = bool((state.limits.most >= everything).all())
            if relaxed > RELAXATIONS or (unbound and len(state.work) == before):
                break
            state.limits.most[:] *= 2.0 if len(state.work) < before else 4.0
    return state.part


def _applied(state: _State, rule: int, spare: int) -> _State:
    """One rule of merging on the whole graph."""
    if spare <= 0:
        return state
    dag, limits = state.dag, state.limits
    if rule < 3:
        both = state.work[dag.source] + state.work[dag.target]
        by_weight = np.lexsort((both, -dag.weight)).astype(np.int64)
        if rule == 0:
            parent = into_target(dag, by_weight, limits, spare)
        elif rule == 1:
            parent = into_source(dag, by_weight, limits, spare)
        else:
            parent = neighbours(dag, levels(dag), by_weight, limits, spare)
    else:
        level = levels(dag)
        kin = _nearest(dag)
        ordered = np.lexsort((kin, level)).astype(np.int64)
        parent = level_mates(level, kin, ordered, limits, spare, rule == 4)
    head = _roots(parent)
    return state if bool((head == np.arange(len(head))).all()) else _shrunk(state, head)


def _nearest(dag: Dag) -> IntArray:
    """Of each node the source of its heaviest edge in, else the target of its heaviest out."""
    nodes = len(dag.first_out) - 1
    nearest = np.full(nodes, -1, dtype=np.int64)
    light_first = np.argsort(dag.weight, kind="stable")
    nearest[dag.source[light_first]] = dag.target[light_first]
    nearest[dag.target[light_first]] = dag.source[light_first]
    return nearest


@compiled
def _roots(parent: IntArray) -> IntArray:
    found = np.empty(len(parent), dtype=np.int64)
    for node in range(len(parent)):
        found[node] = root(parent, node)
    return found


def _shrunk(state: _State, head: IntArray) -> _State:
    """The next level, in which nodes of one head are one."""
    heads, joins = np.unique(head, return_inverse=True)
    joins = joins.astype(np.int64)
    count = len(heads)
    dag = _dag(joins[state.dag.source], joins[state.dag.target], state.dag.weight, count)
    work = np.bincount(joins, weights=state.work, minlength=count).astype(np.float64)
    limits = state.limits._replace(group=state.limits.group[heads])
    return _State(joins[state.part], dag, work, limits)


def _added(table: FloatArray, by_part: IntArray, first: IntArray) -> FloatArray:
    """Sum over the members of each part, along the first axis."""
    if not len(by_part):
        return table
    total: FloatArray = np.add.reduceat(table[by_part], first[:-1], axis=0)
    return total


def _bound(graph: CostGraph, part: IntArray, count: int) -> tuple[IntArray, int, IntArray]:
    """Group of each part, their number, and the device it is pinned to.

    Parts that share a group are of one group: components of the graph of parts and groups.
    """
    joined = coo_array(
        (np.ones(graph.nodes, dtype=np.int8), (part, graph.group + count)),
        shape=(count + graph.groups, count + graph.groups))
    _, component = connected_components(joined, directed=False)
    _, first, number = np.unique(component[:count], return_index=True, return_inverse=True)
    group = places(np.argsort(first, kind="stable"))[number]
    groups = len(first)
    pin = np.full(groups, -1, dtype=np.int64)
    np.maximum.at(pin, group[part], graph.pin)
    return group, groups, pin[group]


def _crossing(graph: CostGraph, part: IntArray) -> tuple[IntArray, IntArray]:
    """Edges between parts, one for each tensor and target, by target then as given; tensors."""
    target = part[graph.edge_target]
    crosses = np.flatnonzero(part[graph.edge_source] != target)
    tensors = len(graph.tensor_bytes)
    _, first = np.unique(
        target[crosses] * tensors + graph.edge_tensor[crosses], return_index=True)
    edge = crosses[np.sort(first)]
    edge = edge[np.argsort(target[edge], kind="stable")]
    return edge, graph.edge_tensor[edge]
