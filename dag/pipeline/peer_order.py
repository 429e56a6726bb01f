"""Which peers a placer considers for one job, and in which orders.

Trying all subsets and orders of many peers is out of the question; these are the ones that measured
speed, memory and the peers' executors make promising.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import permutations, zip_longest

from dag.cluster import PeerResources

MAX_PEERS = 16
"""Peers looked at for one job, unless the job asks for more; the fastest and the largest."""
ALL_ORDERS_UP_TO = 4
"""So many peers are tried in every order; more in a portfolio of orders."""


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
    peers: Sequence[PeerResources], chosen: Sequence[int], covering: Sequence[int] = ()
) -> list[tuple[int, ...]]:
    """Orders of the chosen peers to try: all of a few, a portfolio of many; each once.

    Args:
        peers: all peers.
        chosen: positions of those to order.
        covering: some of them, in an order in which their executors can run the whole graph; the
            others are put before, after and among them. Empty where every order does.
    """
    if len(chosen) <= ALL_ORDERS_UP_TO:
        return list(permutations(chosen))
    among = frozenset(chosen)
    fast = tuple(number for number in _by_speed(peers) if number in among)
    large = tuple(number for number in _by_memory(peers) if number in among)
    portfolio = [tuple(chosen), fast, large, fast[::-1], large[::-1]]
    if covering:
        rest = [number for number in fast if number not in covering]
        woven = [number for place, leader in enumerate(covering)
                 for number in (leader, *rest[place::len(covering)])]
        portfolio += [(*covering, *rest), (*rest, *covering), tuple(woven)]
    return list(dict.fromkeys(portfolio))


def _by_speed(peers: Sequence[PeerResources]) -> list[int]:
    return sorted(range(len(peers)), key=lambda n: (-peers[n].rates.matmul_flops_per_s, n))


def _by_memory(peers: Sequence[PeerResources]) -> list[int]:
    return sorted(range(len(peers)), key=lambda n: (-peers[n].memory_bytes, n))
