"""Which nodes of a running mapping cannot stay, and some place for each of them."""

from __future__ import annotations

import numpy as np

from dag.mapping.judge import fits
from dag.mapping.memory import ROUNDING, GroupCosts, group_costs, group_seconds
from dag.mapping.problem import BoolArray, FloatArray, IntArray, MappingProblem, Unmapped
from dag.mapping.shortage import shortages
from dag.placers.program import Program

NAME = "repair"
REPACKED_CELLS = 2_000
"""Groups * devices up to which all groups are packed anew where filling gaps fails."""
REPACKED_S = 60.0
"""Programs of that size end well before it, so the answer does not depend on the clock."""


def forced_nodes(problem: MappingProblem, device: IntArray) -> BoolArray:
    """Nodes of groups that cannot stay where they are, [nodes].

    Their device has left, cannot run them, is not the one they are pinned to, or is not the same
    for all; or it has too little memory, and then as few bytes leave as suffice, nearly.

    Args:
        problem: as it is now.
        device: of each node, -1 where it has left.
    """
    graph, on = problem.graph, problem.devices
    table = graph.compute_s + graph.backward_s
    able = np.isfinite(table[np.arange(graph.nodes), on.column[device]])
    bad = (device < 0) | ~able | ((graph.pin >= 0) & (graph.pin != device))
    home = np.full(graph.groups, -1, dtype=np.int64)
    home[graph.group] = device
    bad |= home[graph.group] != device
    leaves = np.zeros(graph.groups, dtype=np.bool_)
    np.logical_or.at(leaves, graph.group, bad)
    costs = group_costs(graph)
    for number in range(on.count):
        stays = np.flatnonzero((home == number) & ~leaves)
        leaves[_evicted(stays, costs, float(on.memory_bytes[number]))] = True
    forced: BoolArray = leaves[graph.group]
    return forced


def _evicted(stays: IntArray, costs: GroupCosts, limit: float) -> list[int]:
    """Groups to leave a device so that the rest fits: the least that suffices, or the largest."""
    left = stays.tolist()
    gone: list[int] = []
    while left:
        over = float(costs.held[left].sum() + costs.temporary[left].max()) - limit * ROUNDING
        free = [group for group in left if costs.pin[group] < 0]
        if over <= 0.0 or not free:
            break
        enough = [group for group in free if costs.held[group] >= over]
        key = costs.held.__getitem__
        gone.append(min(enough, key=key) if enough else max(free, key=key))
        left.remove(gone[-1])
    return gone


def repaired(
    problem: MappingProblem, device: IntArray, forced: BoolArray
) -> IntArray | Unmapped:
    """A mapping within memory in which, if possible, only forced nodes move.

    Larger groups first into a gap that takes them: where the load is then least, and, if that
    leads nowhere, where least room is left. If some group still has no place, small problems are
    packed anew with as few moved bytes as possible.

    Args:
        problem: as it is now.
        device: of each node; any number where `forced`.
        forced: nodes that cannot stay, whole groups, [nodes].
    """
    graph, on = problem.graph, problem.devices
    costs = group_costs(graph)
    seconds = group_seconds(problem, problem.load_seconds())
    home = np.full(graph.groups, -1, dtype=np.int64)
    home[graph.group[~forced]] = device[~forced]
    stuck = -1
    for tight in (False, True):
        placed, stuck = _filled(home, seconds, costs, on.memory_bytes, tight)
        if stuck < 0 and fits(problem, placed[graph.group]):
            return placed[graph.group]
    if graph.groups * on.count <= REPACKED_CELLS:
        packed = _packed(home, seconds, costs, on.memory_bytes)
        if packed is not None and fits(problem, packed[graph.group]):
            return packed[graph.group]
    return Unmapped(algorithm=NAME, reason=_why(problem, home, costs, stuck))


def _filled(
    home: IntArray, seconds: FloatArray, costs: GroupCosts, limit: FloatArray, tight: bool
) -> tuple[IntArray, int]:
    """Device of each group, and a group that no device has room for, or -1."""
    home = home.copy()
    held, temporary, load = (np.zeros(len(limit)) for _ in range(3))
    settled = np.flatnonzero(home >= 0)
    np.add.at(held, home[settled], costs.held[settled])
    np.maximum.at(temporary, home[settled], costs.temporary[settled])
    np.add.at(load, home[settled], seconds[settled, home[settled]])
    waiting = np.flatnonzero(home < 0)
    wanted = costs.held[waiting] + costs.temporary[waiting]
    for group in waiting[np.argsort(-wanted, kind="stable")].tolist():
        room = limit * ROUNDING - held - costs.held[group] - np.maximum(
            temporary, costs.temporary[group])
        possible = (room >= 0.0) & np.isfinite(seconds[group])
        if costs.pin[group] >= 0:
            possible &= np.arange(len(limit)) == costs.pin[group]
        if not possible.any():
            return home, group
        score = room if tight else load + seconds[group]
        best = int(np.argmin(np.where(possible, score, np.inf)))
        home[group] = best
        held[best] += costs.held[group]
        temporary[best] = max(temporary[best], costs.temporary[group])
        load[best] += seconds[group, best]
    return home, -1


def _packed(
    home: IntArray, seconds: FloatArray, costs: GroupCosts, limit: FloatArray
) -> IntArray | None:
    """All groups within memory, those with a home elsewhere only as need be; None: impossible."""
    program = Program()
    able = np.isfinite(seconds)
    pinned = np.flatnonzero(costs.pin >= 0)
    able[pinned] &= np.arange(len(limit)) == costs.pin[pinned, None]
    scale = max(1.0, float(costs.held.sum()))
    here = program.variables(able.astype(np.float64), whole=True)
    largest = program.variables(np.full(len(limit), np.inf))
    leaving = program.variables(np.full((), np.inf))
    for group in range(len(home)):
        program.at_least([(int(place), 1.0) for place in here[group]], 1.0)
    for device in range(len(limit)):
        column = here[:, device].tolist()
        program.at_least(
            [(int(largest[device]), -1.0),
             *((place, -bytes_ / scale) for place, bytes_ in zip(column, costs.held, strict=True))],
            -float(limit[device]) / scale)
        for place, bytes_ in zip(column, costs.temporary.tolist(), strict=True):
            program.at_least([(int(largest[device]), 1.0), (place, -bytes_ / scale)], 0.0)
    settled = np.flatnonzero(home >= 0)
    program.at_least(
        [(int(leaving), 1.0), *((int(here[group, home[group]]), costs.held[group] / scale)
                                for group in settled.tolist())],
        float(costs.held[settled].sum()) / scale)
    solved = program.solve(int(leaving), REPACKED_S, 0.05)
    if solved.point is None:
        return None
    packed: IntArray = solved.point[here].argmax(axis=1).astype(np.int64)
    return packed


def _why(problem: MappingProblem, home: IntArray, costs: GroupCosts, stuck: int) -> str:
    known = shortages(problem)
    if known:
        return " ".join(known)
    held = np.zeros(problem.devices.count)
    settled = home >= 0
    np.add.at(held, home[settled], costs.held[settled])
    free = problem.devices.memory_bytes - held
    most = int(np.argmax(free))
    name = problem.graph.ids[int(costs.members[costs.first[max(stuck, 0)]])]
    wanted = costs.held[max(stuck, 0)] + costs.temporary[max(stuck, 0)]
    return (f"No device has room for the group of node '{name}', which takes {wanted:.0f} bytes, "
            f"beside what cannot leave; '{problem.devices.ids[most]}' has most left, "
            f"{free[most]:.0f} bytes.")
