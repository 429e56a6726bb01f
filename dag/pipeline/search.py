"""Plan a job: offers of several algorithms, all predicted alike, the best improved and returned.

The step of a pipeline takes about `(microbatches - 1) * bottleneck + one pass through everything`.
For each of a few orders of the peers, dynamic programming finds for every number of segments the
split with the smallest bottleneck, then the shortest pass under bounds a little above it. Balancing
a pipeline by dynamic programming is PipeDream's idea (Narayanan et al. 2019, section 3.1); we
differ: no replication, unequal peers and links, memory as a hard constraint, fill and drain
counted. Baechi's algorithms and HEFT map the same blocks; what they say is used where it makes
segments. The most promising are cut for real and predicted by `dag.predict`; local search improves
the best, then idle peers are added while that helps. Where cuts along another order of the nodes
carry clearly less, all of that is done along it, too.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from dag.cost import FloatArray
from dag.mapping.candidates import chosen_devices
from dag.mapping.problem import Mapping, MappingProblem
from dag.pipeline.block_problem import block_problem
from dag.pipeline.blocks import Blocks, coarsen
from dag.pipeline.branch_order import branch_order
from dag.pipeline.chain_model import model_seconds, split_problem
from dag.pipeline.feasible import Feasibility, covering_order
from dag.pipeline.local_search import improved
from dag.pipeline.offers import Offer, told, weighed
from dag.pipeline.peer_order import MAX_PEERS, orders, pool
from dag.pipeline.ranges import ranges
from dag.pipeline.reasons import (
    IdlePeers,
    no_cut,
    out_of_memory,
    too_few_cuts,
    too_few_peers,
)
from dag.pipeline.split import Split, Splitter
from dag.pipeline.trials import Pipeline, Trials, contiguous, mapped
from dag.placement import Infeasible, Placement, PlacementProblem
from dag.placers.etf import m_etf
from dag.placers.heft import heft
from dag.placers.sct import m_sct
from dag.placers.topo import m_topo
from dag.predict import Estimate, estimate

PREDICTED_CANDIDATES = 8
IMPROVED_STARTS = 3
"""Splits that local search begins with."""
IMPROVED_NODES = 400_000
"""Nodes of all segments that local search cuts from each start: its budget."""
SLACK_FACTORS = (1.0, 1.1, 1.5, float("inf"))
"""How far above the smallest bottleneck a split with a shorter pass may go."""
MEMORY_ROUNDS = 4
"""Searches with tightened memory after a candidate turned out larger than the tables said."""
SINGLE, SPLIT = "single", "split"
MAPPERS = (m_topo, m_etf, m_sct, heft)


def plan_pipeline(problem: PlacementProblem) -> Placement | Infeasible:
    """Plan the whole job, or say why it cannot be planned.

    Never predicts a longer step than the best single peer that holds the job (unless the job asks
    for more peers). Cost: O(orders * peers**2 * blocks**2 + candidates * nodes).
    """
    if refusal := too_few_peers(problem, len(problem.cluster.peers)):
        return Infeasible(refusals=(refusal,), missing_bytes=0)
    feasible = Feasibility(problem)
    able = [n for n in range(len(problem.cluster.peers)) if feasible.runs_any(n)]
    if refusals := feasible.impossible():
        return Infeasible(refusals=refusals, missing_bytes=0)
    if refusal := too_few_peers(problem, len(able)):
        return Infeasible(refusals=(refusal, *feasible.disconnected()), missing_bytes=0)
    known = estimate(problem)
    answer = _Search(known, feasible, able).answer()
    if feasible.changes() or (order := branch_order(known.costs)) is None:
        return answer
    return weighed(answer, _Search(known, feasible, able, order).answer())


class _Search:
    """One search; single use."""

    def __init__(
        self, known: Estimate, feasible: Feasibility, able: Sequence[int],
        order: list[int] | None = None,
    ) -> None:
        self._known = known
        self._feasible = feasible
        self._peers = known.problem.cluster.peers
        self._wanted = known.problem.job.peers
        self._blocks = _blocks(known, able, feasible.changes(), order)
        self._ranges = ranges(self._blocks, known.training)
        runnable = {peer: feasible.blocks(peer, self._blocks) for peer in able}
        self._mapping = block_problem(known, self._blocks, self._ranges, runnable)
        self._pool = self._chosen(able)
        self._runnable = {peer: runnable[peer] for peer in self._pool}
        self._cover = covering_order([self._runnable[peer] for peer in self._pool])
        self._orders = orders(
            self._peers, self._pool, _hop_seconds(self._mapping, self._ranges.live_forward),
            self._covering())
        self._memory_bytes = [peer.memory_bytes for peer in self._peers]
        self._problem = split_problem(
            known, self._blocks, self._ranges, self._runnable, self._memory_bytes)
        self._splitter = Splitter(self._problem)
        self._trials = Trials(known, self._blocks)
        self._extended: dict[tuple[Pipeline, int], Split | None] = {}

    def answer(self) -> Placement | Infeasible:
        problem = self._known.problem
        if self._wanted > self._ranges.count:
            return Infeasible(
                missing_bytes=0, refusals=(too_few_cuts(problem, self._ranges.count),))
        if self._cover is None:
            return Infeasible(refusals=self._feasible.disconnected(), missing_bytes=0)
        for _ in range(MEMORY_ROUNDS):
            splits = self._splits()
            ranked = self._ranked(splits)
            if ranked:
                return self._best(ranked)
            if not self._tighten(splits):
                break
        return self._nearest()

    def _chosen(self, able: Sequence[int]) -> tuple[int, ...]:
        """Peers to consider: all of a few; by links too, where any order of executors will do."""
        kinds = self._feasible.kinds()
        most = max(MAX_PEERS, self._wanted)
        if len(able) <= most or len({kinds[number] for number in able}) > 1:
            chosen = pool(self._peers, able, kinds, self._wanted)
        else:
            chosen = tuple(chosen_devices(self._mapping, most).devices[:most].tolist())
        return tuple(sorted({*chosen, *self._fastest_alone()}))

    def _fastest_alone(self) -> tuple[int, ...]:
        """The peer that would do the whole job fastest; none: empty. No plan may be slower."""
        needed = self._ranges.fixed[0, -1] + self._ranges.per_microbatch[0, -1]
        graph = self._mapping.graph
        seconds = np.where(
            self._mapping.devices.memory_bytes >= needed,
            (graph.compute_s + graph.backward_s).sum(axis=0), np.inf)
        fastest = int(np.argmin(seconds))
        return (fastest,) if np.isfinite(seconds[fastest]) else ()

    def _covering(self) -> tuple[int, ...]:
        """Peers in an order in which their executors can run everything; empty: any order does."""
        if self._cover is None or all(table.all() for table in self._runnable.values()):
            return ()
        return tuple(self._pool[place] for place in self._cover)

    def _most(self) -> int:
        return min(len(self._pool), self._ranges.count, self._wanted or len(self._pool))

    def _wants(self, segments: int) -> bool:
        return not self._wanted or segments == self._wanted

    def _splits(self) -> list[Split]:
        """Distinct splits, the most promising first; each peer alone is one of them."""
        most, splitter = self._most(), self._splitter
        balanced = [
            (self._model_s(split), order, split)
            for order in self._orders for split in splitter.bottleneck(order, most)
            if self._wants(len(split.peers))]
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
                    if self._wants(len(split.peers))]
        distinct = {(split.peers, split.bounds): split for split in splits}
        return sorted(distinct.values(), key=self._model_s)

    def _model_s(self, split: Split) -> float:
        return model_seconds(self._problem, split)

    def _step_s(self, split: Split) -> float:
        return self._trials.step_s(contiguous(split))

    def _ranked(self, splits: Sequence[Split]) -> list[Split]:
        """Splits that truly fit, by predicted step. All single peers are tried."""
        tried = [split for split in splits if len(split.peers) == 1]
        for split in splits:
            if len(tried) >= PREDICTED_CANDIDATES + len(self._pool):
                break
            if split not in tried:
                tried.append(split)
        fitting = [split for split in tried if self._trials.fits(contiguous(split))]
        return sorted(
            fitting, key=lambda split: (self._step_s(split), len(split.peers), split.peers))

    def _best(self, ranked: Sequence[Split]) -> Placement:
        """Improve the best splits, weigh what the mappers say, and explain."""
        most = IMPROVED_NODES // len(self._known.problem.graph.nodes)
        refined = [
            self._extended_split(improved(
                split, self._problem, self._trials, self._pool, self._wanted, most))
            for split in ranked[:IMPROVED_STARTS]]
        split = min(refined, key=self._step_s)
        # From the most elaborate to the plainest, which gives its name to what several have found.
        offers: list[Offer] = [("split+local-search", contiguous(split), "")]
        offers += self._mapped()
        offers += _firsts(ranked)
        found = [pipeline for _, pipeline, _ in offers if pipeline is not None]
        best = self._trials.fastest(found)
        assert best is not None, "the first offer fits"
        return self._placement(best, offers, split)

    def _mapped(self) -> Iterator[Offer]:
        """What the mappers make of the same blocks, as far as it makes segments."""
        source = self._mapping.graph.edge_source
        target = self._mapping.graph.edge_target
        for mapper in MAPPERS:
            mapping = mapper(self._mapping)
            if not isinstance(mapping, Mapping):
                yield mapping.algorithm, None, mapping.reason
                continue
            pipeline = mapped(mapping.device, source, target)
            if pipeline is None:
                reason = "its segments would wait for each other in a ring"
            elif not self._wants(len(pipeline.peers)):
                reason = (f"it uses {len(pipeline.peers)} peers; the job asks for exactly "
                          f"{self._wanted}")
            elif not self._trials.fits(pipeline):
                reason = "its segments do not fit into their peers' memory"
            else:
                yield mapping.algorithm, pipeline, ""
                continue
            yield mapping.algorithm, None, reason

    def _tighten(self, splits: Sequence[Split]) -> bool:
        """Plan with less memory where a candidate needed more than the tables said."""
        changed = False
        for split in splits[:PREDICTED_CANDIDATES]:
            for segment, missing in self._trials.predicted(contiguous(split)).shortage.items():
                peer = split.peers[segment]
                bound = self._peers[peer].memory_bytes - missing
                if bound < self._memory_bytes[peer]:
                    self._memory_bytes[peer] = bound
                    changed = True
        if changed:
            self._problem = replace(self._problem, memory_bytes=tuple(self._memory_bytes))
            self._splitter = Splitter(self._problem)
        return changed

    def _extended_split(self, best: Split) -> Split:
        """Add idle peers one at a time, as long as that makes the step shorter."""
        while not self._wanted:
            longer = [
                split for peer in self._pool if peer not in best.peers
                if (split := self._with(best, peer)) and self._step_s(split) < self._step_s(best)]
            if not longer:
                break
            best = min(longer, key=self._step_s)
        return best

    def _with(self, best: Split, peer: int) -> Split | None:
        """The best split over the same peers in the same order and one more; None if none fits."""
        key = (contiguous(best), peer)
        if key not in self._extended:
            count = len(best.peers) + 1
            splits = [
                split for place in range(count)
                for split in self._splitter.bottleneck(
                    (*best.peers[:place], peer, *best.peers[place:]), count)
                if len(split.peers) == count]
            splits.sort(key=self._model_s)
            fitting = (split for split in splits[:2] if self._trials.fits(contiguous(split)))
            self._extended[key] = min(fitting, key=self._step_s, default=None)
        return self._extended[key]

    def _with_peer_s(self, split: Split, peer: int) -> float | None:
        """Step of a split with a peer, which it may have already where a mapping was faster."""
        longer = split if peer in split.peers else self._with(split, peer)
        return None if longer is None else self._step_s(longer)

    def _placement(
        self, best: Pipeline, offers: Sequence[Offer], split: Split
    ) -> Placement:
        """The plan, with the reasons; `split` is the best contiguous one, to add peers to."""
        prediction = self._trials.predicted(best)
        candidates = told(best, offers, self._trials)
        idle = IdlePeers(
            self._known.problem, self._feasible, self._pool, self._ranges,
            lambda peer: self._with_peer_s(split, peer))
        return Placement(
            segments=prediction.segments, algorithm=candidates[0].algorithm,
            step_s=prediction.step_s, candidates=candidates,
            idle=tuple(
                idle.reason(
                    peer, len(best.peers), prediction.step_s,
                    bool(self._runnable[peer].all()) if peer in self._runnable else False)
                for peer in range(len(self._peers)) if peer not in best.peers))

    def _nearest(self) -> Placement | Infeasible:
        """The split with the fewest bytes missing: what to add, and where."""
        problem = self._known.problem
        splits = [
            split for order in self._orders
            for split in self._splitter.shortage(order, self._most())
            if self._wants(len(split.peers))]
        if not splits:
            refusal = no_cut(
                problem, self._wanted or len(self._pool), len(self._cover or ()))
            return Infeasible(
                refusals=(refusal, *self._feasible.disconnected()), missing_bytes=0)
        nearest = min(splits, key=lambda split: (split.value, len(split.peers)))
        shortage = self._trials.predicted(contiguous(nearest)).shortage
        if not shortage:
            found = contiguous(nearest)
            return self._placement(found, [(SPLIT, found, "")], nearest)
        missing = [
            (segment, nearest.peers[segment], size) for segment, size in sorted(shortage.items())]
        return Infeasible(
            refusals=out_of_memory(problem, self._ranges, self._pool, missing),
            missing_bytes=sum(shortage.values()))


def _firsts(ranked: Sequence[Split]) -> list[Offer]:
    """The fastest split over several peers, and the fastest single peer."""
    offers: list[Offer] = []
    for name, is_single in ((SPLIT, False), (SINGLE, True)):
        first = next(
            (split for split in ranked if (len(split.peers) == 1) == is_single), None)
        if first is not None:
            offers.append((name, contiguous(first), ""))
    return offers


def _blocks(
    known: Estimate, able: Sequence[int], breaks: frozenset[int], order: list[int] | None
) -> Blocks:
    """Blocks by the mean of the peers' times."""
    peers = known.problem.cluster.peers
    typical = np.mean([known.seconds[peers[number].peer_id] for number in able], axis=0)
    return coarsen(known.costs, typical, known.training, breaks=breaks, order=order)


def _hop_seconds(problem: MappingProblem, live_bytes: np.ndarray) -> FloatArray:
    """Time that a boundary of the median size takes there and back, [peers, peers]."""
    inner = live_bytes[1:-1]
    size = float(np.median(inner)) if len(inner) else 0.0
    one_way = problem.devices.latency_s + size / problem.devices.bandwidth_bytes_per_s
    hops: FloatArray = one_way + one_way.T
    return hops
