"""Why a mapping problem cannot be solved, where that can be seen before any search."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from dag.mapping.memory import group_costs, group_seconds
from dag.mapping.problem import BoolArray, MappingProblem


def shortages(problem: MappingProblem) -> tuple[str, ...]:
    """A sentence for each reason; empty if none is known. Cost: O(nodes * columns)."""
    graph, devices = problem.graph, problem.devices
    seconds = group_seconds(problem, graph.compute_s + graph.backward_s)
    able = np.isfinite(seconds) & (np.bincount(devices.column, minlength=seconds.shape[1]) > 0)
    return (*_nowhere(problem, able), *_too_large(problem, able), *_in_total(problem))


def _nowhere(problem: MappingProblem, able: BoolArray) -> Iterator[str]:
    """Groups that no device can run, or not the one they are pinned to.

    Args:
        problem: the problem.
        able: whether devices of a column can run a group, [groups, columns].
    """
    devices = problem.devices
    costs = group_costs(problem.graph)
    for group in np.flatnonzero(~able.any(axis=1)).tolist():
        yield f"No device can run {_named(problem, group)}."
    for group in np.flatnonzero((costs.pin >= 0) & able.any(axis=1)).tolist():
        if not able[group, devices.column[costs.pin[group]]]:
            yield (f"Device '{devices.ids[int(costs.pin[group])]}' cannot run "
                   f"{_named(problem, group)}, which is pinned to it.")


def _too_large(problem: MappingProblem, able: BoolArray) -> Iterator[str]:
    """Groups that fit into no device that may run them, or pins that overfill theirs."""
    devices, costs = problem.devices, group_costs(problem.graph)
    wanted = costs.held + costs.temporary
    largest = np.full(able.shape[1], -np.inf)
    np.maximum.at(largest, devices.column, devices.memory_bytes)
    offered = np.where(able, largest, -np.inf).max(axis=1)
    for group in np.flatnonzero((costs.pin < 0) & (wanted > offered)).tolist():
        if able[group].any():
            yield (f"No device that can run {_named(problem, group)} has the "
                   f"{wanted[group]:.0f} bytes that it takes; the largest has "
                   f"{offered[group]:.0f}: {wanted[group] - offered[group]:.0f} bytes are missing.")
    for device in range(devices.count):
        pinned = costs.pin == device
        if pinned.any():
            held = costs.held[pinned].sum() + costs.temporary[pinned].max()
            if held > devices.memory_bytes[device]:
                yield (f"What is pinned to '{devices.ids[device]}' takes {held:.0f} bytes; it "
                       f"has {devices.memory_bytes[device]:.0f}: "
                       f"{held - devices.memory_bytes[device]:.0f} bytes are missing.")


def _in_total(problem: MappingProblem) -> Iterator[str]:
    graph, devices = problem.graph, problem.devices
    wanted = float((graph.persistent_bytes + graph.output_bytes).sum())
    had = float(devices.memory_bytes.sum())
    if wanted > had:
        yield (f"The graph holds {wanted:.0f} bytes; the devices have {had:.0f} together: "
               f"{wanted - had:.0f} bytes are missing.")


def _named(problem: MappingProblem, group: int) -> str:
    costs = group_costs(problem.graph)
    members = costs.members[costs.first[group]:costs.first[group + 1]].tolist()
    first = problem.graph.ids[members[0]]
    return f"node '{first}'" if len(members) == 1 else (
        f"the co-location group of node '{first}' ({len(members)} nodes)")
