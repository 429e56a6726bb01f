"""Write an answer to a mapping problem as plain data for JSON (`docs/cost-graph.md`)."""

from __future__ import annotations

from math import isfinite

import numpy as np

from dag.mapping import judge
from dag.mapping.problem import LATENCY, FloatArray, Mapping, MappingProblem
from dag.portfolio.best_mapping import Report

SCHEMA = "homespun.plan/1"


def plan_value(
    problem: MappingProblem, report: Report, seconds_to_plan: float
) -> dict[str, object]:
    """The JSON object of a plan: no number in it is infinite or NaN.

    Args:
        problem: what was asked.
        report: what was found.
        seconds_to_plan: how long that took, by the caller's clock.
    """
    best = report.best
    value: dict[str, object] = {
        "schema": SCHEMA,
        "objective": problem.objective,
        "algorithm": None if best is None else best.algorithm,
        "seconds_to_plan": seconds_to_plan,
        "predicted": None,
        "best_single_device": _single(problem, report),
        "placement": None,
        "start_s": None,
        "candidates": [
            {"algorithm": candidate.algorithm,
             "value_s": None if candidate.value_s is None else _finite(candidate.value_s),
             "feasible": candidate.feasible, "reason": candidate.reason}
            for candidate in report.candidates],
        "explanation": list(explanation(problem, report)),
    }
    return value if best is None else value | _answer(problem, best)


def explanation(problem: MappingProblem, report: Report) -> tuple[str, ...]:
    """Sentences: what one device would do, what limits, why devices idle; or what is missing."""
    if report.best is None:
        return report.refusals
    return (_alone(problem, report), *report.explanation)


def objective_name(problem: MappingProblem) -> str:
    """What is minimised, in words."""
    return "makespan" if problem.objective == LATENCY else "largest load"


def _alone(problem: MappingProblem, report: Report) -> str:
    if report.single is None or report.best is None or report.value_s is None:
        return "No single device can run the whole graph."
    what = objective_name(problem)
    number, alone_s = report.single
    name = problem.devices.ids[number]
    if (report.best.device == number).all():
        return f"Everything is on '{name}': no use of others that was tried has a lower {what}."
    times = f": {alone_s / report.value_s:.3g} times as long" if report.value_s > 0 else ""
    return (f"'{name}' alone, the best single device, has a {what} of {alone_s:.4g} s{times}.")


def _answer(problem: MappingProblem, best: Mapping) -> dict[str, object]:
    makespan_s, start_s = played(problem, best)
    peaks = judge.peak_bytes(problem, best.device)
    return {
        "predicted": {
            "makespan_s": _finite(makespan_s),
            "bottleneck_s": _finite(float(judge.loads(problem, best.device).max())),
            "peak_bytes": {
                name: _whole(peak)
                for name, peak in zip(problem.devices.ids, peaks.tolist(), strict=True)}},
        "placement": {
            node: problem.devices.ids[device]
            for node, device in zip(problem.graph.ids, best.device.tolist(), strict=True)},
        "start_s": None if problem.objective != LATENCY else dict(
            zip(problem.graph.ids, start_s.tolist(), strict=True)),
    }


def played(problem: MappingProblem, mapping: Mapping) -> tuple[float, FloatArray]:
    """Makespan and start times of a mapping's nodes in its own order, or for throughput in any."""
    order = (judge.running_order(problem, mapping.device, mapping.start_s)
             if problem.objective == LATENCY else None)
    return judge.makespan(problem, mapping.device, order)


def _single(problem: MappingProblem, report: Report) -> dict[str, object] | None:
    if report.single is None:
        return None
    number, _ = report.single
    device = np.full(problem.graph.nodes, number, dtype=np.int64)
    return {
        "device": problem.devices.ids[number],
        "makespan_s": _finite(judge.makespan(problem, device)[0]),
        "bottleneck_s": _finite(float(judge.loads(problem, device).max())),
    }


def _finite(value: float) -> float | None:
    return float(value) if isfinite(value) else None


def _whole(value: float) -> int | float:
    return int(value) if value.is_integer() else value
