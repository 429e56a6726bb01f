"""Problems of our own, and the toy graphs of the Baechi repository restated."""

from __future__ import annotations

import random

from dag.mapping.build import DeviceCosts, EdgeCosts, LinkCosts, NodeCosts, cost_graph, devices
from dag.mapping.problem import LATENCY, MappingProblem, Objective


def random_problem(
    seed: int, nodes: int = 12, count: int = 3, objective: Objective = LATENCY, *,
    serial: bool = False, memory: float = 40.0, bound: bool = True,
) -> MappingProblem:
    """A random DAG on unequal devices and links; with `bound`, some groups and pins."""
    draw = random.Random(seed)
    on = [DeviceCosts(id=f"d{n}", memory_bytes=memory, speed=draw.choice([0.5, 1.0, 2.0]))
          for n in range(count)]
    described = [
        NodeCosts(
            id=f"n{n}", compute_s=draw.uniform(0.5, 4.0), backward_s=draw.uniform(0.5, 8.0),
            persistent_bytes=draw.uniform(0.0, 2.0), output_bytes=draw.uniform(0.0, 1.0),
            temporary_bytes=draw.uniform(0.0, 1.0),
            colocate=draw.choice(["", "", "", "a", "b"]) if bound else "",
            pin="d0" if bound and n == 0 else "")
        for n in range(nodes)]
    edges = [
        EdgeCosts(src=f"n{a}", dst=f"n{b}", bytes=draw.choice([0.5, 1.0, 4.0]))
        for b in range(nodes) for a in range(b)
        if draw.random() < 2.5 / nodes * (1 if b - a < 6 else 0.3)]
    graph, _ = cost_graph(described, edges, on)
    links = {
        (a.id, b.id): LinkCosts(
            latency_s=draw.uniform(0.0, 1.0), bandwidth_bytes_per_s=draw.choice([0.5, 1.0, 4.0]))
        for a in on for b in on if a is not b}
    return MappingProblem(
        graph=graph, objective=objective, devices=devices(
            on, LinkCosts(latency_s=0.1, bandwidth_bytes_per_s=1.0), links, serial=serial))
