"""Check a mapping without trusting whoever made it; plain Python, nothing shared with `judge`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import isfinite

from dag.mapping.problem import LATENCY, Mapping, MappingProblem

RELATIVE = 1e-9
"""Sums may round differently here and there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Defect:
    """One thing that is wrong with a mapping.

    Attributes:
        subject: node or device id.
        rule: `device`, `pin`, `colocate`, `memory`, `start` or `overlap`.
        text: one sentence for a person.
    """

    subject: str
    rule: str
    text: str


def verify(mapping: Mapping, problem: MappingProblem) -> tuple[Defect, ...]:
    """Every defect; empty if the mapping is sound.

    Each node on a device that can run it, pins and groups kept, memory enough; for latency also no
    node before its inputs can have arrived, and no two at once on a device. Cost: O(nodes log
    nodes + edges).
    """
    graph, devices = problem.graph, problem.devices
    if len(mapping.device) != graph.nodes or not all(
        0 <= device < devices.count for device in mapping.device.tolist()
    ):
        return (Defect(subject=mapping.algorithm, rule="device",
                       text="Not every node has a device of the cluster."),)
    defects = [*_bindings(mapping, problem), *_memory(mapping, problem)]
    if problem.objective == LATENCY and not defects:
        defects += [*_inputs(mapping, problem), *_turns(mapping, problem)]
    return tuple(defects)


def _bindings(mapping: Mapping, problem: MappingProblem) -> Iterator[Defect]:
    graph, ids = problem.graph, problem.devices.ids
    chosen: dict[int, int] = {}
    for node, device in enumerate(mapping.device.tolist()):
        name = graph.ids[node]
        if not isfinite(_seconds(problem, node, device)):
            yield Defect(subject=name, rule="device",
                         text=f"Node '{name}' cannot run on '{ids[device]}'.")
        if graph.pin[node] >= 0 and graph.pin[node] != device:
            yield Defect(
                subject=name, rule="pin", text=f"Node '{name}' is pinned to "
                f"'{ids[int(graph.pin[node])]}' and placed on '{ids[device]}'.")
        if chosen.setdefault(int(graph.group[node]), device) != device:
            yield Defect(subject=name, rule="colocate",
                         text=f"Node '{name}' is apart from its co-location group.")


def _memory(mapping: Mapping, problem: MappingProblem) -> Iterator[Defect]:
    graph = problem.graph
    held = [0.0] * problem.devices.count
    temporary = [0.0] * problem.devices.count
    for node, device in enumerate(mapping.device.tolist()):
        held[device] += float(graph.persistent_bytes[node] + graph.output_bytes[node])
        temporary[device] = max(temporary[device], float(graph.temporary_bytes[node]))
    for device, name in enumerate(problem.devices.ids):
        wanted, had = held[device] + temporary[device], float(problem.devices.memory_bytes[device])
        if wanted > had * (1 + RELATIVE):
            yield Defect(subject=name, rule="memory",
                         text=f"Device '{name}' has {had:g} bytes and would hold {wanted:g}.")


def _inputs(mapping: Mapping, problem: MappingProblem) -> Iterator[Defect]:
    graph = problem.graph
    for edge in range(graph.edges):
        source, target = int(graph.edge_source[edge]), int(graph.edge_target[edge])
        there, here = int(mapping.device[source]), int(mapping.device[target])
        ready = float(mapping.start_s[source]) + _seconds(problem, source, there)
        ready += problem.transfer_seconds(int(graph.edge_tensor[edge]), there, here)
        if mapping.start_s[target] < ready * (1 - RELATIVE):
            yield Defect(
                subject=graph.ids[target], rule="start", text=f"Node '{graph.ids[target]}' starts "
                f"at {mapping.start_s[target]:g} s; its input from '{graph.ids[source]}' arrives "
                f"at {ready:g} s.")


def _turns(mapping: Mapping, problem: MappingProblem) -> Iterator[Defect]:
    busy_until = [0.0] * problem.devices.count
    place = {int(node): number for number, node in enumerate(problem.graph.topological)}
    starts = mapping.start_s.tolist()
    taken = [
        _seconds(problem, node, device) for node, device in enumerate(mapping.device.tolist())]
    for node in sorted(range(problem.graph.nodes), key=lambda n: (starts[n], taken[n], place[n])):
        device = int(mapping.device[node])
        if starts[node] < busy_until[device] * (1 - RELATIVE):
            yield Defect(
                subject=problem.graph.ids[node], rule="overlap",
                text=f"Node '{problem.graph.ids[node]}' starts at {starts[node]:g} s, while "
                f"'{problem.devices.ids[device]}' is busy until {busy_until[device]:g} s.")
        busy_until[device] = starts[node] + taken[node]


def _seconds(problem: MappingProblem, node: int, device: int) -> float:
    column = int(problem.devices.column[device])
    return float(problem.graph.compute_s[node, column] / problem.devices.speed[device])
