"""Draw a job's plan: each peer's segment, and its microbatches along a step."""

from __future__ import annotations

from collections.abc import Mapping

from dag.predict import task_spans_of
from dag.schedule import SIMULATED_MICROBATCHES
from homespun.plan.bars import LEFT, RIGHT, WIDTH, Bar, Row, chart_height, draw_chart
from homespun.plan.job_plan import JobPlan
from homespun.plan.svg import Drawing, colour, seconds
from homespun.units import format_size
from ir.graph import INFER

HEAD = 84.0


def job_picture(plan: JobPlan, labels: Mapping[str, str]) -> str:
    """SVG of a plan: a strip of segments by their work, and the timeline of their tasks."""
    placed = plan.prediction.segments
    names = [labels.get(peer.peer_id, peer.peer_id) for peer in plan.peers]
    rows = _rows(plan, names)
    what = "microbatch" if plan.problem.job.kind == INFER else "step"
    title = (f"{len(placed)} segments on {len(plan.problem.cluster.peers)} peers by "
             f"{plan.placement.algorithm}: {seconds(plan.prediction.step_s)} a {what}")
    drawing = Drawing(
        WIDTH, HEAD + chart_height(len(rows)), title,
        "; ".join(f"{row.name}: {row.remark}" for row in rows))
    drawing.text(16, 24, title, size=14)
    _strip(drawing, plan, names)
    end_s = max((bar.end_s for row in rows for bar in row.bars), default=0.0)
    flow = plan.problem.job.flow
    shown = min(flow, SIMULATED_MICROBATCHES)
    heading = "Microbatches along the pipeline: forward full, backward faint"
    if shown < flow:
        heading += f" (the first {shown} of {flow})"
    draw_chart(drawing, HEAD, heading, rows, end_s or 1.0)
    return drawing.write()


def _rows(plan: JobPlan, names: list[str]) -> list[Row]:
    bars: list[list[Bar]] = [[] for _ in names]
    for span in task_spans_of(plan.known, plan.prediction.segments, plan.peers):
        bars[span.segment].append(Bar(
            begin_s=span.begin_s, end_s=span.end_s, fill=colour(span.segment),
            faint=span.direction != "forward",
            label=f"microbatch {span.microbatch} {span.direction}: "
            f"{seconds(span.end_s - span.begin_s)}"))
    busy = plan.prediction.timeline.busy_s
    return [
        Row(name=name, bars=bars[number], remark=f"{seconds(busy[number])} busy, "
            f"{format_size(plan.prediction.segments[number].memory_bytes)}")
        for number, name in enumerate(names)]


def _strip(drawing: Drawing, plan: JobPlan, names: list[str]) -> None:
    """Segments in order, as wide as their work on a microbatch."""
    placed = plan.prediction.segments
    work = [one.forward_s + one.backward_s for one in placed]
    whole = sum(work) or 1.0
    at, width = LEFT, WIDTH - LEFT - RIGHT
    drawing.text(LEFT - 8, 58, "segments", anchor="end")
    for number, one in enumerate(placed):
        wide = width * (work[number] / whole if sum(work) else 1 / len(placed))
        drawing.box(at, 42, wide - 0.4, 26.0, colour(number),
                    f"segment {number} on {names[number]}: {len(one.segment.nodes)} nodes, "
                    f"{len(one.segment.parameters)} parameters, "
                    f"{seconds(work[number])} a microbatch")
        if wide > 24:
            drawing.text(at + 6, 59, str(number), fill="#ffffff")
        at += wide
