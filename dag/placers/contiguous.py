"""The best cut of a DAG into stages that follow one another, over a family of its down-sets.

A down-set (ideal) holds with each unit all that it depends on. Stages that follow one another are
the differences of a rising chain of down-sets, so the best chain is found by dynamic programming
over pairs of them. All down-sets give the optimum (Tarnawski et al. 2020, NeurIPS, section 5);
those of one topological order, its prefixes, give the best cut of that order (PipeDream, Narayanan
et al. 2019, SOSP, section 3.1).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from dag.compiled import compiled
from dag.mapping.memory import ROUNDING
from dag.mapping.problem import FloatArray, IntArray, MappingProblem
from dag.mapping.units import Units

WORD = 64


class Family(NamedTuple):
    """Down-sets by size, the empty one first and the whole last, as compiled code reads them.

    Attributes:
        words: members as bits, [sets, words].
        live: rows of `Readers` that cross out of each set, one set after the other.
        first_live: those of set s are `live[first_live[s]:first_live[s + 1]]`, [sets + 1].
    """

    words: npt.NDArray[np.uint64]
    live: IntArray
    first_live: IntArray


class Readers(NamedTuple):
    """Tensors between units.

    Attributes:
        source: unit that makes it, [tensors].
        bytes: [tensors].
        target: units that read it, one tensor after the other.
        first: those of tensor t are `target[first[t]:first[t + 1]]`, [tensors + 1].
    """

    source: IntArray
    bytes: FloatArray
    target: IntArray
    first: IntArray


class Stages(NamedTuple):
    """What a stage costs, by its place in the pipeline.

    Attributes:
        seconds: of the units of each set together, [sets, stages]; counts those that can run.
        stuck: how many units of each set cannot run at a stage, [sets, stages].
        held: bytes of each set, [sets].
        temporary: largest temporary bytes of a node, [units].
        by_temporary: units, most temporary bytes first; empty if none takes any.
        memory: [stages].
        latency: to the next stage, [stages].
        per_byte: seconds per byte to the next stage, [stages].
    """

    seconds: FloatArray
    stuck: IntArray
    held: FloatArray
    temporary: FloatArray
    by_temporary: IntArray
    memory: FloatArray
    latency: FloatArray
    per_byte: FloatArray


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Cut:
    """Stages found.

    Attributes:
        bottleneck_s: largest load of a stage by the model of `cut`; infinite if nothing fits.
        device: of each node; meaningless if nothing fits.
    """

    bottleneck_s: float
    device: IntArray


def readers(problem: MappingProblem, units: Units) -> Readers:
    """The tensors that leave their unit."""
    tensors, first = np.unique(units.tensor, return_index=True)
    return Readers(
        units.source[first], problem.graph.tensor_bytes[tensors], units.target,
        np.append(first, len(units.tensor)).astype(np.int64))


def prefixes(units: Units) -> list[int]:
    """The down-sets of the order of the units' numbers, as bits of a whole number."""
    return [(1 << size) - 1 for size in range(units.count + 1)]


def down_sets(units: Units, most: int) -> list[int] | None:
    """All down-sets by size, as bits of a whole number; None if there are more than `most`."""
    needs, feeds = [0] * units.count, [0] * units.count
    for source, target in zip(units.source.tolist(), units.target.tolist(), strict=True):
        needs[target] |= 1 << source
        feeds[source] |= 1 << target
    layer = {0: sum(1 << unit for unit in range(units.count) if not needs[unit])}
    found = [0]
    while any(layer.values()):
        grown: dict[int, int] = {}
        for members, ready in layer.items():
            for unit in _bits(ready):
                larger = members | 1 << unit
                if larger not in grown:
                    opened = sum(1 << fed for fed in _bits(feeds[unit])
                                 if not needs[fed] & ~larger)
                    grown[larger] = ready & ~(1 << unit) | opened
            if len(found) + len(grown) > most:
                return None
        found += grown
        layer = grown
    return found


