"""Explanations: figures that add up, and a reason for every idle device."""

from __future__ import annotations

from dag.mapping.build import DeviceCosts, EdgeCosts, LinkCosts, NodeCosts, cost_graph, devices
from dag.mapping.explain import explanation
from dag.mapping.problem import LATENCY, THROUGHPUT, MappingProblem, Objective
from dag.portfolio.best_mapping import best_mapping


def chain(objective: Objective, *, serial: bool = False) -> MappingProblem:
    on = [DeviceCosts(id="fast", memory_bytes=3.0, speed=2.0),
          DeviceCosts(id="slow", memory_bytes=3.0), DeviceCosts(id="tiny", memory_bytes=0.5)]
    nodes = [NodeCosts(id=f"n{n}", compute_s=4.0, persistent_bytes=1.0) for n in range(4)]
    edges = [EdgeCosts(src=f"n{n}", dst=f"n{n + 1}", bytes=1.0) for n in range(3)]
    graph, _ = cost_graph(nodes, edges, on)
    return MappingProblem(graph=graph, objective=objective, devices=devices(
        on, LinkCosts(latency_s=0.5, bandwidth_bytes_per_s=2.0), serial=serial))


def test_a_chain_computes_and_waits() -> None:
    problem = chain(LATENCY)
    report = best_mapping(problem, effort=0.05)
    assert report.value_s == 2.0 + 2.0 + 2.0 + 1.0 + 4.0
    assert report.explanation[0] == (
        "The longest chain of causes computes 10 s and waits 1 s for transfers, of 11 s.")
    assert report.explanation[1:] == ("'tiny' left idle: it cannot run or hold any part.",)


def test_the_fullest_device_is_named() -> None:
    problem = chain(THROUGHPUT, serial=True)
    report = best_mapping(problem, effort=0.05)
    assert report.best is not None
    assert report.value_s == 7.0
    assert explanation(problem, report.best)[0] == (
        "'fast' has the largest load: it computes 6 s and transfers 1 s.")
