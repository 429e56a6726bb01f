"""The best mapping that a budget buys: run every placer, improve the best, say why the others lost.

No single algorithm wins everywhere: list scheduling wins where links are fast, one device where
they are slow, partitioning where batches flow. All are judged alike, so the answer is never worse
than any of them, nor than the best device alone. Budgets count work, not time: the same problem
gets the same answer on every machine.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import cycle
from math import sqrt

from dag.mapping.anneal_latency import anneal_latency
from dag.mapping.anneal_throughput import anneal_throughput
from dag.mapping.explain import explanation
from dag.mapping.judge import value
from dag.mapping.problem import (
    LATENCY,
    Mapping,
    MappingPlacer,
    MappingProblem,
    Unmapped,
)
from dag.mapping.shortage import shortages
from dag.mapping.verify import verify
from dag.placers.balance import balance
from dag.placers.bounds import lower_bound
from dag.placers.branch import branch
from dag.placers.etf import m_etf
from dag.placers.heft import heft, ranked, upward_rank
from dag.placers.ideals import ideals
from dag.placers.packing import packing
from dag.placers.packing_search import packing_search
from dag.placers.pipedream import pipedream
from dag.placers.sct import m_sct
from dag.placers.topo import m_topo
from dag.portfolio.large import best_single, plan_large

EFFORTS = {"quick": 0.1, "normal": 1.0, "thorough": 10.0}
"""Share of the normal budget of local search."""
VISITS_PER_ELEMENT = 200_000
"""Normal budget for each node and edge, within bounds; one visit is about 10 ns."""
VISITS_MIN, VISITS_MAX = 2_000_000, 200_000_000
NODES_MAX, DEVICES_MAX = 3000, 64
"""Searched directly; larger problems are coarsened and restricted first."""
LARGE_SHARE = 0.5
"""Of the effort for a coarse graph: refinement follows, and the fine graph has to be read, too."""
NO_ROOM = ("No algorithm found a mapping that fits into the devices' memory, though it would "
           "suffice in total.",)
PROVEN = 1e-9
"""So close to a lower bound is equal to it: both are sums that round."""
STARTS = 4
"""Different mappings that local search begins with."""
EXPLORING = 0.5
"""Share of the budget for all of them; the rest goes to the best of what came out."""
HOT, WARM, COOL = 0.5, 0.1, 0.02
"""Temperatures of local search over the square root of the nodes: one node is a large part of a
small problem, and leaving a trap costs as much."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """What one algorithm offered.

    Attributes:
        algorithm: its name.
        value_s: the objective, seconds; None if it found nothing.
        feasible: whether it found a mapping.
        reason: why it found none or is not the answer; None for the answer itself.
    """

    algorithm: str
    value_s: float | None
    feasible: bool
    reason: str | None


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Report:
    """The answer to a mapping problem.

    Attributes:
        best: the mapping; None if nothing is feasible.
        value_s: its objective, seconds; None likewise.
        candidates: every algorithm's offer, the best first.
        single: position of the best device alone and its value; None if no device holds all.
        refusals: why nothing is feasible, a sentence each; empty if something is.
        explanation: what limits the answer, and why devices are idle; a sentence each.
    """

    best: Mapping | None
    value_s: float | None
    candidates: tuple[Candidate, ...]
    single: tuple[int, float] | None
    refusals: tuple[str, ...]
    explanation: tuple[str, ...] = ()


def best_mapping(problem: MappingProblem, effort: float = 1.0, seed: int = 0) -> Report:
    """Solve a mapping problem of any size.

    Args:
        problem: the problem.
        effort: share of the normal budget of local search, >= 0.
        seed: of local search.

    Cost: O(nodes * devices + budget) up to `NODES_MAX` nodes and `DEVICES_MAX` devices; beyond
    them that of `dag.portfolio.large.plan_large`.
    """
    if refusals := shortages(problem):
        return _nothing(refusals)
    is_small = problem.graph.nodes <= NODES_MAX and problem.devices.count <= DEVICES_MAX
    if is_small:
        return _report(problem, *_searched(problem, effort, seed))

    def inner(part: MappingProblem) -> Mapping | Unmapped:
        best = _searched(part, LARGE_SHARE * effort, seed)[2]
        return best or Unmapped(algorithm="portfolio", reason=NO_ROOM[0])

    offers = [plan_large(problem, inner), best_single(problem)]
    return _report(problem, offers, _sound(problem, offers), None)


def _searched(
    problem: MappingProblem, effort: float, seed: int
) -> tuple[list[Mapping | Unmapped], list[Mapping], Mapping | None]:
    """What every algorithm offers, what of it is sound, and what local search makes of the best."""
    alone = best_single(problem)
    offers = [*(placer(problem) for placer in placers(problem)), alone]
    sound = _sound(problem, offers)
    if not sound:
        offers.insert(0, packing_search(problem))
        sound = _sound(problem, offers)
    best = _improved(problem, sound, alone, effort, seed) if sound else None
    return offers, sound, best


def _report(
    problem: MappingProblem, offers: Sequence[Mapping | Unmapped], sound: Sequence[Mapping],
    best: Mapping | None,
) -> Report:
    """Judge all offers, the last of which is the best device alone.

    The answer is `best` or the first of those that are sound.
    """
    if best is not None and not any(best is offer for offer in sound):
        sound = [best, *sound]
    values = {id(mapping): value(problem, mapping) for mapping in sound}
    candidates = _candidates(offers, sound, values)
    if not sound:
        return replace(_nothing(NO_ROOM), candidates=candidates)
    alone = [offer for offer in sound if offer is offers[-1]]
    return Report(
        best=sound[0], value_s=values[id(sound[0])], candidates=candidates,
        single=(int(alone[0].device[0]), values[id(alone[0])]) if alone else None,
        refusals=(), explanation=explanation(problem, sound[0]))


def _nothing(refusals: tuple[str, ...]) -> Report:
    return Report(best=None, value_s=None, candidates=(), single=None, refusals=refusals)


def _sound(problem: MappingProblem, offers: Sequence[Mapping | Unmapped]) -> list[Mapping]:
    """Mappings that pass verification, the best first."""
    sound = [
        offer for offer in offers if isinstance(offer, Mapping) and not verify(offer, problem)]
    return sorted(sound, key=lambda mapping: value(problem, mapping))


def placers(problem: MappingProblem) -> Sequence[MappingPlacer]:
    """The constructive algorithms that suit a problem."""
    shared = (m_topo, m_etf, m_sct, heft, _heft_least, pipedream, packing)
    return shared if problem.objective == LATENCY else (*shared, ideals, balance, branch)


def _heft_least(problem: MappingProblem) -> Mapping | Unmapped:
    """Rank by least times and no transfers: better where most nodes stay on fast devices."""
    rank = upward_rank(problem, least=True, transfer_weight=0.0)
    return ranked(problem, rank, "heft-least")


def _improved(
    problem: MappingProblem, sound: Sequence[Mapping], alone: Mapping | Unmapped, effort: float,
    seed: int,
) -> Mapping:
    """Local search from several starts, then from the best of what came out.

    None where the best offer is as good as any mapping can be.
    """
    if value(problem, sound[0]) <= lower_bound(problem) * (1 + PROVEN):
        return sound[0]
    elements = problem.graph.nodes + problem.graph.edges
    budget = effort * min(VISITS_MAX, max(VISITS_MIN, VISITS_PER_ELEMENT * elements))
    starts = _distinct(sound)[:STARTS]
    if isinstance(alone, Mapping) and not any(start is alone for start in starts):
        starts.append(alone)
    hot, warm, cool = (heat / sqrt(problem.graph.nodes) for heat in (HOT, WARM, COOL))
    search = anneal_latency if problem.objective == LATENCY else anneal_throughput
    ends = [
        search(problem, start, int(EXPLORING * budget / len(starts)), seed + number, heat)
        for number, (start, heat) in enumerate(zip(starts, cycle((hot, warm)), strict=False))]
    best = min([sound[0], *ends], key=lambda mapping: value(problem, mapping))
    for number, heat in enumerate((hot, warm, cool)):
        further = search(
            problem, best, int((1 - EXPLORING) * budget / 3), seed + STARTS + number, heat)
        if further is not best:
            best = replace(further, algorithm=f"{best.algorithm.removesuffix('+anneal')}+anneal")
    return best


def _distinct(mappings: Sequence[Mapping]) -> list[Mapping]:
    """Those that put some node elsewhere than all before them."""
    different = {mapping.device.tobytes(): mapping for mapping in reversed(mappings)}
    return [mapping for mapping in mappings if different[mapping.device.tobytes()] is mapping]


def _candidates(
    offers: Sequence[Mapping | Unmapped], sound: Sequence[Mapping], values: dict[int, float]
) -> tuple[Candidate, ...]:
    made = []
    best_s = values[id(sound[0])] if sound else 0.0
    for mapping in sound:
        value_s = values[id(mapping)]
        longer = 100.0 * (value_s / best_s - 1.0) if best_s > 0 else 0.0
        reason = None if mapping is sound[0] else (
            f"{longer:.3g} % longer than the answer" if longer > 0 else "as good as the answer")
        made.append(Candidate(
            algorithm=mapping.algorithm, value_s=value_s, feasible=True, reason=reason))
    for offer in offers:
        if isinstance(offer, Unmapped):
            made.append(Candidate(
                algorithm=offer.algorithm, value_s=None, feasible=False, reason=offer.reason))
        elif id(offer) not in values:
            made.append(Candidate(
                algorithm=offer.algorithm, value_s=None, feasible=False,
                reason="its mapping did not pass verification"))
    return tuple(made)
