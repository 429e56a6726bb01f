"""Draw the plan of a cost graph: who has which node, and when each runs or how busy each is."""

from __future__ import annotations

import numpy as np

from dag.mapping import judge
from dag.mapping.problem import LATENCY, FloatArray, IntArray, Mapping, MappingProblem
from dag.portfolio.writing import played
from homespun.plan.bars import LEFT, RIGHT, WIDTH, Bar, Row, chart_height, draw_chart
from homespun.plan.svg import Drawing, colour, seconds

STRIP = 26.0
HEAD = 84.0


def graph_picture(problem: MappingProblem, mapping: Mapping) -> str:
    """SVG of a mapping: a strip of its nodes in topological order, and its devices along time."""
    load = judge.loads(problem, mapping.device)
    makespan_s, start_s = played(problem, mapping)
    latency = problem.objective == LATENCY
    end_s = makespan_s if latency else float(load.max())
    order = _by_load(load, mapping.device, problem.devices.count)
    rows = (_gantt(problem, mapping, start_s, order) if latency
            else _loads(problem, mapping, load, order))
    what = "makespan" if latency else "largest load"
    title = (f"Plan of {problem.graph.nodes} nodes on {problem.devices.count} devices by "
             f"{mapping.algorithm}: {what} {seconds(end_s)}")
    drawing = Drawing(
        WIDTH, HEAD + chart_height(len(rows)), title,
        "; ".join(f"{row.name}: {row.remark}" for row in rows))
    drawing.text(16, 24, title, size=14)
    _strip(drawing, problem, mapping)
    draw_chart(drawing, HEAD, "Each device along the pass" if latency else
               "Load of each device, for one microbatch in the steady flow", rows, end_s or 1.0)
    return drawing.write()


def _by_load(load: FloatArray, device: IntArray, count: int) -> list[int]:
    """Devices that have work, in their own order, then idle ones; of many the busiest first."""
    used = np.bincount(device, minlength=count) > 0
    busy = [number for number in range(count) if used[number]]
    if len(busy) > 32:
        busy.sort(key=lambda number: (-float(load[number]), number))
    return busy + [number for number in range(count) if not used[number]]


def _strip(drawing: Drawing, problem: MappingProblem, mapping: Mapping) -> None:
    """Nodes in topological order, as wide as their share of all work."""
    order = problem.graph.topological
    device = mapping.device[order]
    table = judge.node_seconds(problem, mapping.device)[order]
    share = table + max(float(table.sum()), 1e-30) / (20.0 * len(order))  # none is invisible
    edge = np.concatenate(([0.0], np.cumsum(share) / share.sum()))
    width = WIDTH - LEFT - RIGHT
    drawing.text(LEFT - 8, 58, "nodes", anchor="end")
    first = 0
    for end in range(1, len(order) + 1):
        if end < len(order) and _is_narrow(
                (edge[end + 1] - edge[first]) * width, device[first] == device[end]):
            continue
        where = int(np.bincount(device[first:end], weights=share[first:end]).argmax())
        name = problem.graph.ids[int(order[first])]
        more = f" and {end - first - 1} more" if end - first > 1 else ""
        mostly = "on" if (device[first:end] == where).all() else "mostly on"
        drawing.box(LEFT + width * float(edge[first]), 42,
                    width * float(edge[end] - edge[first]) - 0.4, STRIP, colour(where),
                    f"{name}{more} {mostly} {problem.devices.ids[where]}")
        first = end


def _is_narrow(pixels: float, alike: bool) -> bool:
    """Too narrow to be told apart: the next node is drawn with those before it."""
    return pixels < (4.0 if alike else 1.2)


def _gantt(
    problem: MappingProblem, mapping: Mapping, start_s: FloatArray, order: list[int]
) -> list[Row]:
    node_s = judge.node_seconds(problem, mapping.device)
    running = judge.running_order(problem, mapping.device, start_s).tolist()
    work: list[list[int]] = [[] for _ in range(problem.devices.count)]
    for node in running:
        work[int(mapping.device[node])].append(node)
    return [
        Row(name=problem.devices.ids[number],
            remark=_remark(len(work[number]), float(node_s[work[number]].sum())),
            bars=[Bar(begin_s=float(start_s[node]), end_s=float(start_s[node] + node_s[node]),
                      fill=colour(number), name=problem.graph.ids[node],
                      label=f"{problem.graph.ids[node]}: {seconds(float(node_s[node]))} from "
                      f"{seconds(float(start_s[node]))}") for node in work[number]])
        for number in order]


def _loads(
    problem: MappingProblem, mapping: Mapping, load: FloatArray, order: list[int]
) -> list[Row]:
    nodes = np.bincount(mapping.device, minlength=problem.devices.count)
    table = problem.load_seconds()[np.arange(problem.graph.nodes), mapping.device]
    compute = np.bincount(mapping.device, weights=table, minlength=problem.devices.count)
    rows = []
    for number in order:
        computing, total = float(compute[number]), float(load[number])
        bars = [Bar(begin_s=0.0, end_s=computing, fill=colour(number),
                    label=f"computing: {seconds(computing)}")]
        if total > computing * (1 + 1e-12):
            bars.append(Bar(begin_s=computing, end_s=total, fill=colour(number), faint=True,
                            label=f"sending and receiving: {seconds(total - computing)}"))
        rows.append(Row(name=problem.devices.ids[number], bars=bars if total else [],
                        remark=_remark(int(nodes[number]), total)))
    return rows


def _remark(nodes: int, busy_s: float) -> str:
    return f"{nodes} nodes, {seconds(busy_s)}" if nodes else "idle"
