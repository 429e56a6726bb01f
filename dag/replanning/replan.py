"""Change a running mapping as little as pays: a device joined or left, a link became slower.

What cannot stay goes where most passes are made within the horizon. Anything else moves only if
more passes are made than by that repair alone, so what is proposed pays for itself within the
horizon (`dag.replanning.payback`). Candidates are blocks of nodes that are together now, of several
sizes, and mappings that the caller has planned from nothing. At the end moves that gain nothing are
taken back.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from dag.mapping.judge import fits
from dag.mapping.problem import LATENCY, BoolArray, Mapping, MappingProblem, Unmapped
from dag.placement import Refusal
from dag.placers.balance import balance
from dag.placers.heft import heft
from dag.replanning.payback import Scales, Weighed, payback_seconds, pays
from dag.replanning.repair import forced_nodes, repaired
from dag.replanning.state_moves import Running, Traffic, listed, moved, renamed

TRIALS = 200
"""Mappings weighed to improve on the repair; half as many to place what must move, and a quarter
to take moves back of each better mapping."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """One node goes elsewhere.

    Attributes:
        node: number.
        source: device where it ran, or -1.
        target: device where it shall run.
        forced: whether it could not stay.
    """

    node: int
    source: int
    target: int
    forced: bool


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Replan:
    """A proposal; without moves it says that staying is best.

    Attributes:
        mapping: where nodes run then.
        moves: nodes that move, by number.
        traffic: their state, by ordered pair of devices.
        stay_s: the objective if only what must move does.
        value_s: the objective of `mapping`.
        stay_move_s: transfers of what must move.
        move_s: transfers of all that moves.
        payback_s: when more passes will have been made than by forced moves alone; 0 if nothing
            else moves.
        reasons: rules `forced` (nodes that cannot stay: 0, their number), `gain` (moves pay:
            horizon, payback, in seconds), `payback` (a better mapping that would not pay: the
            same), `best` (no better mapping was found: seconds a pass, twice).
    """

    mapping: Mapping
    moves: tuple[Move, ...]
    traffic: tuple[Traffic, ...]
    stay_s: float
    value_s: float
    stay_move_s: float
    move_s: float
    payback_s: float
    reasons: tuple[Refusal, ...]

    @property
    def gain_s(self) -> float:
        """Seconds a pass that the moves which are not forced save."""
        return self.stay_s - self.value_s


def replan(
    problem: MappingProblem, running: Running, horizon_s: float, fresh: Sequence[Mapping] = (),
) -> Replan | Unmapped:
    """Propose moves that pay within a horizon.

    Args:
        problem: as it is now.
        running: the present mapping and where its state is.
        horizon_s: how long the gain counts, in seconds, >= 0.
        fresh: mappings planned from nothing, to move to as far as it pays.

    Cost: about 2 * `TRIALS` evaluations by the judge, each O(edges log edges).
    """
    forced = forced_nodes(problem, running.device)
    scales = Scales(problem, running, horizon_s)
    base = _repair(scales, forced)
    if isinstance(base, Unmapped):
        return base
    scales.unpaid = None
    anywhere = np.ones(problem.graph.nodes, dtype=np.bool_)
    others = [scales.improved(base, anywhere, base.device, TRIALS)]
    for mapping in (_planned(problem), *fresh):
        if isinstance(mapping, Mapping) and not forced_nodes(problem, mapping.device).any():
            others += [scales.weigh(mapping.device, mapping.start_s),
                       scales.weigh(renamed(problem, running, mapping.device))]
    better = [scales.pruned(other, base, TRIALS // 4) for other in others]
    best = max([base, *better], key=lambda found: found.passes)
    return _proposal(scales, base, best if pays(best, base) else base, forced)


def _repair(scales: Scales, forced: BoolArray) -> Weighed | Unmapped:
    """Only forced nodes moved, where memory allows that."""
    problem, running = scales.problem, scales.running
    start = repaired(problem, running.device, forced)
    if isinstance(start, Unmapped):
        return start
    if not forced.any():
        return scales.weigh(start, running.start_s)
    base = scales.weigh(start)
    stays = np.where(forced, problem.graph.pin, start)
    around = _planned(replace(problem, graph=replace(problem.graph, pin=stays)))
    if isinstance(around, Mapping) and fits(problem, around.device):
        planned = scales.weigh(around.device, around.start_s)
        base = max(base, planned, key=lambda found: found.smooth)
    return scales.improved(base, forced, running.device, TRIALS // 2)


def _planned(problem: MappingProblem) -> Mapping | Unmapped:
    """A quick plan, for nodes that are not pinned."""
    return heft(problem) if problem.objective == LATENCY else balance(problem)


def _proposal(scales: Scales, base: Weighed, best: Weighed, forced: BoolArray) -> Replan:
    running = scales.running
    device = best.device
    name = "stay" if bool((device == running.device).all()) else "replan"
    return Replan(
        mapping=Mapping(algorithm=name, device=device, start_s=best.start_s),
        moves=tuple(
            Move(node=node, source=int(running.device[node]), target=int(device[node]),
                 forced=bool(forced[node]))
            for node in np.flatnonzero(device != running.device).tolist()),
        traffic=listed(moved(running, scales.problem.devices, device, scales.nearest)),
        stay_s=base.value_s, value_s=best.value_s, stay_move_s=base.move_s, move_s=best.move_s,
        payback_s=payback_seconds(best, base) if best is not base else 0.0,
        reasons=(*_forced(forced), _optional(scales, base, best)))


def _forced(forced: BoolArray) -> tuple[Refusal, ...]:
    count = int(forced.sum())
    if not count:
        return ()
    return (Refusal(
        subject="stay", rule="forced", wanted=0.0, had=float(count),
        text=f"{count} nodes cannot stay: their device left, cannot run them or has too little "
             "memory."),)


def _optional(scales: Scales, base: Weighed, best: Weighed) -> Refusal:
    """Why nodes move that could stay, or why none does."""
    horizon_s = scales.horizon_s
    if best is not base:
        payback_s = payback_seconds(best, base)
        return Refusal(
            subject="stay", rule="gain", wanted=horizon_s, had=payback_s,
            text=f"Moving lowers a pass from {base.value_s:.4g} s to {best.value_s:.4g} s and pays "
                 f"after {payback_s:.4g} s, within the horizon of {horizon_s:.4g} s.")
    unpaid = scales.unpaid
    if unpaid is None:
        return Refusal(
            subject="move", rule="best", wanted=base.value_s, had=base.value_s,
            text=f"No mapping better than {base.value_s:.4g} s a pass was found.")
    payback_s = payback_seconds(unpaid, base)
    return Refusal(
        subject="move", rule="payback", wanted=horizon_s, had=payback_s,
        text=f"The best other mapping takes {unpaid.value_s:.4g} s a pass instead of "
             f"{base.value_s:.4g} s and {unpaid.move_s:.4g} s to move to, so it would pay after "
             f"{payback_s:.4g} s, beyond the horizon of {horizon_s:.4g} s.")
