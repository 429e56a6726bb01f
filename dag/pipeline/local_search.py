"""Improve a split: move cuts, swap, replace, add, drop and turn round peers, as long as it helps.

Neighbours are ranked by the chain model, which is cheap, and the best few are predicted; the first
round in which none is faster ends the search.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import combinations

from dag.pipeline.chain_model import fits_model, model_seconds
from dag.pipeline.split import Split, SplitProblem
from dag.pipeline.trials import Trials, contiguous

ROUNDS = 24
PREDICTED = 4
"""Neighbours predicted in a round."""
STRIDES = (1, 2, 4, 8, 16, 32)
"""Blocks by which a cut moves."""


def improved(
    best: Split, table: SplitProblem, trials: Trials, pool: Sequence[int], wanted: int, most: int
) -> Split:
    """A split that is at least as fast.

    Args:
        best: it fits.
        table: the chain model.
        trials: predictions.
        pool: peers that may take part.
        wanted: exact number of segments, or 0.
        most: predictions that may be made; a round begun is ended.

    Cost: O(rounds * (segments * (segments + idle peers) * segments + PREDICTED predictions)).
    """
    end = trials.made + most
    for _ in range(ROUNDS):
        if trials.made >= end:
            return best
        near = {
            (split.peers, split.bounds): split
            for split in _neighbours(best, pool, wanted, table.ranges.count)
            if fits_model(table, split)}
        ranked = sorted(near.values(), key=lambda split: model_seconds(table, split))
        tried = [split for split in ranked[:PREDICTED] if trials.fits(contiguous(split))]
        fastest = min(tried, default=best, key=lambda split: trials.step_s(contiguous(split)))
        if trials.step_s(contiguous(fastest)) >= trials.step_s(contiguous(best)):
            return best
        best = fastest
    return best


def _neighbours(
    split: Split, pool: Sequence[int], wanted: int, blocks: int
) -> Iterator[Split]:
    idle = [peer for peer in pool if peer not in split.peers]
    yield from _moved_cuts(split)
    yield replace(split, peers=split.peers[::-1])
    for first, second in combinations(range(len(split.peers)), 2):
        peers = list(split.peers)
        peers[first], peers[second] = peers[second], peers[first]
        yield replace(split, peers=tuple(peers))
    for place in range(len(split.peers)):
        for peer in idle:
            yield replace(
                split, peers=(*split.peers[:place], peer, *split.peers[place + 1:]))
    if not wanted:
        yield from _fewer(split)
        if len(split.peers) < blocks:
            yield from _more(split, idle)


def _moved_cuts(split: Split) -> Iterator[Split]:
    bounds = split.bounds
    for number in range(1, len(bounds) - 1):
        for stride in STRIDES:
            for cut in (bounds[number] - stride, bounds[number] + stride):
                if bounds[number - 1] < cut < bounds[number + 1]:
                    yield replace(split, bounds=(*bounds[:number], cut, *bounds[number + 1:]))


def _fewer(split: Split) -> Iterator[Split]:
    """One segment less: its blocks go to a neighbour."""
    for place in range(len(split.peers) if len(split.peers) > 1 else 0):
        peers = (*split.peers[:place], *split.peers[place + 1:])
        for number in dict.fromkeys((max(place, 1), min(place + 1, len(split.peers) - 1))):
            bounds = (*split.bounds[:number], *split.bounds[number + 1:])
            yield replace(split, peers=peers, bounds=bounds)


def _more(split: Split, idle: Sequence[int]) -> Iterator[Split]:
    """One segment more: half of a segment's blocks go to an idle peer before or after it."""
    for place in range(len(split.peers)):
        first, end = split.bounds[place], split.bounds[place + 1]
        if end - first < 2:
            continue
        bounds = (*split.bounds[:place + 1], (first + end) // 2, *split.bounds[place + 1:])
        for peer in idle:
            for at in (place, place + 1):
                yield replace(
                    split, peers=(*split.peers[:at], peer, *split.peers[at:]), bounds=bounds)
