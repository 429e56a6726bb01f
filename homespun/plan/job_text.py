"""A job's plan as plain data for JSON, and as text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dag.placement import Infeasible, Refusal
from homespun.cli.output import print_table, printable
from homespun.plan.job_plan import Alone, JobPlan, step_window_s
from homespun.plan.svg import seconds
from homespun.units import format_size
from ir.graph import INFER

Labels = Mapping[str, str]
"""Peer id -> what people call it."""


def plan_value(
    plan: JobPlan, labels: Labels, alone: Alone | None, own: Alone | None, seconds_to_plan: float
) -> dict[str, Any]:
    """The fields of `job_plan`; see docs/plan.md."""
    placement, job = plan.placement, plan.problem.job
    rows = job.training.batch_size
    return {
        "kind": job.kind, "algorithm": placement.algorithm, "seconds_to_plan": seconds_to_plan,
        "batch_size": rows, "microbatches": job.training.microbatches,
        "step_s": plan.prediction.step_s,
        "steps_per_s": _per_s(plan.prediction.step_s),
        "steps_per_s_range": [_per_s(plan.slow_step_s), _per_s(plan.fast_step_s)],
        "samples_per_s": rows * _per_s(plan.prediction.step_s),
        "bubble": plan.prediction.timeline.bubble,
        "limited_by": plan.limited_by,
        "peers": [_peer_value(plan, number, labels) for number in range(len(plan.peers))],
        "links": [
            {"source": line.source, "target": line.target, "bytes_per_step": line.step_bytes,
             "seconds_per_step": line.step_s, "measured": line.measured}
            for line in plan.traffic],
        "idle": [_refusal_value(refusal, labels) for refusal in placement.idle],
        "best_single_peer": _alone_value(alone, labels),
        "own_machine": _alone_value(own, labels),
        "candidates": [
            {"algorithm": candidate.algorithm, "step_s": candidate.step_s,
             "reason": candidate.reason or None}
            for candidate in placement.candidates],
    }


def infeasible_value(
    answer: Infeasible, labels: Labels, alone: Alone | None, own: Alone | None
) -> dict[str, Any]:
    """The same where nothing is feasible: what is missing."""
    return {
        "peers": None, "missing_bytes": answer.missing_bytes,
        "refusals": [_refusal_value(refusal, labels) for refusal in answer.refusals],
        "best_single_peer": _alone_value(alone, labels), "own_machine": _alone_value(own, labels)}


def print_plan(
    plan: JobPlan, labels: Labels, alone: Alone | None, own: Alone | None, seconds_to_plan: float
) -> None:
    """Write a plan for a person."""
    import click

    value = plan_value(plan, labels, alone, own, seconds_to_plan)
    what = "microbatches" if plan.problem.job.kind == INFER else "steps"
    low, high = value["steps_per_s_range"]
    click.echo(
        f"{_rate(value['steps_per_s'])} {what}/s ({_rate(low)} to {_rate(high)}), "
        f"{_rate(value['samples_per_s'])} samples/s, by {value['algorithm']}, planned in "
        f"{seconds_to_plan:.2f} s")
    click.echo(f"limited by {_named(plan.limited_by, labels)}")
    print_table(
        ("segment", "peer", "executor", "nodes", "memory", "of", "forward", "backward", "flight",
         "busy"),
        [(peer["segment"], peer["name"], peer["executor"], peer["nodes"],
          format_size(peer["memory_bytes"]), format_size(peer["of_bytes"]),
          seconds(peer["forward_s"]), seconds(peer["backward_s"]), peer["in_flight"],
          f"{100 * peer['busy']:.0f} %") for peer in value["peers"]])
    if plan.traffic:
        print_table(("from", "to", f"a {what[:-1] if what == 'steps' else 'microbatch'}",
                     "occupies", "link"), [
            (labels.get(line.source, line.source), labels.get(line.target, line.target),
             format_size(line.step_bytes), seconds(line.step_s),
             "measured" if line.measured else "assumed") for line in plan.traffic])
    for label, other in (("best single peer", alone), ("your own machine", own)):
        _print_alone(label, other, plan.prediction.step_s, labels)
    for candidate in value["candidates"]:
        if candidate["reason"]:
            step = "" if candidate["step_s"] is None else f", {seconds(candidate['step_s'])} a step"
            click.echo(f"not {candidate['algorithm']}{step}: "
                       f"{printable(_named(candidate['reason'], labels))}")
    for refusal in plan.placement.idle:
        click.echo(f"idle: {_said(refusal, labels)}")


def print_infeasible(
    answer: Infeasible, labels: Labels, alone: Alone | None, own: Alone | None
) -> None:
    """Write for a person why there is no plan."""
    import click

    click.echo("The job fits on no set of these peers.")
    if answer.missing_bytes:
        click.echo(f"{answer.missing_bytes} bytes of device memory are missing "
                   f"({format_size(answer.missing_bytes)}).")
    for refusal in answer.refusals:
        click.echo(_said(refusal, labels))
    for label, other in (("best single peer", alone), ("your own machine", own)):
        _print_alone(label, other, None, labels)


def _print_alone(label: str, alone: Alone | None, step_s: float | None, labels: Labels) -> None:
    import click

    if alone is None:
        if label.startswith("your"):
            click.echo(f"{label}: not measured; peer rates measures it")
        return
    name = printable(labels.get(alone.peer.peer_id, ""))
    name = f" ({name})" if name and not label.startswith("your") else ""
    if alone.step_s is None:
        click.echo(f"{label}{name}: cannot run it. {printable(_named(alone.text, labels))}")
        return
    times = "" if not step_s else f", {alone.step_s / step_s:.2f} x as long as planned"
    click.echo(f"{label}{name}: {_rate(_per_s(alone.step_s))} steps/s, "
               f"{seconds(alone.step_s)} a step{times}")


def _peer_value(plan: JobPlan, number: int, labels: Labels) -> dict[str, Any]:
    peer, placed = plan.peers[number], plan.prediction.segments[number]
    window_s = step_window_s(plan.problem, plan.prediction)
    busy_s = plan.prediction.timeline.busy_s[number]
    return {
        "segment": number, "peer_id": peer.peer_id,
        "name": labels.get(peer.peer_id, peer.peer_id), "executor": peer.executor,
        "nodes": len(placed.segment.nodes), "parameters": len(placed.segment.parameters),
        "memory_bytes": placed.memory_bytes, "of_bytes": peer.memory_bytes,
        "forward_s": placed.forward_s, "backward_s": placed.backward_s,
        "in_flight": placed.in_flight, "busy": busy_s / window_s if window_s > 0 else 1.0}


def _refusal_value(refusal: Refusal, labels: Labels) -> dict[str, Any]:
    return {
        "subject": refusal.subject, "name": labels.get(refusal.subject, ""),
        "rule": refusal.rule, "wanted": refusal.wanted, "had": refusal.had, "text": refusal.text,
        "node": refusal.node}


def _alone_value(alone: Alone | None, labels: Labels) -> dict[str, Any] | None:
    if alone is None:
        return None
    return {
        "peer_id": alone.peer.peer_id, "name": labels.get(alone.peer.peer_id, ""),
        "step_s": alone.step_s, "steps_per_s": None if alone.step_s is None else _per_s(
            alone.step_s), "reason": alone.text or None}


def _said(refusal: Refusal, labels: Labels) -> str:
    name = labels.get(refusal.subject, "")
    text = _named(refusal.text, labels)
    return printable(text if not name or name in text else f"{name}: {text}")


def _named(text: str, labels: Labels) -> str:
    """A sentence with peers' names in place of their ids; longer ids first."""
    for peer_id in sorted(labels, key=lambda one: (-len(one), one)):
        if labels[peer_id] != peer_id:
            text = text.replace(peer_id, labels[peer_id])
    return text


def _per_s(step_s: float) -> float:
    return 1.0 / step_s if step_s > 0 else 0.0


def _rate(value: float) -> str:
    return f"{value:.3g}" if value < 1000 else f"{value:.0f}"
