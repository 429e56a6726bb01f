"""Merge the nodes of a graph into blocks that a placer may separate.

Blocks are contiguous in a topological order of the graph, so any contiguous split of the blocks
gives segments whose quotient graph is acyclic, and gradients are summed in an order that does not
depend on the split (docs/adr/0008-bit-identity.md). Replicable nodes (masks, rotary tables, slices
of the data) are in no block: `ir.cut` runs them wherever they are needed.

A parameter that the graph updates (running statistics) must be updated where it is read, so no cut
falls between its first and its last reader or the node that makes its update. A batch normalisation
that is called twice binds everything between its calls into one block.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from dag.cost import FloatArray, GraphCosts, weight_bytes
from dag.job import TrainingSpec
from ir.graph import Graph

MAX_BLOCKS = 256
"""Fine enough to balance 32 peers; keeps range tables of [blocks, blocks] small."""


@dataclass(frozen=True, slots=True, eq=False)
class Blocks:
    """A graph as a sequence of blocks.

    Attributes:
        costs: the graph and its costs.
        nodes: node indices of each block, ascending; together, all that are not replicable.
    """

    costs: GraphCosts
    nodes: tuple[tuple[int, ...], ...]

    def part(self, first: int, end: int) -> tuple[int, ...]:
        """Nodes of the blocks `first` to `end - 1`, ascending."""
        return tuple(sorted(index for block in self.nodes[first:end] for index in block))


def coarsen(
    costs: GraphCosts, seconds: FloatArray, training: TrainingSpec, max_blocks: int = MAX_BLOCKS,
    breaks: frozenset[int] = frozenset(), order: list[int] | None = None,
) -> Blocks:
    """Choose where a graph may be cut: few places, few live bytes at each, evenly spread.

    The topological order is divided into `max_blocks` stretches of equal share of work and memory,
    and the cheapest place to cut in each is kept. A graph with fewer nodes keeps all its places.

    Args:
        costs: the graph.
        seconds: typical time of each node, shape [2, nodes].
        training: tells what a parameter takes.
        max_blocks: most blocks, >= 1.
        breaks: nodes that begin a block: other peers can run them than what is before. So many
            of them as there are blocks are heeded, the cheapest to cut at first.
        order: all nodes to place, in a topological order; by index if there is none.

    Cost: O(nodes + edges).
    """
    if order is None:
        order = [node.index for node in costs.graph.nodes if node.index not in costs.replicable]
    if not order:
        # Nothing is trained or drawn: one block that names everything, for `ir.cut` to place.
        return Blocks(costs, (tuple(range(len(costs.graph.nodes))),))
    places = cutting_places(costs.graph, order)
    if len(places) < max_blocks:
        return _divided(costs, order, places)
    live = live_bytes(costs, order)
    share = _shares(costs, order, seconds, training)
    cheapest: dict[int, int] = {}
    for place in places:
        stretch = min(max_blocks - 2, int(share[place] * (max_blocks - 1)))
        if stretch not in cheapest or live[place] < live[cheapest[stretch]]:
            cheapest[stretch] = place
    forced = sorted(
        (place for place in places if order[place] in breaks), key=lambda place: live[place])
    return _divided(costs, order, sorted({*cheapest.values(), *forced[:max_blocks]}))


def cutting_places(graph: Graph, order: Sequence[int]) -> list[int]:
    """Places between two nodes of `order` where a cut parts no updated parameter, ascending.

    Args:
        graph: the whole graph.
        order: indices of the nodes to place, in a topological order.

    Returns:
        `p` means between `order[p - 1]` and `order[p]`.

    Cost: O(nodes + edges + updates * nodes) at worst.
    """
    position = {index: place for place, index in enumerate(order)}
    made_at: dict[str, int] = {}
    touched: dict[str, list[int]] = {name: [] for name in graph.updates}
    for index, place in position.items():
        node = graph.nodes[index]
        made_at.update(dict.fromkeys(node.outputs, place))
        for name in touched.keys() & node.inputs:
            touched[name].append(place)
    bound: set[int] = set()
    for name, value in graph.updates.items():
        places = [made_at[value], *touched[name]]
        bound.update(range(min(places) + 1, max(places) + 1))
    return [place for place in range(1, len(order)) if place not in bound]


def _divided(costs: GraphCosts, order: Sequence[int], places: Sequence[int]) -> Blocks:
    bounds = [0, *places, len(order)]
    return Blocks(costs, tuple(
        tuple(sorted(order[first:end])) for first, end in pairwise(bounds)))


def live_bytes(costs: GraphCosts, order: list[int]) -> list[int]:
    """Bytes that cross each place between two nodes of `order`, shape [len(order) + 1]."""
    graph = costs.graph
    position = {index: place for place, index in enumerate(order)}
    last: dict[str, int] = {}
    for place, index in enumerate(order):
        for name in graph.nodes[index].inputs:
            last[name] = place
    change = [0] * (len(order) + 2)
    for index in order:
        for name in graph.nodes[index].outputs:
            if name and last.get(name, -1) > position[index]:
                change[position[index] + 1] += graph.types[name].size_bytes
                change[last[name] + 1] -= graph.types[name].size_bytes
    return [int(total) for total in np.cumsum(np.array(change[:-1], dtype=np.int64))]


def _shares(
    costs: GraphCosts, order: list[int], seconds: FloatArray, training: TrainingSpec
) -> FloatArray:
    """How far each place is on the way from 0 to 1, half by work and half by memory."""
    work = seconds.sum(axis=0)[order]
    memory = np.array([costs.saved[index] for index in order], dtype=np.float64)
    position = {index: place for place, index in enumerate(order)}
    for name, readers in costs.readers.items():
        if readers:
            size = weight_bytes(costs.graph.types[name].size_bytes, training)
            memory[min(position[index] for index in readers)] += size
    share = np.zeros(len(order))
    for part in (work, memory):
        total = part.sum()
        if total > 0:
            share += np.concatenate([[0.0], np.cumsum(part)[:-1]]) / (2.0 * total)
    return share
