"""Find a cycle, to show it to the person who has to remove it."""

from __future__ import annotations

from collections.abc import Sequence


def find_cycle(count: int, edges: Sequence[tuple[int, int]]) -> list[int]:
    """Edge numbers of one cycle, in its direction; empty if there is none.

    Args:
        count: of nodes.
        edges: (source, target).

    Cost: O(nodes + edges).
    """
    waiting = [0] * count
    leaving: list[list[int]] = [[] for _ in range(count)]
    for source, target in edges:
        waiting[target] += 1
        leaving[source].append(target)
    ready = [node for node in range(count) if not waiting[node]]
    for node in ready:
        for target in leaving[node]:
            waiting[target] -= 1
            if not waiting[target]:
                ready.append(target)
    # Every node that still waits has an edge from one that waits: backwards it never ends.
    entering = {target: number for number, (source, target) in enumerate(edges)
                if waiting[source] and waiting[target]}
    if not entering:
        return []
    node, at = edges[min(entering.values())][1], 0
    seen: dict[int, int] = {}
    path: list[int] = []
    while node not in seen:
        seen[node] = at
        path.append(entering[node])
        node, at = edges[entering[node]][0], at + 1
    return path[seen[node]:][::-1]