def family(sets: Sequence[int], units: Units, tensors: Readers) -> Family:
    """Down-sets as arrays. Cost: O(sets * (units + tensors))."""
    width = (units.count + WORD - 1) // WORD * (WORD // 8)
    data = b"".join(members.to_bytes(width, "little") for members in sets)
    words = np.frombuffer(data, dtype="<u8").reshape(len(sets), -1).astype(np.uint64)
    inside = _members(words, units.count)
    if len(tensors.source):
        whole = np.logical_and.reduceat(inside[:, tensors.target], tensors.first[:-1], axis=1)
        crosses = inside[:, tensors.source] & ~whole
    else:
        crosses = np.zeros((len(sets), 0), dtype=bool)
    first = np.append(0, np.cumsum(crosses.sum(axis=1))).astype(np.int64)
    return Family(words, np.nonzero(crosses)[1].astype(np.int64), first)


def cut(
    problem: MappingProblem, units: Units, tensors: Readers, sets: Family,
    order: Sequence[int], *, alike: bool = False, below: float = np.inf,
) -> Cut:
    """The best stages on devices in this order; later devices may stay idle.

    A stage's load is its time forward and backward and, over serial channels, each tensor that it
    receives, once, over the link from the device before, and each that it sends, once, over the
    link to the device after. That is the judge's load where tensors go from one stage to the next.

    Args:
        problem: the problem.
        units: from `acyclic_groups`.
        tensors: from `readers`.
        sets: from `family`.
        order: devices, first stage first.
        alike: take the mean of all devices and of all links for each; memory stays each one's own.
        below: look only for stages with a smaller bottleneck.

    Cost: O(sets**2 * (devices + tensors that cross a set)).
    """
    costs = _stages(problem, units, sets, order, alike)
    found, stage = _search(sets, tensors, costs, problem.devices.serial, below, units.count)
    return Cut(bottleneck_s=float(found), device=np.array(order)[stage][units.label])


def _stages(
    problem: MappingProblem, units: Units, sets: Family, order: Sequence[int], alike: bool
) -> Stages:
    devices = problem.devices
    chosen = np.array(order)
    inside = _members(sets.words, units.count).astype(np.float64)
    finite = np.isfinite(units.load_s)
    seconds = np.where(finite, units.load_s, 0.0)
    if alike:
        mean = seconds.sum(axis=1) / np.maximum(finite.sum(axis=1), 1)
        seconds = np.repeat(mean[:, None], devices.count, axis=1)
    following = np.append(chosen[1:], chosen[-1])
    latency = devices.latency_s[chosen, following]
    per_byte = 1.0 / devices.bandwidth_bytes_per_s[chosen, following]
    apart = ~np.eye(devices.count, dtype=bool)
    if alike and devices.count > 1:
        latency = np.full(len(chosen), devices.latency_s[apart].mean())
        per_byte = np.full(len(chosen), (1.0 / devices.bandwidth_bytes_per_s[apart]).mean())
    by_temporary = np.lexsort((np.arange(units.count), -units.temporary_bytes))
    return Stages(
        inside @ seconds[:, chosen], (inside @ ~finite[:, chosen]).astype(np.int64),
        inside @ units.held_bytes, units.temporary_bytes,
        by_temporary[:np.count_nonzero(units.temporary_bytes)].astype(np.int64),
        devices.memory_bytes[chosen], latency, per_byte)


