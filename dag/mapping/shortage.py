"""Why a mapping problem cannot be solved, where that can be seen before any search."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from dag.mapping.memory import group_costs, group_seconds
from dag.mapping.problem import MappingProblem


def shortages(problem: MappingProblem) -> tuple[str, ...]:
    """A sentence for each reason; empty if none is known. Cost: O(nodes * devices)."""
    return (*_nowhere(problem), *_too_large(problem), *_in_total(problem))


def _nowhere(problem: MappingProblem) -> Iterator[str]:
    """Groups that no device can run, or not the one they are pinned to."""
    graph, devices = problem.graph, problem.devices
    able = np.isfinite(group_seconds(problem, problem.load_seconds()))
    costs = group_costs(graph)
    for group in np.flatnonzero(~able.any(axis=1)).tolist():
        yield f"No device can run {_named(problem, group)}."
    for group in np.flatnonzero((costs.pin >= 0) & able.any(axis=1)).tolist():
        if not able[group, costs.pin[group]]:
            yield (f"Device '{devices.ids[int(costs.pin[group])]}' cannot run "
                   f"{_named(problem, group)}, which is pinned to it.")


def _too_large(problem: MappingProblem) -> Iterator[str]:
    """Groups that fit into no device that may run them, or pins that overfill theirs."""
    devices, costs = problem.devices, group_costs(problem.graph)
    able = np.isfinite(group_seconds(problem, problem.load_seconds()))
    wanted = costs.held + costs.temporary
    offered = np.where(able, devices.memory_bytes, -np.inf)
    for group in np.flatnonzero((costs.pin < 0) & (wanted > offered.max(axis=1))).tolist():
        if able[group].any():
            missing = wanted[group] - offered[group].max()
            yield (f"No device that can run {_named(problem, group)} has the "
                   f"{wanted[group]:.0f} bytes that it takes; the largest has "
                   f"{offered[group].max():.0f}: {missing:.0f} bytes are missing.")
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
