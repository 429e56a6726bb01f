"""An order of a graph's nodes that goes through one branch before the next.

An exporter may write the nodes of parallel branches in turns. Every cut along that order parts all
branches; along this one it parts the branch that it falls into, and carries what others have ended
with.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dag.cost import GraphCosts
from dag.pipeline.blocks import cutting_places, live_bytes
from ir.graph import Graph

WORTH = 0.9
"""An order is tried if its median cut carries less than so much of what that by index does."""


def branch_order(costs: GraphCosts) -> list[int] | None:
    """All nodes to place, branch by branch; None if cuts would hardly carry less than by index.

    Cost: O(nodes + edges), and that of `cutting_places`.
    """
    by_index = [node.index for node in costs.graph.nodes if node.index not in costs.replicable]
    by_branch = _depth_first(costs.graph, by_index)
    if by_branch == by_index:
        return None
    return by_branch if _carried(costs, by_branch) < WORTH * _carried(costs, by_index) else None


def _carried(costs: GraphCosts, order: list[int]) -> float:
    """Median of the bytes that cross where a cut may be."""
    places = cutting_places(costs.graph, order)
    live = np.array(live_bytes(costs, order))
    return float(np.median(live[places])) if places else float("inf")


def _depth_first(graph: Graph, members: Sequence[int]) -> list[int]:
    """Each node after all that it needs, and that right before; ends of the graph by index."""
    made_by = {
        name: index for index in members for name in graph.nodes[index].outputs if name}
    read = {made_by[name] for index in members for name in graph.nodes[index].inputs
            if name in made_by}
    order: dict[int, None] = {}
    waiting = [index for index in reversed(members) if index not in read]
    while waiting:
        index = waiting[-1]
        needed = dict.fromkeys(
            made_by[name] for name in graph.nodes[index].inputs if name in made_by)
        left = [other for other in needed if other not in order]
        if left:
            waiting += reversed(left)
            continue
        waiting.pop()
        order[index] = None
    return list(order)