@compiled
def _search(
    sets: Family, tensors: Readers, costs: Stages, serial: bool, below: float, units: int
) -> tuple[float, IntArray]:
    """Bottleneck and the stage of each unit."""
    count, stages = costs.seconds.shape
    best = np.full((stages, count), np.inf)
    before = np.full((stages, count), -1, dtype=np.int64)
    moved = np.zeros(4)
    for whole in range(1, count):
        last = whole == count - 1
        for part in range(whole):
            if not _subset(sets.words[part], sets.words[whole]):
                continue
            held = costs.held[whole] - costs.held[part]
            if len(costs.by_temporary):
                held += _largest(sets.words[part], sets.words[whole], costs)
            counted = not serial
            for stage in range(stages):
                known = best[stage - 1, part] if stage else (0.0 if part == 0 else np.inf)
                load = costs.seconds[whole, stage] - costs.seconds[part, stage]
                if (max(known, load) >= min(best[stage, whole], below)
                        or held > costs.memory[stage] * ROUNDING
                        or costs.stuck[whole, stage] > costs.stuck[part, stage]
                        or (stage == stages - 1 and not last)):
                    continue
                if not counted:
                    _moved(sets, tensors, part, whole, moved)
                    counted = True
                if serial and stage:
                    load += moved[0] * costs.latency[stage - 1] + (
                        moved[1] * costs.per_byte[stage - 1])
                if serial:
                    load += moved[2] * costs.latency[stage] + moved[3] * costs.per_byte[stage]
                if max(known, load) < min(best[stage, whole], below):
                    best[stage, whole] = max(known, load)
                    before[stage, whole] = part
    return _traced(sets, best, before, units)


@compiled
def _traced(
    sets: Family, best: FloatArray, before: IntArray, units: int
) -> tuple[float, IntArray]:
    stages, count = best.shape
    of_unit = np.zeros(units, dtype=np.int64)
    final = 0
    for stage in range(stages):
        if best[stage, count - 1] < best[final, count - 1]:
            final = stage
    whole = count - 1
    for stage in range(final, -1, -1):
        part = before[stage, whole]
        if part < 0:
            break
        for unit in range(units):
            if _inside(sets.words[whole], unit) and not _inside(sets.words[part], unit):
                of_unit[unit] = stage
        whole = part
    return best[final, count - 1], of_unit


@compiled
def _moved(
    sets: Family, tensors: Readers, part: int, whole: int, moved: FloatArray
) -> None:
    """Write number and bytes of tensors that the difference of two sets receives and sends."""
    moved[:] = 0.0
    for place in range(sets.first_live[part], sets.first_live[part + 1]):
        tensor = sets.live[place]
        for reader in range(tensors.first[tensor], tensors.first[tensor + 1]):
            target = tensors.target[reader]
            if _inside(sets.words[whole], target) and not _inside(sets.words[part], target):
                moved[0] += 1.0
                moved[1] += tensors.bytes[tensor]
                break
    for place in range(sets.first_live[whole], sets.first_live[whole + 1]):
        tensor = sets.live[place]
        if not _inside(sets.words[part], tensors.source[tensor]):
            moved[2] += 1.0
            moved[3] += tensors.bytes[tensor]


@compiled
def _largest(
    part: npt.NDArray[np.uint64], whole: npt.NDArray[np.uint64], costs: Stages
) -> float:
    """Most temporary bytes in the difference of two sets."""
    for unit in costs.by_temporary:
        if _inside(whole, unit) and not _inside(part, unit):
            return float(costs.temporary[unit])
    return 0.0


@compiled
def _subset(part: npt.NDArray[np.uint64], whole: npt.NDArray[np.uint64]) -> bool:
    for word in range(len(part)):  # noqa: SIM110  (compiled: no generators)
        if part[word] & ~whole[word]:
            return False
    return True


@compiled
def _inside(words: npt.NDArray[np.uint64], unit: int) -> bool:
    return bool((words[unit // 64] >> np.uint64(unit % 64)) & np.uint64(1))


def _members(words: npt.NDArray[np.uint64], count: int) -> npt.NDArray[np.bool_]:
    """Whether each unit is in each set, [sets, units]."""
    unit = np.arange(count)
    shifted = words[:, unit // WORD] >> (unit % WORD).astype(np.uint64)
    return (shifted & np.uint64(1)).astype(bool)


def _bits(number: int) -> list[int]:
    return [place for place in range(number.bit_length()) if number >> place & 1]
