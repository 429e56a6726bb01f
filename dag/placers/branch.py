"""Throughput by branch and bound: the best mapping of few units, as far as a budget goes.

Units by falling time, each on every device that has room, the least loaded first (the search of
Horowitz & Sahni 1976, J. ACM 23(2), for unrelated machines, depth first). A branch ends where its
largest load, or the weighted mean of the loads with the least of what is left, reaches the best
known; devices that cannot be told apart so far are tried once. We add memory, pins, groups and the
transfers of serial channels. The first mapping to beat is that of `balance`.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from dag.compiled import compiled
from dag.mapping import judge
from dag.mapping.judge import Wiring, wiring
from dag.mapping.memory import ROUNDING
from dag.mapping.problem import FloatArray, IntArray, Mapping, MappingProblem, Unmapped
from dag.mapping.units import Units, groups
from dag.placers.balance import Links, add_transfers, balance, links_of
from dag.placers.bounds import device_weights

NAME = "branch"
MOST_UNITS = 24
VISITS = 8_000_000
"""Units put on a device, times devices."""


def branch(problem: MappingProblem) -> Mapping | Unmapped:
    """The best by the largest load if the budget suffices; never worse than `balance`."""
    units = groups(problem)
    if units.count > MOST_UNITS:
        return Unmapped(algorithm=NAME, reason=f"{units.count} units are too many to try all; it "
                        f"is meant for {MOST_UNITS}")
    first = balance(problem)
    if not np.isfinite(units.load_s).any(axis=1).all():
        return replace(first, algorithm=NAME)
    home, least = np.full(units.count, -1, dtype=np.int64), np.inf
    if isinstance(first, Mapping):
        home[units.label] = first.device
        least = float(judge.loads(problem, first.device).max())
    order = np.lexsort((np.arange(units.count), -units.load_s.min(axis=1))).astype(np.int64)
    weight = device_weights(units.load_s)
    ahead = np.where(np.isfinite(units.load_s), units.load_s, 0.0) * weight
    ahead = np.where(np.isfinite(units.load_s), ahead, np.inf).min(axis=1)[order]
    left = np.append(np.cumsum(ahead[::-1])[::-1], 0.0)
    _explore(
        order, units.load_s, units.held_bytes, units.temporary_bytes,
        problem.devices.memory_bytes, links_of(problem, units), wiring(problem), weight, left,
        _twins(problem, units), home, least, VISITS)
    if (home < 0).any():
        return Unmapped(algorithm=NAME, reason="trying units by falling time found no room for all")
    device = home[units.label]
    return Mapping(algorithm=NAME, device=device, start_s=judge.makespan(problem, device)[1])


def _twins(problem: MappingProblem, units: Units) -> IntArray:
    """For each device one of smaller number that is equal to it, or -1."""
    devices = problem.devices
    twin = np.full(devices.count, -1, dtype=np.int64)
    if devices.serial:  # links would have to be equal, too
        return twin
    for device in range(devices.count):
        for other in range(device):
            if devices.memory_bytes[device] == devices.memory_bytes[other] and np.array_equal(
                    units.load_s[:, device], units.load_s[:, other]):
                twin[device] = other
    return twin


@compiled
def _explore(
    order: IntArray, load_s: FloatArray, held_bytes: FloatArray, temporary_bytes: FloatArray,
    memory: FloatArray, links: Links, wires: Wiring, weight: FloatArray, left: FloatArray,
    twin: IntArray, best: IntArray, least: float, visits: int,
) -> bool:
    """Write the best homes of units to `best`; whether the search was complete."""
    units, devices = load_s.shape
    home = np.full(units, -1, dtype=np.int64)
    reads = np.zeros((len(links.source), devices), dtype=np.int64)
    load = np.zeros((units + 1, devices))
    held, temporary = np.zeros((units + 1, devices)), np.zeros((units + 1, devices))
    top = np.zeros((units, devices))
    choice = np.full(units, -1, dtype=np.int64)
    choices = np.zeros((units, devices), dtype=np.int64)
    added = np.zeros(devices)
    depth = 0
    while depth >= 0:
        unit = order[depth]
        if choice[depth] < 0:
            visits -= devices
            if visits < 0:
                return False
            for here in range(devices):
                other = twin[here]
                largest = max(temporary[depth, here], temporary_bytes[unit])
                top[depth, here] = np.inf
                if not np.isfinite(load_s[unit, here]) or (
                    held[depth, here] + held_bytes[unit] + largest > memory[here] * ROUNDING
                ) or (other >= 0 and load[depth, here] == load[depth, other]
                      and held[depth, here] == held[depth, other]
                      and temporary[depth, here] == temporary[depth, other]):
                    continue
                add_transfers(unit, here, home, reads, links, wires, added)
                added[here] += load_s[unit, here]
                highest, mean = 0.0, left[depth + 1]
                for device in range(devices):
                    highest = max(highest, load[depth, device] + added[device])
                    mean += weight[device] * (load[depth, device] + added[device])
                top[depth, here] = max(highest, mean)
            choices[depth] = np.argsort(top[depth])
        else:
            _lift(unit, home, reads, links)
        choice[depth] += 1
        here = choices[depth, choice[depth]] if choice[depth] < devices else 0
        if choice[depth] == devices or top[depth, here] >= least * (1.0 - 1e-12):
            choice[depth] = -1
            depth -= 1
            continue
        add_transfers(unit, here, home, reads, links, wires, added)
        load[depth + 1] = load[depth] + added
        load[depth + 1, here] += load_s[unit, here]
        held[depth + 1] = held[depth]
        held[depth + 1, here] += held_bytes[unit]
        temporary[depth + 1] = temporary[depth]
        temporary[depth + 1, here] = max(temporary[depth, here], temporary_bytes[unit])
        home[unit] = here
        for place in range(links.first_read[unit], links.first_read[unit + 1]):
            reads[links.read[place], here] += 1
        if depth < units - 1:
            depth += 1
        else:
            least = load[units].max()
            best[:] = home
    return True


@compiled
def _lift(unit: int, home: IntArray, reads: IntArray, links: Links) -> None:
    """Take a unit off its device."""
    for place in range(links.first_read[unit], links.first_read[unit + 1]):
        reads[links.read[place], home[unit]] -= 1
    home[unit] = -1
