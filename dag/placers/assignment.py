"""The part that all exact programs share: which unit on which device, memory, what travels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dag.mapping.problem import FloatArray, IntArray, MappingProblem
from dag.mapping.units import Units
from dag.placers.program import Program, Term


def assigned(program: Program, problem: MappingProblem, units: Units) -> IntArray:
    """Variables that are 1 where a unit is on a device, [units, devices]; memory is respected.

    Bytes are rows in parts of the device's memory, so the solver's tolerance is one part in a
    million of it; `overfull` tells where that was used.
    """
    able = np.isfinite(units.load_s)
    place = program.variables(able.astype(np.float64), whole=True)
    for unit in range(units.count):
        program.at_least([(variable, 1.0) for variable in place[unit]], 1.0)
        program.at_least([(variable, -1.0) for variable in place[unit]], -1.0)
    total = units.held_bytes.sum() + units.temporary_bytes.max(initial=0.0)
    for device, memory in enumerate(problem.devices.memory_bytes.tolist()):
        if total <= memory:
            continue
        scale = 1.0 / max(memory, 1.0)
        row: list[Term] = [
            (place[unit, device], -units.held_bytes[unit] * scale) for unit in range(units.count)
            if units.held_bytes[unit]]
        if units.temporary_bytes.any():
            largest = int(program.variables(np.full(1, np.inf))[0])
            row.append((largest, -1.0))
            for unit in np.flatnonzero(units.temporary_bytes).tolist():
                program.at_least(
                    [(largest, 1.0), (place[unit, device], -units.temporary_bytes[unit] * scale)],
                    0.0)
        program.at_least(row, -memory * scale)
    return place


def travelling(
    program: Program, place: IntArray, source: int, targets: Sequence[int]
) -> IntArray:
    """Variables that are 1 where a tensor goes from one device to another, [devices, devices].

    Args:
        program: grows.
        place: from `assigned`.
        source: unit that makes the tensor.
        targets: units that read it, all others than `source`.

    Returns:
        At least 1 where the source is on the first device and a target on the second; the
        diagonal is 0. Rows sum up over one end, which cuts off more fractional points than a row
        per pair would.
    """
    devices = place.shape[1]
    sent = program.variables(1.0 - np.eye(devices))
    for here in range(devices):
        for target in targets:
            program.at_least(
                [(sent[there, here], 1.0) for there in range(devices) if there != here]
                + [(place[target, here], -1.0), (place[source, here], 1.0)], 0.0)
            program.at_least(
                [(sent[here, there], 1.0) for there in range(devices) if there != here]
                + [(place[source, here], -1.0), (place[target, here], 1.0)], 0.0)
        for there in range(devices):
            if there != here:
                program.at_least([(place[source, here], 1.0), (sent[here, there], -1.0)], 0.0)
    return sent


def read_devices(point: FloatArray, place: IntArray, units: Units) -> IntArray:
    """The device of each node at a solution, [nodes]."""
    device: IntArray = point[place].argmax(axis=1)[units.label].astype(np.int64)
    return device


def forbid(program: Program, place: IntArray, units: Units, device: IntArray, full: int) -> None:
    """Exclude every mapping that puts on one device all that this mapping does."""
    there = np.unique(units.label[device == full])
    program.at_least([(place[unit, full], -1.0) for unit in there], 1.0 - len(there))
