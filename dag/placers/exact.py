"""The optimum of small problems by mixed-integer programs: what searches are tested against.

Throughput: Tarnawski et al. 2020 (NeurIPS, section 4, non-contiguous), with times per device, a
tensor sent once to each remote device, and transfers that depend on the ordered pair. Latency is in
`dag.placers.exact_latency`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dag.mapping import judge
from dag.mapping.problem import LATENCY, FloatArray, IntArray, Mapping, MappingProblem, Unmapped
from dag.mapping.units import Units, groups
from dag.placers.assignment import assigned, forbid, read_devices, travelling
from dag.placers.exact_latency import LatencyProgram
from dag.placers.program import Program, Solution, Term

NAME = "exact"
GAP = 1e-6
SOLVER_ROUNDING = 1e-5
"""A schedule of the solver that is shorter by less is the judge's own."""


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Optimum:
    """What an exact search found.

    Attributes:
        mapping: the best; Unmapped with the reason if there is none, or none was found in time.
        value_s: its objective; infinite if there is none. For latency over serial channels it is
            the length of the best schedule, whose transfers may go in any order; the judge fetches
            inputs in one order only and may find the same mapping longer.
        bound_s: no mapping is better; infinite if none is feasible.
        finished: whether `value_s` is proven optimal, or infeasibility proven.
    """

    mapping: Mapping | Unmapped
    value_s: float
    bound_s: float
    finished: bool


def optimum(
    problem: MappingProblem, seconds: float, *, known_s: float = np.inf, gap: float = GAP
) -> Optimum:
    """The best mapping.

    Args:
        problem: small: for latency at most some tens of nodes that the graph leaves unordered.
        seconds: limit of the solver. A search that it ended depends on the machine; it says so.
        known_s: value of a known mapping. A small one makes the search shorter.
        gap: relative difference of value and bound that is taken for none.
    """
    units = groups(problem)
    if not np.isfinite(units.load_s).any(axis=1).all():
        return _none(True, np.inf)
    return _latency(problem, units, seconds, known_s, gap) if problem.objective == LATENCY else (
        _throughput(problem, units, seconds, known_s, gap))


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class ThroughputProgram:
    """The program of the smallest largest load.

    Attributes:
        program: its rows.
        place: variables of the assignment, [units, devices].
        sent: variables of all transfers between different devices; empty for overlapping channels.
        largest: the variable that is to be smallest.
    """

    program: Program
    place: IntArray
    sent: tuple[int, ...]
    largest: int


def throughput_program(
    problem: MappingProblem, units: Units, scale: float, *, known_s: float = np.inf
) -> ThroughputProgram:
    """The program of the smallest largest load, times divided by `scale`."""
    program = Program()
    place = assigned(program, problem, units)
    most = known_s * (1 + SOLVER_ROUNDING) / scale
    largest = int(program.variables(np.full(1, most))[0])
    devices = problem.devices.count
    rows: list[list[Term]] = [
        [(largest, 1.0)] + [
            (place[unit, device], -units.load_s[unit, device] / scale)
            for unit in np.flatnonzero(np.isfinite(units.load_s[:, device])).tolist()]
        for device in range(devices)]
    travels: list[int] = []
    if problem.devices.serial:
        for tensor in np.unique(units.tensor).tolist():
            edges = np.flatnonzero(units.tensor == tensor)
            sent = travelling(
                program, place, int(units.source[edges[0]]), units.target[edges].tolist())
            for source in range(devices):
                for target in range(devices):
                    if source != target:
                        travels.append(int(sent[source, target]))
                        cost = problem.transfer_seconds(tensor, source, target) / scale
                        rows[source].append((sent[source, target], -cost))
                        rows[target].append((sent[source, target], -cost))
    for row in rows:
        program.at_least(row, 0.0)
    return ThroughputProgram(
        program=program, place=place, sent=tuple(travels), largest=largest)


def typical_seconds(table: FloatArray) -> float:
    """Least time of all units, one after the other, to divide times by; 1 if it is nothing."""
    return float(table.min(axis=1).sum()) or 1.0


def _throughput(
    problem: MappingProblem, units: Units, seconds: float, known_s: float, gap: float
) -> Optimum:
    scale = typical_seconds(units.load_s)
    made = throughput_program(problem, units, scale, known_s=known_s)
    solved, device = _search(problem, units, made.program, made.place, made.largest, seconds, gap)
    if solved.point is None:
        return _none(solved.finished, solved.bound * scale)
    value = float(judge.loads(problem, device).max())
    return Optimum(
        mapping=Mapping(
            algorithm=NAME, device=device, start_s=judge.makespan(problem, device)[1]),
        value_s=value, bound_s=min(value, solved.bound * scale), finished=solved.finished)


def _latency(
    problem: MappingProblem, units: Units, seconds: float, known_s: float, gap: float
) -> Optimum:
    made = LatencyProgram(problem, units, known_s)
    solved, device = _search(
        problem, units, made.program, made.place, made.makespan, seconds, gap)
    if solved.point is None:
        return _none(solved.finished, solved.bound * made.scale)
    length, start = judge.makespan(problem, device, made.order(solved.point))
    planned = float(solved.point[made.makespan]) * made.scale
    value = planned if planned < length * (1 - SOLVER_ROUNDING) else length
    return Optimum(
        mapping=Mapping(algorithm=NAME, device=device, start_s=start), value_s=value,
        bound_s=min(value, solved.bound * made.scale), finished=solved.finished)


def _search(
    problem: MappingProblem, units: Units, program: Program, place: IntArray, objective: int,
    seconds: float, gap: float,
) -> tuple[Solution, IntArray]:
    """Solve, again without each mapping that is too much for a device by less than the solver sees.

    Returns:
        The solution, and the device of each node if it has a point.
    """
    while True:
        solved = program.solve(objective, seconds, gap)
        if solved.point is None:
            return solved, np.zeros(0, dtype=np.int64)
        device = read_devices(solved.point, place, units)
        full = _overfull(problem, device)
        if full < 0:
            return solved, device
        forbid(program, place, units, device, full)


def _overfull(problem: MappingProblem, device: IntArray) -> int:
    """A device that would hold more than it can, by less than the solver can see; or -1."""
    if judge.fits(problem, device):
        return -1
    excess = judge.peak_bytes(problem, device) / problem.devices.memory_bytes
    return int(excess.argmax())


def _none(finished: bool, bound_s: float) -> Optimum:
    reason = ("no assignment satisfies memory, pins and groups together" if finished
              else "the solver gave up, or its limit ended the search, before it found a mapping")
    return Optimum(mapping=Unmapped(algorithm=NAME, reason=reason), value_s=np.inf,
                   bound_s=bound_s, finished=finished)
