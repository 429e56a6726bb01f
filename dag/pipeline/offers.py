"""What the algorithms offered for a job, and why each offer but one lost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from dag.pipeline.trials import Pipeline, Trials
from dag.placement import Candidate, Infeasible, Placement

BY_BRANCH = "split-by-branch"

Offer = tuple[str, Pipeline | None, str]
"""An algorithm, its pipeline, and why it has none."""


def told(best: Pipeline, offers: Sequence[Offer], trials: Trials) -> tuple[Candidate, ...]:
    """Offers as candidates, the plan's first, then by step.

    Of several algorithms that found the plan the last in the list gives its name to it.
    """
    made = []
    best_s = trials.step_s(best)
    for algorithm, pipeline, reason in offers:
        step_s = None if pipeline is None else trials.step_s(pipeline)
        if step_s is not None and pipeline != best:
            reason = _lost(step_s, best_s)
        made.append(Candidate(algorithm=algorithm, step_s=step_s, reason=reason))
    winners = [candidate for candidate in made if not candidate.reason]
    losers = sorted((candidate for candidate in made if candidate.reason), key=_rank)
    rest = [replace(candidate, reason="it found the same plan") for candidate in winners[:-1]]
    return (winners[-1], *rest, *losers)


def weighed(
    by_index: Placement | Infeasible, by_branch: Placement | Infeasible
) -> Placement | Infeasible:
    """The better plan; the offers of the one along the index are named, and the other's best."""
    if isinstance(by_branch, Infeasible):
        return by_index
    if isinstance(by_index, Infeasible):
        mine = replace(by_branch.candidates[0], algorithm=BY_BRANCH)
        return replace(
            by_branch, algorithm=BY_BRANCH, candidates=(mine, *by_branch.candidates[1:]))
    step_s = min(by_index.step_s, by_branch.step_s)
    offered = Candidate(algorithm=BY_BRANCH, step_s=by_branch.step_s, reason="")
    if by_branch.step_s < by_index.step_s:
        found, first, others = by_branch, offered, by_index.candidates
    else:
        found, (first, *rest) = by_index, by_index.candidates
        others = (*rest, offered)
    lost = sorted(
        (candidate if candidate.step_s in (None, step_s) and candidate.reason
         else replace(candidate, reason=_lost(candidate.step_s, step_s))
         for candidate in others),
        key=_rank)
    return replace(found, algorithm=first.algorithm, candidates=(first, *lost))


def _lost(step_s: float | None, best_s: float) -> str:
    assert step_s is not None, "what has no step has its reason already"
    longer = 100.0 * (step_s / best_s - 1.0)
    return f"its step is {longer:.3g} % longer" if longer > 0 else "as fast with no fewer peers"


def _rank(candidate: Candidate) -> tuple[bool, float]:
    return candidate.step_s is None, candidate.step_s or 0.0
