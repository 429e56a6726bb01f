"""Which nodes of a DAG may be merged at once without making a cycle.

Four rules, each safe for all its merges together:

- `into_source`: a node whose inputs all come from one node joins it. What is merged is a tree that
  is entered at its root alone, so a path that leaves it cannot come back.
- `into_target`: the mirror image.
- `neighbours`: pairs (u, v) joined by an edge, v one level below u, the level of a node being its
  longest path from an entry. Between pairs of different levels edges only go down. Of pairs of one
  level, a pair (u, v) is made only while no v' of an earlier pair is a successor of u one level
  down, so edges go from earlier pairs to later ones alone.
- `level_mates`: nodes of one level. Edges go down.

The third is the matching of Herrmann, Ozkaya, Ucar, Kaya & Catalyurek 2019 (SIAM J. Sci. Comput.
41(4), section 4.1), with an order in time in place of their test of neighbouring clusters.

A rule also respects `Limits`, which it tracks by co-location group: merging two nodes puts their
groups on one device.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from dag.compiled import compiled
from dag.mapping.problem import FloatArray, IntArray


class Dag(NamedTuple):
    """A DAG whose edges are distinct pairs, ordered by source.

    Attributes:
        source: [edges].
        target: [edges].
        weight: bytes, [edges].
        first_out: edges out of node n are `first_out[n]` to `first_out[n + 1] - 1`, [nodes + 1].
    """

    source: IntArray
    target: IntArray
    weight: FloatArray
    first_out: IntArray


class Limits(NamedTuple):
    """What may be merged, by co-location group; `parent`, `work` and `held` change with merges.

    Attributes:
        group: of each node, [nodes].
        parent: a forest of groups that became one, [groups].
        work: seconds of a group, at the root of its tree, [groups].
        held: bytes of a group, likewise.
        kind: groups of different kinds stay apart, [groups].
        most: largest work and held bytes of what a merge makes, [2]. A group alone may have more.
    """

    group: IntArray
    parent: IntArray
    work: FloatArray
    held: FloatArray
    kind: IntArray
    most: FloatArray


@compiled
def root(parent: IntArray, start: int) -> int:
    """Root of a tree; the way to it is halved."""
    at = start
    while parent[at] != at:
        parent[at] = parent[parent[at]]
        at = parent[at]
    return at


@compiled
def levels(dag: Dag) -> IntArray:
    """Longest path, in edges, from an entry to each node; -1 on a cycle and below it, [nodes]."""
    nodes = len(dag.first_out) - 1
    waiting = np.zeros(nodes, dtype=np.int64)
    for edge in range(len(dag.target)):
        waiting[dag.target[edge]] += 1
    level = np.zeros(nodes, dtype=np.int64)
    queue = np.empty(nodes, dtype=np.int64)
    filled = 0
    for node in range(nodes):
        if waiting[node] == 0:
            queue[filled] = node
            filled += 1
    done = 0
    while done < filled:
        node = queue[done]
        done += 1
        for edge in range(dag.first_out[node], dag.first_out[node + 1]):
            target = dag.target[edge]
            level[target] = max(level[target], level[node] + 1)
            waiting[target] -= 1
            if waiting[target] == 0:
                queue[filled] = target
                filled += 1
    for node in range(nodes):
        if waiting[node] > 0:
            level[node] = -1
    return level


@compiled
def _joined(limits: Limits, one: int, other: int) -> bool:
    """Put two nodes' groups together if the limits allow it; whether they are."""
    a, b = root(limits.parent, limits.group[one]), root(limits.parent, limits.group[other])
    if a == b:
        return True
    if limits.kind[a] != limits.kind[b]:
        return False
    work, held = limits.work[a] + limits.work[b], limits.held[a] + limits.held[b]
    if work > limits.most[0] or held > limits.most[1]:
        return False
    limits.parent[b] = a
    limits.work[a] = work
    limits.held[a] = held
    return True


@compiled
def into_source(dag: Dag, by_weight: IntArray, limits: Limits, spare: int) -> IntArray:
    """Merge nodes of one predecessor into it.

    Args:
        dag: the graph.
        by_weight: edges, those to merge first at the front.
        limits: what may be merged; changed.
        spare: most merges.

    Returns:
        A forest of merged nodes (`root`), [nodes].
    """
    nodes = len(dag.first_out) - 1
    entering = np.zeros(nodes, dtype=np.int64)
    for edge in range(len(dag.target)):
        entering[dag.target[edge]] += 1
    parent = np.arange(nodes)
    for edge in by_weight:
        if spare > 0 and entering[dag.target[edge]] == 1 and _joined(
                limits, dag.source[edge], dag.target[edge]):
            parent[dag.target[edge]] = dag.source[edge]
            spare -= 1
    return parent


@compiled
def into_target(dag: Dag, by_weight: IntArray, limits: Limits, spare: int) -> IntArray:
    """Merge nodes of one successor into it; arguments as of `into_source`."""
    parent = np.arange(len(dag.first_out) - 1)
    for edge in by_weight:
        source = dag.source[edge]
        if spare > 0 and dag.first_out[source + 1] - dag.first_out[source] == 1 and _joined(
                limits, dag.target[edge], source):
            parent[source] = dag.target[edge]
            spare -= 1
    return parent


@compiled
def neighbours(
    dag: Dag, level: IntArray, by_weight: IntArray, limits: Limits, spare: int
) -> IntArray:
    """Merge pairs of neighbours on successive levels; other arguments as of `into_source`."""
    nodes = len(dag.first_out) - 1
    parent = np.arange(nodes)
    matched = np.zeros(nodes, dtype=np.bool_)
    # For each node, its successors one level down that are the lower end of a pair.
    below = np.zeros(nodes, dtype=np.int64)
    by_target = np.argsort(dag.target, kind="mergesort")
    first_in = np.searchsorted(dag.target[by_target], np.arange(nodes + 1))
    for edge in by_weight:
        source, target = dag.source[edge], dag.target[edge]
        if (spare <= 0 or matched[source] or matched[target] or below[source] > 0
                or level[target] != level[source] + 1 or not _joined(limits, source, target)):
            continue
        parent[target] = source
        matched[source] = True
        matched[target] = True
        spare -= 1
        for place in range(first_in[target], first_in[target + 1]):
            above = dag.source[by_target[place]]
            if level[above] + 1 == level[target]:
                below[above] += 1
    return parent


@compiled
def level_mates(
    level: IntArray, kin: IntArray, ordered: IntArray, limits: Limits, spare: int, strangers: bool
) -> IntArray:
    """Merge pairs of nodes of one level.

    Args:
        level: [nodes].
        kin: nodes of equal number belong together, [nodes].
        ordered: node numbers by level, then kin.
        limits: what may be merged; changed.
        spare: most merges.
        strangers: also merge those of different kin.
    """
    parent = np.arange(len(level))
    waiting = -1
    for node in ordered:
        if (waiting >= 0 and spare > 0 and level[waiting] == level[node]
                and (strangers or kin[waiting] == kin[node]) and _joined(limits, waiting, node)):
            parent[node] = waiting
            waiting = -1
            spare -= 1
        else:
            waiting = node
    return parent
