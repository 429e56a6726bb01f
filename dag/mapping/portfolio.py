"""The best mapping that a budget buys: run every placer, improve the best, say why the others lost.

No single algorithm wins everywhere: list scheduling wins where links are fast, one device where
they are slow, partitioning where batches flow. All are judged alike, so the answer is never worse
than any of them, nor than the best device alone. Budgets count work, not time: the same problem
gets the same answer on every machine.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from dag.mapping.anneal_latency import anneal_latency
from dag.mapping.anneal_throughput import anneal_throughput
from dag.mapping.judge import fits, makespan, value
from dag.mapping.problem import LATENCY, Mapping, MappingProblem, Unmapped
from dag.mapping.shortage import shortages
from dag.mapping.verify import verify
from dag.placers.heft import heft, ranked, upward_rank
from dag.placers.packing import packing

MappingPlacer = Callable[[MappingProblem], Mapping | Unmapped]

EFFORTS = {"quick": 0.1, "normal": 1.0, "thorough": 10.0}
"""Share of the normal budget of local search."""
VISITS_PER_ELEMENT = 60_000
"""Normal budget for each node and edge, within bounds; one visit is about 10 ns."""
VISITS_MIN, VISITS_MAX = 2_000_000, 200_000_000
STARTS = 4
"""Different mappings that local search begins with."""
EXPLORING = 0.4
"""Share of the budget for all of them; the rest goes to the best of what came out."""


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
    """

    best: Mapping | None
    value_s: float | None
    candidates: tuple[Candidate, ...]
    single: tuple[int, float] | None
    refusals: tuple[str, ...]


def best_mapping(problem: MappingProblem, effort: float = 1.0, seed: int = 0) -> Report:
    """Solve a mapping problem.

    Args:
        problem: with a table of nodes and devices that fits into memory.
        effort: share of the normal budget of local search, >= 0.
        seed: of local search.

    Cost: O(nodes * devices + budget).
    """
    if refusals := shortages(problem):
        return Report(best=None, value_s=None, candidates=(), single=None, refusals=refusals)
    offers = [placer(problem) for placer in placers(problem)]
    alone = _alone(problem)
    found = [offer for offer in offers if isinstance(offer, Mapping)]
    if alone is not None:
        found.append(alone)
    sound = [mapping for mapping in found if not verify(mapping, problem)]
    values = {id(mapping): value(problem, mapping) for mapping in sound}
    sound.sort(key=lambda mapping: values[id(mapping)])
    if not sound:
        return Report(
            best=None, value_s=None, single=None, candidates=_candidates(offers, [], {}),
            refusals=("No algorithm found a mapping that fits into the devices' memory, though "
                      "it would suffice in total.",))
    best = _improved(problem, sound, alone, effort, seed)
    values[id(best)] = value(problem, best)
    if best is not sound[0]:
        sound.insert(0, best)
    return Report(
        best=best, value_s=values[id(best)], candidates=_candidates(offers, sound, values),
        single=None if alone is None else (int(alone.device[0]), values[id(alone)]), refusals=())


def placers(problem: MappingProblem) -> Sequence[MappingPlacer]:
    """The constructive algorithms that suit a problem."""
    return (heft, _heft_least, packing)


def _heft_least(problem: MappingProblem) -> Mapping | Unmapped:
    """Rank by least times and no transfers: better where most nodes stay on fast devices."""
    rank = upward_rank(problem, least=True, transfer_weight=0.0)
    return ranked(problem, rank, "heft-least")


def _alone(problem: MappingProblem) -> Mapping | None:
    """Everything on the best device that holds it."""
    seconds = problem.seconds() if problem.objective == LATENCY else problem.load_seconds()
    total = seconds.sum(axis=0)
    for device in np.argsort(total, kind="stable").tolist():
        everywhere = np.full(problem.graph.nodes, device, dtype=np.int64)
        pinned = problem.graph.pin
        if np.isfinite(total[device]) and fits(problem, everywhere) and bool(
                ((pinned < 0) | (pinned == device)).all()):
            _, starts = makespan(problem, everywhere)
            return Mapping(algorithm="single", device=everywhere, start_s=starts)
    return None


def _improved(
    problem: MappingProblem, sound: Sequence[Mapping], alone: Mapping | None, effort: float,
    seed: int,
) -> Mapping:
    """Local search from several starts, then from the best of what came out."""
    elements = problem.graph.nodes + problem.graph.edges
    budget = effort * min(VISITS_MAX, max(VISITS_MIN, VISITS_PER_ELEMENT * elements))
    starts = _distinct(sound)[:STARTS]
    if alone is not None and not any(start is alone for start in starts):
        starts.append(alone)
    search = anneal_latency if problem.objective == LATENCY else anneal_throughput
    ends = [
        search(problem, start, int(EXPLORING * budget / len(starts)), seed + number)
        for number, start in enumerate(starts)]
    best = min([sound[0], *ends], key=lambda mapping: value(problem, mapping))
    for number in (1, 2):
        further = search(
            problem, best, int((1 - EXPLORING) * budget / 2), seed + len(starts) + number)
        if further is not best:
            best = replace(further, algorithm=best.algorithm + (
                "" if best.algorithm.endswith("+anneal") else "+anneal"))
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
