"""Balance loads over devices, contiguous or not: longest processing time first.

Graham 1969 (SIAM J. Appl. Math. 17(2)) on unrelated devices: units by falling time, each where the
largest load grows least. We differ: memory, pins and groups are kept; over serial channels a unit's
transfers from and to what is already placed count with it, and a topological order is tried too,
which sees what a unit reads; and it is tried on the fastest one, two, four and so on devices,
because using fewer may save more transfers than it costs time. Largest bytes first is a third
order, for where memory is what is short.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from dag.compiled import compiled
from dag.mapping import judge
from dag.mapping.judge import Wiring, transfer_s, wiring
from dag.mapping.memory import ROUNDING
from dag.mapping.problem import FloatArray, IntArray, Mapping, MappingProblem, Unmapped
from dag.mapping.units import Units, groups

NAME = "balance"


def balance(problem: MappingProblem) -> Mapping | Unmapped:
    """The best of several rounds, by the largest load, whatever the problem's objective.

    Cost: O((units + readers of tensors) * devices * log devices).
    """
    units, devices = groups(problem), problem.devices
    if not np.isfinite(units.load_s).any(axis=1).all():
        return Unmapped(algorithm=NAME, reason="a group of nodes fits no device that can run it")
    load_s = units.load_s.min(axis=1)
    numbers = np.arange(units.count)
    by_load = np.lexsort((numbers, -load_s)).astype(np.int64)
    by_bytes = np.lexsort((numbers, -units.held_bytes - units.temporary_bytes)).astype(np.int64)
    orders = [by_load, by_bytes]
    if devices.serial:
        orders.append(_topological(problem, units))
    links = links_of(problem, units)
    best, least = None, np.inf
    for most in _sizes(devices.count):
        used = np.zeros((1, devices.count), dtype=bool)
        used[0, _fastest(units)[:most]] = True
        # What only others can run goes there.
        used = used | ~(used & np.isfinite(units.load_s)).any(axis=1, keepdims=True)
        for order in orders:
            home = _filled(
                order, np.where(used, units.load_s, np.inf), units.held_bytes,
                units.temporary_bytes, devices.memory_bytes, links, wiring(problem))
            if (home < 0).any():
                continue
            device = home[units.label]
            largest = float(judge.loads(problem, device).max())
            if largest < least:
                best, least = device, largest
    if best is None:
        return Unmapped(
            algorithm=NAME, reason="placing the longest or the largest units first left one "
            "without room")
    return Mapping(algorithm=NAME, device=best, start_s=judge.makespan(problem, best)[1])


class Links(NamedTuple):
    """Tensors between units, from both ends.

    Attributes:
        tensor: the graph's number of each, [tensors].
        source: unit that makes it, [tensors].
        target: units that read it, one tensor after the other.
        first: those of tensor t are `target[first[t]:first[t + 1]]`, [tensors + 1].
        read: tensors that a unit reads, one unit after the other.
        first_read: those of unit u are `read[first_read[u]:first_read[u + 1]]`, [units + 1].
        made: tensors that a unit makes, one unit after the other.
        first_made: [units + 1].
    """

    tensor: IntArray
    source: IntArray
    target: IntArray
    first: IntArray
    read: IntArray
    first_read: IntArray
    made: IntArray
    first_made: IntArray


def links_of(problem: MappingProblem, units: Units) -> Links:
    """The tensors whose transfers count: all over serial channels, none over overlapping ones."""
    tensor, first, number = np.unique(units.tensor, return_index=True, return_inverse=True)
    if not problem.devices.serial:
        number = number[:0]
    source = units.source[first] if len(number) else np.zeros(0, dtype=np.int64)
    target = units.target[:len(number)]
    by_reader = np.argsort(target, kind="stable")
    steps = np.arange(units.count + 1)
    return Links(
        tensor, source, target, np.append(first, len(units.tensor)).astype(np.int64),
        number[by_reader].astype(np.int64),
        np.searchsorted(target[by_reader], steps).astype(np.int64),
        np.argsort(source, kind="stable").astype(np.int64),
        np.searchsorted(np.sort(source), steps).astype(np.int64))


def _topological(problem: MappingProblem, units: Units) -> IntArray:
    """Units by their first node's place, so that a unit comes after what it mostly reads."""
    order = problem.graph.topological
    first = np.full(units.count, len(order))
    np.minimum.at(first, units.label[order], np.arange(len(order)))
    by_first: IntArray = np.argsort(first).astype(np.int64)
    return by_first


def _sizes(devices: int) -> list[int]:
    powers = [2**n for n in range(devices.bit_length()) if 2**n < devices]
    return [*powers, devices]


def _fastest(units: Units) -> IntArray:
    """Devices, those first that run most, then those that run it fastest."""
    finite = np.isfinite(units.load_s)
    total = np.where(finite, units.load_s, 0.0).sum(axis=0)
    order: IntArray = np.lexsort((np.arange(len(total)), total, -finite.sum(axis=0)))
    return order


@compiled
def _filled(
    order: IntArray, load_s: FloatArray, held_bytes: FloatArray, temporary_bytes: FloatArray,
    memory: FloatArray, links: Links, wires: Wiring,
) -> IntArray:
    """Device of each unit, -1 where there was no room."""
    units, devices = load_s.shape
    home = np.full(units, -1, dtype=np.int64)
    load, held, temporary = np.zeros(devices), np.zeros(devices), np.zeros(devices)
    reads = np.zeros((len(links.source), devices), dtype=np.int64)
    added, least = np.zeros(devices), np.zeros(devices)
    for unit in order:
        best, best_top, best_own, top = -1, np.inf, np.inf, load.max()
        for here in range(devices):
            largest = max(temporary[here], temporary_bytes[unit])
            if not np.isfinite(load_s[unit, here]) or (
                    held[here] + held_bytes[unit] + largest > memory[here] * ROUNDING):
                continue
            add_transfers(unit, here, home, reads, links, wires, added)
            added[here] += load_s[unit, here]
            own, new_top = load[here] + added[here], max(top, (load + added).max())
            if new_top < best_top or (new_top == best_top and own < best_own):
                best, best_top, best_own = here, new_top, own
                least[:] = added
        if best < 0:
            return home
        home[unit] = best
        load += least
        held[best] += held_bytes[unit]
        temporary[best] = max(temporary[best], temporary_bytes[unit])
        for place in range(links.first_read[unit], links.first_read[unit + 1]):
            reads[links.read[place], best] += 1
    return home


@compiled
def add_transfers(
    unit: int, here: int, home: IntArray, reads: IntArray, links: Links, wires: Wiring,
    added: FloatArray,
) -> None:
    """Write what a unit on a device adds to each device's load by transfers.

    `home` is the device of each unit or -1, `reads` how many readers of a tensor a device has.
    """
    added[:] = 0.0
    for place in range(links.first_read[unit], links.first_read[unit + 1]):
        number = links.read[place]
        there = home[links.source[number]]
        if there >= 0 and there != here and reads[number, here] == 0:
            seconds = transfer_s(wires, links.tensor[number], there, here)
            added[there] += seconds
            added[here] += seconds
    for place in range(links.first_made[unit], links.first_made[unit + 1]):
        number = links.made[place]
        for there in range(len(added)):
            if there != here and reads[number, there] > 0:
                seconds = transfer_s(wires, links.tensor[number], here, there)
                added[there] += seconds
                added[here] += seconds
