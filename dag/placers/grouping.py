"""Co-placement and fusion: Baechi's preprocessing (Jeon et al., SoCC 2020), for any placer.

A node whose outputs go to one consumer gains nothing from being elsewhere, so both are put in one
co-location group. Then nodes of a group that follow each other become one, where that makes no
cycle: fewer decisions, and no transfer between them in the placer's eyes.
"""

from __future__ import annotations

from collections import deque
from dataclasses import replace
from itertools import pairwise

import numpy as np

from dag.mapping.coarsen import Coarse, contracted, expanded
from dag.mapping.memory import ROUNDING, group_costs, group_seconds
from dag.mapping.problem import (
    CostGraph,
    IntArray,
    Mapping,
    MappingPlacer,
    MappingProblem,
    Unmapped,
)


def on_fused(placer: MappingPlacer) -> MappingPlacer:
    """The placer on the co-placed and fused graph; its answer is for the graph given.

    Start times are the judge's, for the placer's order of fused nodes, topological inside each.
    """

    def place(problem: MappingProblem) -> Mapping | Unmapped:
        coarse = fused(coplaced(problem))
        answer = placer(replace(problem, graph=coarse.graph))
        named = replace(answer, algorithm=f"{answer.algorithm}-fused")
        return named if isinstance(named, Unmapped) else expanded(named, coarse, problem)

    return place


def coplaced(problem: MappingProblem) -> CostGraph:
    """The graph with the groups of a node and its consumer merged, if it has but one.

    This is the reference's fixpoint in one pass: consumers are counted in nodes, so merging groups
    changes nobody's count. We differ where the reference would fail later: groups stay apart if no
    device could run and hold both, or if they are pinned to different ones.

    Cost: O(edges log edges + nodes * devices).
    """
    graph = problem.graph
    groups = _Groups(problem)
    pairs = np.unique(graph.edge_source * graph.nodes + graph.edge_target)
    source, target = pairs // max(graph.nodes, 1), pairs % max(graph.nodes, 1)
    consumers = np.bincount(source, minlength=graph.nodes)
    only = np.full(graph.nodes, -1, dtype=np.int64)
    only[source] = target
    for node in graph.topological.tolist():
        if consumers[node] == 1:
            groups.merge(int(graph.group[node]), int(graph.group[only[node]]))
    return groups.regrouped(graph)


def fused(graph: CostGraph) -> Coarse:
    """Contract edges inside co-location groups, each only if that surely makes no cycle.

    An edge is contracted if its source has no other consumer or its target no other producer: then
    no second path joins them. An edge that fails this test is looked at again only if a contraction
    makes it anew, as in the reference. Bytes of outputs add up even if they stay inside a fused
    node, because a problem's memory counts them all; the reference drops them.

    Cost: O(nodes + edges * largest degree) at worst.
    """
    ahead: list[dict[int, None]] = [{} for _ in range(graph.nodes)]
    back: list[dict[int, None]] = [{} for _ in range(graph.nodes)]
    for source, target in zip(graph.edge_source.tolist(), graph.edge_target.tolist(), strict=True):
        ahead[source][target] = None
        back[target][source] = None
    into = list(range(graph.nodes))
    costs, group = group_costs(graph), graph.group.tolist()
    for start, stop in pairwise(costs.first.tolist()):
        _contract(costs.members[start:stop].tolist(), group, ahead, back, into)
    part = _parts(into)
    return Coarse(graph=contracted(graph, part), part=part)


def _contract(
    members: list[int], group: list[int], ahead: list[dict[int, None]],
    back: list[dict[int, None]], into: list[int],
) -> None:
    """Contract what can be inside one group.

    Args:
        members: of the group.
        group: of each node.
        ahead: changed: successors of each node, as keys.
        back: changed: predecessors.
        into: changed: node that a node was contracted into, or itself.
    """
    inside = deque((node, after) for node in members for after in ahead[node])
    while inside:
        source, target = inside.popleft()
        if group[source] != group[target] or target not in ahead[source] or (
                len(ahead[source]) > 1 and len(back[target]) > 1):
            continue
        into[target] = source
        inside.extend((before, source) for before in _moved(back, ahead, target, source))
        inside.extend((source, after) for after in _moved(ahead, back, target, source))


def _moved(
    ahead: list[dict[int, None]], back: list[dict[int, None]], old: int, new: int
) -> list[int]:
    """Give all neighbours of `old` in one direction to `new`; those that it did not have yet."""
    fresh = []
    for neighbour in ahead[old]:
        del back[neighbour][old]
        if neighbour != new and neighbour not in ahead[new]:
            ahead[new][neighbour] = None
            back[neighbour][new] = None
            fresh.append(neighbour)
    ahead[old] = {}
    return fresh


def _parts(into: list[int]) -> IntArray:
    """Number of the fused node of each node, in order of their first members."""
    head = list(range(len(into)))
    for node in range(len(into)):
        while head[node] != into[head[node]]:
            head[node] = into[head[node]]
    number: dict[int, int] = {}
    return np.array([number.setdefault(node, len(number)) for node in head], dtype=np.int64)


class _Groups:
    """Co-location groups that grow: a union-find, and what each union needs of a device."""

    def __init__(self, problem: MappingProblem) -> None:
        costs = group_costs(problem.graph)
        self._limit = problem.devices.memory_bytes * ROUNDING
        self._head = list(range(problem.graph.groups))
        self._held, self._temporary = costs.held, costs.temporary
        self._able = np.isfinite(group_seconds(problem, problem.seconds()))
        self._pin = costs.pin
        pinned = np.flatnonzero(self._pin >= 0)
        there = np.zeros_like(self._able)
        there[pinned, self._pin[pinned]] = True
        self._able[pinned] &= there[pinned]

    def merge(self, one: int, other: int) -> None:
        """Join two groups, if some device could take both."""
        one, other = sorted((self._find(one), self._find(other)))
        able = self._able[one] & self._able[other]
        held = self._held[one] + self._held[other]
        temporary = max(self._temporary[one], self._temporary[other])
        if one == other or not (able & (held + temporary <= self._limit)).any():
            return
        self._head[other] = one
        self._able[one] = able
        self._held[one] = held
        self._temporary[one] = temporary
        self._pin[one] = max(self._pin[one], self._pin[other])

    def regrouped(self, graph: CostGraph) -> CostGraph:
        """The graph with these groups."""
        head = np.array([self._find(group) for group in range(graph.groups)], dtype=np.int64)
        kept, number = np.unique(head, return_inverse=True)
        # The lowest number heads a union, so that numbers stay in order of first members.
        return replace(
            graph, group=number.astype(np.int64)[graph.group], groups=len(kept),
            pin=self._pin[head][graph.group])

    def _find(self, group: int) -> int:
        while self._head[group] != group:
            self._head[group] = self._head[self._head[group]]
            group = self._head[group]
        return group
