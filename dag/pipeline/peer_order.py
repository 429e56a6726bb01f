"""Which peers a plan considers for one job, and in which orders along the pipeline.

Trying all subsets and orders of many peers is out of the question; these are the ones that measured
speed, memory, links and the peers' executors make promising. Along a pipeline only neighbours
exchange tensors, so an order is a path through the network, and slow links are best not on it: the
paths come from the nearest unvisited neighbour, improved by turning stretches round (2-opt), and
from clusters of well-connected peers, each walked through before the next (FusionLLM's OP-Fence
orders by clusters of bandwidth too, arXiv:2410.12707; we take a hierarchy of all scales).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import permutations, zip_longest

import numpy as np

from dag.cluster import PeerResources
from dag.mapping.problem import FloatArray

MAX_PEERS = 16
"""Peers looked at for one job, unless the job asks for more; the fastest and the largest."""
ALL_ORDERS_UP_TO = 4
"""So many peers are tried in every order; more in a portfolio of orders."""
PATH_STARTS = 3
"""Peers that a path of near neighbours begins with: the fastest."""
TURNS = 4
"""Passes of turning stretches of a path round."""


def pool(
    peers: Sequence[PeerResources], able: Sequence[int], kinds: Sequence[int], wanted: int
) -> tuple[int, ...]:
    """The peers to consider: half by speed, half by memory, in the given order.

    Kinds of executor take turns, because one of another kind may be needed however slow it is.

    Args:
        peers: all peers.
        able: positions of those that can run anything, ascending.
        kinds: for each peer a number, equal for those that can run the same.
        wanted: peers that the job asks for; 0: as many as are good for it.
    """
    most = max(MAX_PEERS, wanted)
    if len(able) <= most:
        return tuple(able)
    turns: dict[int, dict[int, None]] = {kinds[number]: {} for number in able}
    for fast, large in zip(_by_speed(peers), _by_memory(peers), strict=True):
        for number in (fast, large):
            if kinds[number] in turns:
                turns[kinds[number]][number] = None
    picked = [number for turn in zip_longest(*turns.values()) for number in turn
              if number is not None]
    return tuple(sorted(picked[:most]))


def orders(
    peers: Sequence[PeerResources], chosen: Sequence[int], hop_s: FloatArray,
    covering: Sequence[int] = (),
) -> list[tuple[int, ...]]:
    """Orders of the chosen peers to try: all of a few, a portfolio of many; each once.

    Args:
        peers: all peers.
        chosen: positions of those to order.
        hop_s: time that a typical boundary takes there and its gradient back, [peers, peers].
        covering: some of them, in an order in which their executors can run the whole graph; the
            others are put before, after and among them. Empty where every order does.

    Cost: O(chosen**3), all permutations of up to `ALL_ORDERS_UP_TO`.
    """
    if len(chosen) <= ALL_ORDERS_UP_TO:
        return list(permutations(chosen))
    among = frozenset(chosen)
    fast = tuple(number for number in _by_speed(peers) if number in among)
    large = tuple(number for number in _by_memory(peers) if number in among)
    portfolio = [tuple(chosen), fast, large, fast[::-1], large[::-1]]
    for path in (*(_near_path(start, fast, hop_s) for start in fast[:PATH_STARTS]),
                 _clustered(fast, hop_s)):
        turned = _turned(path, hop_s)
        portfolio += [turned, turned[::-1]]
    if covering:
        rest = [number for number in fast if number not in covering]
        woven = [number for place, leader in enumerate(covering)
                 for number in (leader, *rest[place::len(covering)])]
        portfolio += [(*covering, *rest), (*rest, *covering), tuple(woven)]
    return list(dict.fromkeys(portfolio))


def _near_path(start: int, members: Sequence[int], hop_s: FloatArray) -> tuple[int, ...]:
    """From a peer always on to the nearest that is left; of equals the first in `members`."""
    path = [start]
    left = [member for member in members if member != start]
    while left:
        here = path[-1]
        nearest = min(left, key=lambda member: float(hop_s[here, member]))
        left.remove(nearest)
        path.append(nearest)
    return tuple(path)


def _clustered(members: Sequence[int], hop_s: FloatArray) -> tuple[int, ...]:
    """Leaves of the hierarchy of clusters, neighbours near each other."""
    # Half a second to import, and only many peers need it.
    from scipy.cluster.hierarchy import leaves_list, linkage

    apart = hop_s[np.ix_(members, members)]
    pairs = ((apart + apart.T) / 2)[np.triu_indices(len(members), 1)]
    tree = linkage(pairs, method="average", optimal_ordering=True)
    return tuple(members[int(leaf)] for leaf in leaves_list(tree))


def _turned(path: tuple[int, ...], hop_s: FloatArray) -> tuple[int, ...]:
    """Turn stretches round while that shortens the longest hop, or their sum with equal longest."""
    best, best_cost = path, _path_cost(path, hop_s)
    for _ in range(TURNS):
        before = best_cost
        for first in range(len(path) - 1):
            for end in range(first + 2, len(path) + 1):
                tried = (*best[:first], *best[first:end][::-1], *best[end:])
                cost = _path_cost(tried, hop_s)
                if cost < best_cost:
                    best, best_cost = tried, cost
        if best_cost == before:
            break
    return best


def _path_cost(path: Sequence[int], hop_s: FloatArray) -> tuple[float, float]:
    hops = hop_s[list(path[:-1]), list(path[1:])]
    return float(hops.max(initial=0.0)), float(hops.sum())


def _by_speed(peers: Sequence[PeerResources]) -> list[int]:
    return sorted(range(len(peers)), key=lambda n: (-peers[n].rates.matmul_flops_per_s, n))


def _by_memory(peers: Sequence[PeerResources]) -> list[int]:
    return sorted(range(len(peers)), key=lambda n: (-peers[n].memory_bytes, n))
