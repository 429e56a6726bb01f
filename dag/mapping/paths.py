"""Orders of a cost graph's nodes, and longest paths through it."""

from __future__ import annotations

import numpy as np

from dag.compiled import compiled
from dag.mapping.problem import CostGraph, FloatArray, IntArray


def places(order: IntArray) -> IntArray:
    """Place of each node in an order of all of them: the inverse permutation."""
    place = np.empty(len(order), dtype=np.int64)
    place[order] = np.arange(len(order))
    return place


def by_rank(graph: CostGraph, rank: FloatArray) -> IntArray:
    """Nodes by decreasing rank, ties topologically, [nodes].

    Args:
        graph: the graph.
        rank: [nodes]; where it never grows along an edge, the order is topological.
    """
    return np.lexsort((places(graph.topological), -rank)).astype(np.int64)


def longest_after(graph: CostGraph, node_s: FloatArray, edge_s: FloatArray) -> FloatArray:
    """Longest path from each node's end to an exit, [nodes], seconds. Cost: O(nodes + edges).

    Args:
        graph: the graph.
        node_s: time of each node, [nodes].
        edge_s: time that each edge takes besides, [edges].
    """
    return _longest_after(
        graph.topological, node_s, edge_s, graph.first_out, graph.out_edges, graph.edge_target)


@compiled
def _longest_after(
    topological: IntArray, node_s: FloatArray, edge_s: FloatArray, first_out: IntArray,
    out_edges: IntArray, edge_target: IntArray,
) -> FloatArray:
    after = np.zeros(len(node_s))
    for place in range(len(topological) - 1, -1, -1):
        node = topological[place]
        for number in range(first_out[node], first_out[node + 1]):
            edge = out_edges[number]
            target = edge_target[edge]
            after[node] = max(after[node], edge_s[edge] + (node_s[target] + after[target]))
    return after
