"""Optimal contiguous splits of a block sequence over ordered peers, by dynamic programming.

For one order of the peers, and for every number of segments at once, `Splitter` finds the split
that minimises the largest cost of a segment or link (`bottleneck`), their sum under a bound on the
largest (`total`), or the memory that is missing (`shortage`). Peers may be left out, not swapped.

A state is (segments left, first peer, first block); since segments are counted from the end, the
microbatches that a segment holds in 1F1B are known in each state and memory is a hard constraint.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from dag.cost import FloatArray
from dag.pipeline.ranges import Ranges

IndexArray = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """Blocks `bounds[s]` to `bounds[s + 1] - 1` run on peer `peers[s]`.

    Attributes:
        peers: positions in the problem's cluster.
        bounds: ascending, from 0 to the number of blocks; one more than peers.
        value: what was minimised.
    """

    peers: tuple[int, ...]
    bounds: tuple[int, ...]
    value: float


@dataclass(frozen=True, slots=True, eq=False)
class SplitProblem:
    """What a split is chosen by.

    Attributes:
        ranges: memory of every range.
        seconds: per peer, time of every range for one microbatch, [n + 1, n + 1]; infinite for
            what its executor cannot run.
        occupied: (p, q) -> time that a cut before block i keeps the link busy, [n + 1].
        delayed: (p, q) -> time that it delays a microbatch, there and back, [n + 1].
        memory_bytes: per peer.
        microbatches: per step.
        lines: (p, q) -> time that a cut before block i takes of p's uplink and of q's downlink for
            the activations, and of q's uplink and of p's downlink for the gradients, [4, n + 1];
            for the chain model alone.
    """

    ranges: Ranges
    seconds: Sequence[FloatArray]
    occupied: dict[tuple[int, int], FloatArray]
    delayed: dict[tuple[int, int], FloatArray]
    memory_bytes: Sequence[int]
    microbatches: int
    lines: dict[tuple[int, int], FloatArray] = field(default_factory=dict)


class Splitter:
    """Splits for one problem. Deterministic: ties go to earlier peers and earlier cuts."""

    def __init__(self, problem: SplitProblem) -> None:
        self._problem = problem
        self._no_links = np.zeros(problem.ranges.count + 1)
        self._memories: dict[int, npt.NDArray[np.int64]] = {}

    def bottleneck(self, order: Sequence[int], most: int) -> list[Split]:
        """Splits with the smallest largest cost, one per number of segments that is possible."""
        return self._search(order, most, self._fitting_seconds, self._problem.occupied, np.maximum)

    def total(self, order: Sequence[int], most: int, bound_s: float) -> list[Split]:
        """Splits with the smallest sum, with no segment or link above `bound_s`."""
        delayed = {
            pair: np.where(self._problem.occupied[pair] <= bound_s, delay, np.inf)
            for pair, delay in self._problem.delayed.items()}

        def seconds(peer: int, segments: int) -> FloatArray:
            cost = self._fitting_seconds(peer, segments)
            return np.where(cost <= bound_s, cost, np.inf)

        return self._search(order, most, seconds, delayed, np.add)

    def shortage(self, order: Sequence[int], most: int) -> list[Split]:
        """Splits with the fewest bytes missing; `value` is that number of bytes."""
        return self._search(order, most, self._missing_bytes, None, np.add)

    def _fitting_seconds(self, peer: int, segments: int) -> FloatArray:
        fits = self._memory(segments) <= self._problem.memory_bytes[peer]
        return np.where(fits, self._problem.seconds[peer], np.inf)

    def _missing_bytes(self, peer: int, segments: int) -> FloatArray:
        missing = np.maximum(0, self._memory(segments) - self._problem.memory_bytes[peer])
        table: FloatArray = np.where(
            np.isfinite(self._problem.seconds[peer]), missing.astype(np.float64), np.inf)
        return table

    def _memory(self, segments: int) -> npt.NDArray[np.int64]:
        held = min(self._problem.microbatches, segments)
        if held not in self._memories:
            tables = self._problem.ranges
            self._memories[held] = tables.fixed + held * tables.per_microbatch
        return self._memories[held]

    def _search(
        self, order: Sequence[int], most: int, cost: Callable[[int, int], FloatArray],
        links: dict[tuple[int, int], FloatArray] | None, join: np.ufunc,
    ) -> list[Split]:
        """Dynamic program over suffixes.

        Cost: O(kinds * most * blocks**2 + peers**2 * most * blocks), where peers of one kind share
        a table of seconds and follow one another; at worst as many kinds as peers.
        """
        count, size = len(order), self._problem.ranges.count + 1
        rows = np.arange(size)
        last = {self._kind(peer): cost(peer, 1)[:, -1] for peer in reversed(order)}
        best = {place: last[self._kind(peer)] for place, peer in enumerate(order)}
        steps: list[dict[int, tuple[IndexArray, IndexArray]]] = []
        found = self._first(order, best, steps)
        for segments in range(2, min(most, count) + 1):
            reached: dict[int, FloatArray] = {}
            chosen: dict[int, tuple[IndexArray, IndexArray]] = {}
            known: dict[tuple[int, int, bytes], tuple[FloatArray, IndexArray]] = {}
            for place in range(count - segments + 1):
                rests, options = self._rests(links, order, place, best)
                after = np.stack([join(rest_s, link_s) for rest_s, link_s in options])
                pick = np.argmin(after, axis=0)
                rest_s = after[pick, rows]
                # Peers of one table and memory before an equal rest reach the same.
                key = (*self._kind(order[place]), rest_s.tobytes())
                if key not in known:
                    joined = join(cost(order[place], segments), rest_s[None, :])
                    cut = np.argmin(joined, axis=1)
                    known[key] = joined[rows, cut], cut
                reached[place], cut = known[key]
                chosen[place] = (cut, np.array(rests, dtype=np.int64)[pick])
            best = reached
            steps.append(chosen)
            found += self._first(order, best, steps)
        return found

    def _rests(
        self, links: dict[tuple[int, int], FloatArray] | None, order: Sequence[int], place: int,
        best: dict[int, FloatArray],
    ) -> tuple[list[int], list[tuple[FloatArray, FloatArray]]]:
        """Places that may follow, and their time and link; of those that share both, the first."""
        first: dict[tuple[int, int], int] = {}
        options = []
        for other in range(place + 1, len(order)):
            if other in best:
                link_s = self._link(links, order[place], order[other])
                if first.setdefault((id(best[other]), id(link_s)), other) == other:
                    options.append((best[other], link_s))
        return list(first.values()), options

    def _kind(self, peer: int) -> tuple[int, int]:
        return id(self._problem.seconds[peer]), self._problem.memory_bytes[peer]

    def _link(
        self, links: dict[tuple[int, int], FloatArray] | None, source: int, target: int
    ) -> FloatArray:
        return self._no_links if links is None else links[source, target]

    def _first(
        self, order: Sequence[int], best: dict[int, FloatArray],
        steps: list[dict[int, tuple[IndexArray, IndexArray]]],
    ) -> list[Split]:
        """The best split that begins at block 0, read back through the choices; none: empty."""
        place = min(best, key=lambda candidate: (float(best[candidate][0]), candidate))
        value = float(best[place][0])
        if not np.isfinite(value):
            return []
        peers, bounds, block = [order[place]], [0], 0
        for chosen in reversed(steps):
            cut, follower = chosen[place]
            block = int(cut[block])
            place = int(follower[block])
            peers.append(order[place])
            bounds.append(block)
        bounds.append(self._problem.ranges.count)
        return [Split(peers=tuple(peers), bounds=tuple(bounds), value=value)]
