"""`ChainDp`: the graph as a chain of blocks, split over an ordered subset of unequal peers.

The step of a pipeline takes about `(microbatches - 1) * bottleneck + one pass through everything`.
For each of a few orders of the peers, dynamic programming finds for every number of segments the
split with the smallest bottleneck, then the shortest pass under bounds a little above it; the most
promising splits are cut for real and predicted by `dag.predict`, and the best of those wins. The
idea of balancing a pipeline by dynamic programming is PipeDream's (Narayanan et al. 2019, section
3.1); we differ: no replication, unequal peers and links, memory as a hard constraint, fill and
drain counted.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import pairwise, permutations

import numpy as np

from dag.cluster import PeerResources
from dag.cost import FloatArray
from dag.pipeline.blocks import Blocks, coarsen
from dag.pipeline.feasible import Feasibility, covering_order, runnable_ranges
from dag.pipeline.peer_order import orders, pool
from dag.pipeline.ranges import Ranges, range_seconds, ranges
from dag.pipeline.split import Split, SplitProblem, Splitter
from dag.placement import Infeasible, Placement, PlacementProblem, Refusal
from dag.predict import Estimate, Prediction, estimate, predict
from ir.cut import cut
from ir.segment import Segment

PREDICTED_CANDIDATES = 8
SLACK_FACTORS = (1.0, 1.1, 1.5, float("inf"))
"""How far above the smallest bottleneck a split with a shorter pass may go."""
MEMORY_ROUNDS = 4
"""Searches with tightened memory after a candidate turned out larger than the tables said."""


class ChainDp:
    """Balanced contiguous partition for throughput. Follows `dag.placement.Placer`."""

    name = "chain_dp"

    def place(self, problem: PlacementProblem) -> Placement | Infeasible:
        """Place the whole job, or say why it cannot be placed.

        Never predicts a longer step than the best single peer that holds the job (unless the job
        asks for more peers). Cost: O(orders * peers**2 * blocks**2 + candidates * nodes).
        """
        if refusal := _count_refusal(problem, len(problem.cluster.peers)):
            return Infeasible(refusals=(refusal,), missing_bytes=0)
        feasible = Feasibility(problem)
        able = [n for n in range(len(problem.cluster.peers)) if feasible.runs_any(n)]
        if refusals := feasible.impossible():
            return Infeasible(refusals=refusals, missing_bytes=0)
        if refusal := _count_refusal(problem, len(able)):
            return Infeasible(refusals=(refusal, *feasible.disconnected()), missing_bytes=0)
        return _ChainSearch(estimate(problem), feasible, able).answer()


def _count_refusal(problem: PlacementProblem, had: int) -> Refusal | None:
    wanted, known = max(1, problem.job.peers), len(problem.cluster.peers)
    if wanted <= had:
        return None
    able = "" if had == known else f" and can run a part of it, of {known}"
    return Refusal(
        subject=problem.job.name, rule="count", wanted=wanted, had=had,
        text=f"The job needs {wanted} peers, and {had} are available{able}.")


class _ChainSearch:
    """One search; single use."""

    def __init__(self, known: Estimate, feasible: Feasibility, able: Sequence[int]) -> None:
        self._known = known
        self._feasible = feasible
        self._peers = known.problem.cluster.peers
        self._wanted = known.problem.job.peers
        self._pool = pool(self._peers, able, feasible.kinds(), self._wanted)
        self._blocks = _blocks(known, self._pool, feasible.changes())
        self._runnable = {peer: feasible.blocks(peer, self._blocks) for peer in self._pool}
        self._cover = covering_order([self._runnable[peer] for peer in self._pool])
        self._orders = orders(self._peers, self._pool, self._covering())
        self._ranges = ranges(self._blocks, known.training)
        self._memory_bytes = [peer.memory_bytes for peer in self._peers]
        self._problem = self._split_problem()
        self._splitter = Splitter(self._problem)
        self._extended: dict[tuple[tuple[int, ...], int], Split | None] = {}
        self._segments: dict[tuple[int, ...], tuple[Segment, ...]] = {}
        self._predictions: dict[tuple[tuple[int, ...], tuple[int, ...]], Prediction] = {}

    def answer(self) -> Placement | Infeasible:
        if self._wanted > self._ranges.count:
            return Infeasible(missing_bytes=0, refusals=(Refusal(
                subject=self._known.problem.job.name, rule="count", wanted=self._wanted,
                had=self._ranges.count,
                text=f"The job asks for {self._wanted} peers, but its graph can be cut into at "
                f"most {self._ranges.count} segments."),))
        if self._cover is None:
            return Infeasible(refusals=self._feasible.disconnected(), missing_bytes=0)
        for _ in range(MEMORY_ROUNDS):
            candidates = self._candidates()
            ranked = self._ranked(candidates)
            if ranked:
                return self._placement(self._improved(ranked[0]))
            if not self._tighten(candidates):
                break
        return self._nearest()

    def _covering(self) -> tuple[int, ...]:
        """Peers in an order in which their executors can run everything; empty: any order does."""
        if self._cover is None or all(table.all() for table in self._runnable.values()):
            return ()
        return tuple(self._pool[place] for place in self._cover)

    def _most(self) -> int:
        return min(len(self._pool), self._ranges.count, self._wanted or len(self._pool))

    def _wants(self, split: Split) -> bool:
        return not self._wanted or len(split.peers) == self._wanted

    def _candidates(self) -> list[Split]:
        """Distinct splits, the most promising first; each peer alone is one of them."""
        most, splitter = self._most(), self._splitter
        balanced = [
            (self._model_s(split), order, split)
            for order in self._orders
            for split in splitter.bottleneck(order, most) if self._wants(split)]
        balanced.sort(key=lambda entry: entry[0])
        splits = [split for _, _, split in balanced]
        if self._wanted <= 1:
            splits += [
                Split(peers=(peer,), bounds=(0, self._ranges.count), value=0.0)
                for peer in self._pool if self._runnable[peer].all()]
        for _, order, start in balanced[:3]:
            for factor in SLACK_FACTORS:
                splits += [
                    split for split in splitter.total(order, len(start.peers), start.value * factor)
                    if self._wants(split)]
        distinct = {(split.peers, split.bounds): split for split in splits}
        return sorted(distinct.values(), key=self._model_s)

    def _model_s(self, split: Split) -> float:
        """The step by the chain model: steady state, and once through for fill and drain."""
        table = self._problem
        spans = [
            float(table.seconds[peer][first, end])
            for peer, (first, end) in zip(split.peers, pairwise(split.bounds), strict=True)]
        crossings = list(zip(pairwise(split.peers), split.bounds[1:-1], strict=True))
        links = [float(table.occupied[pair][end]) for pair, end in crossings]
        delays = [float(table.delayed[pair][end]) for pair, end in crossings]
        steady = (table.microbatches - 1) * max([*spans, *links])
        return steady + sum(spans) + sum(delays)

    def _ranked(self, candidates: Sequence[Split]) -> list[Split]:
        """Candidates that truly fit, by predicted step. All single peers are tried."""
        tried = [split for split in candidates if len(split.peers) == 1]
        for split in candidates:
            if len(tried) >= PREDICTED_CANDIDATES + len(self._pool):
                break
            if split not in tried:
                tried.append(split)
        fitting = [split for split in tried if not self._predict(split).shortage]
        return sorted(
            fitting, key=lambda split: (self._predict(split).step_s, len(split.peers), split.peers))

    def _predict(self, split: Split) -> Prediction:
        key = (split.peers, split.bounds)
        if key not in self._predictions:
            self._predictions[key] = predict(
                self._known, self._cut(split.bounds), [self._peers[p] for p in split.peers])
        return self._predictions[key]

    def _cut(self, bounds: tuple[int, ...]) -> tuple[Segment, ...]:
        if bounds not in self._segments:
            parts = [self._blocks.part(first, end) for first, end in pairwise(bounds)]
            job = self._known.problem.job
            self._segments[bounds] = cut(
                self._known.problem.graph, parts, job.trainable, job.kind)
        return self._segments[bounds]

    def _tighten(self, candidates: Sequence[Split]) -> bool:
        """Plan with less memory where a candidate needed more than the tables said."""
        changed = False
        for split in candidates[:PREDICTED_CANDIDATES]:
            for segment, missing in self._predict(split).shortage.items():
                peer = split.peers[segment]
                bound = self._peers[peer].memory_bytes - missing
                if bound < self._memory_bytes[peer]:
                    self._memory_bytes[peer] = bound
                    changed = True
        if changed:
            self._problem = replace(self._problem, memory_bytes=tuple(self._memory_bytes))
            self._splitter = Splitter(self._problem)
        return changed

    def _improved(self, best: Split) -> Split:
        """Add idle peers one at a time, as long as that makes the step shorter."""
        while not self._wanted:
            longer = [
                split for peer in self._idle_peers(best)
                if (split := self._with(best, peer)) and self._step_s(split) < self._step_s(best)]
            if not longer:
                break
            best = min(longer, key=self._step_s)
        return best

    def _with(self, best: Split, peer: int) -> Split | None:
        """The best plan over the same peers in the same order and one more; None if none fits."""
        key = (best.peers, peer)
        if key not in self._extended:
            count = len(best.peers) + 1
            splits = [
                split for place in range(count)
                for split in self._splitter.bottleneck(
                    (*best.peers[:place], peer, *best.peers[place:]), count)
                if len(split.peers) == count]
            splits.sort(key=self._model_s)
            fitting = (split for split in splits[:2] if not self._predict(split).shortage)
            self._extended[key] = min(fitting, key=self._step_s, default=None)
        return self._extended[key]

    def _step_s(self, split: Split) -> float:
        return self._predict(split).step_s

    def _idle_peers(self, best: Split) -> list[int]:
        return [peer for peer in self._pool if peer not in best.peers]

    def _placement(self, best: Split) -> Placement:
        prediction = self._predict(best)
        idle = tuple(
            self._idle(peer, best) for peer in range(len(self._peers)) if peer not in best.peers)
        return Placement(
            segments=prediction.segments, algorithm=ChainDp.name, step_s=prediction.step_s,
            idle=idle)

    def _idle(self, peer: int, best: Split) -> Refusal:
        """Why a peer is not in the plan."""
        subject, used = self._peers[peer], len(best.peers)
        if not self._feasible.runs_any(peer):
            return self._feasible.refusal(peer)
        if self._wanted:
            return Refusal(
                subject=subject.peer_id, rule="count", wanted=used + 1, had=used,
                text=f"The job asks for exactly {used} peer{'' if used == 1 else 's'}; "
                "others suit it better.")
        if peer not in self._pool:
            return Refusal(
                subject=subject.peer_id, rule="count", wanted=len(self._pool) + 1,
                had=len(self._pool),
                text=f"Only the {len(self._pool)} most promising peers were considered.")
        if used == self._ranges.count:
            return Refusal(
                subject=subject.peer_id, rule="count", wanted=used + 1, had=used,
                text=f"The graph cannot be cut into more than {used} segments.")
        longer = self._with(best, peer)
        if longer is None:
            needed = self._least_bytes()
            if needed <= subject.memory_bytes and not self._runnable[peer].all():
                return self._feasible.refusal(peer)
            return Refusal(
                subject=subject.peer_id, rule="memory", wanted=needed, had=subject.memory_bytes,
                text=f"Beside the chosen peers nothing fits into its {subject.memory_bytes} "
                f"bytes; the smallest part of the graph takes {needed}, more in a pipeline.")
        return Refusal(
            subject=subject.peer_id, rule="slower", wanted=self._step_s(best),
            had=self._step_s(longer),
            text=f"With it a step would take {self._step_s(longer):.4g} s instead of "
            f"{self._step_s(best):.4g} s.")

    def _least_bytes(self) -> int:
        """Memory of the smallest single block."""
        n = self._ranges.count
        table = self._ranges.fixed + self._ranges.per_microbatch
        return int(min(table[i, i + 1] for i in range(n)))

    def _nearest(self) -> Placement | Infeasible:
        """The split with the fewest bytes missing: what to add, and where."""
        splits = [
            split for order in self._orders
            for split in self._splitter.shortage(order, self._most()) if self._wants(split)]
        if not splits:
            return Infeasible(
                refusals=(self._no_cut(), *self._feasible.disconnected()), missing_bytes=0)
        nearest = min(splits, key=lambda split: (split.value, len(split.peers)))
        shortage = self._predict(nearest).shortage
        if not shortage:
            return self._placement(nearest)
        refusals = [
            _memory_refusal(self._peers[nearest.peers[segment]], segment, missing)
            for segment, missing in sorted(shortage.items())]
        missing_bytes = sum(shortage.values())
        whole = int(self._ranges.fixed[0, -1] + self._ranges.per_microbatch[0, -1])
        offered = sum(self._peers[peer].memory_bytes for peer in self._pool)
        refusals.append(Refusal(
            subject=self._known.problem.job.name, rule="memory", wanted=whole, had=offered,
            text=f"The job takes {whole} bytes on one peer, more when cut; the peers offer "
            f"{offered} bytes together. {missing_bytes} bytes are missing."))
        return Infeasible(refusals=tuple(refusals), missing_bytes=missing_bytes)

    def _no_cut(self) -> Refusal:
        """Every node can be run, but not in so many segments."""
        wanted, had = self._wanted or len(self._pool), len(self._cover or ())
        return Refusal(
            subject=self._known.problem.job.name, rule="count", wanted=wanted, had=had,
            text=f"No cut into exactly {wanted} segments gives each peer only what its executor "
            f"can run; one into {had} does.")

    def _split_problem(self) -> SplitProblem:
        occupied, delayed = _link_tables(self._known, self._peers, self._pool, self._ranges)
        nothing = np.zeros((0, 0))
        return SplitProblem(
            ranges=self._ranges,
            seconds=[
                np.where(runnable_ranges(self._runnable[number]), range_seconds(
                    self._blocks, self._known.seconds[peer.peer_id]), np.inf)
                if number in self._pool else nothing
                for number, peer in enumerate(self._peers)],
            occupied=occupied, delayed=delayed, memory_bytes=tuple(self._memory_bytes),
            microbatches=self._known.problem.job.flow)


def _memory_refusal(peer: PeerResources, segment: int, missing: int) -> Refusal:
    wanted = peer.memory_bytes + missing
    return Refusal(
        subject=peer.peer_id, rule="memory", wanted=wanted, had=peer.memory_bytes,
        text=f"Segment {segment} of the nearest plan takes {wanted} bytes; the peer offers "
        f"{peer.memory_bytes}, {missing} too few.")


def _blocks(known: Estimate, pool: Sequence[int], breaks: frozenset[int]) -> Blocks:
    """Blocks by the mean of the peers' times."""
    peers = known.problem.cluster.peers
    typical = np.mean([known.seconds[peers[number].peer_id] for number in pool], axis=0)
    return coarsen(known.costs, typical, known.training, breaks=breaks)


def _link_tables(
    known: Estimate, peers: Sequence[PeerResources], pool: Iterable[int], tables: Ranges
) -> tuple[dict[tuple[int, int], FloatArray], dict[tuple[int, int], FloatArray]]:
    occupied: dict[tuple[int, int], FloatArray] = {}
    delayed: dict[tuple[int, int], FloatArray] = {}
    for pair in permutations(pool, 2):
        source, target = (peers[number].peer_id for number in pair)
        there, back = known.links.between(source, target), known.links.between(target, source)
        forward_s = tables.live_forward / there.bandwidth_bytes_per_s
        backward_s = tables.live_backward / back.bandwidth_bytes_per_s
        occupied[pair] = np.maximum(forward_s, backward_s)
        delayed[pair] = forward_s + backward_s + there.latency_s + back.latency_s
    return occupied, delayed
