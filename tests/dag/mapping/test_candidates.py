"""Choosing a few of many devices, with the reason for each that is left out."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from dag.mapping.build import DeviceCosts, EdgeCosts, LinkCosts, NodeCosts, cost_graph, devices
from dag.mapping.candidates import chosen_devices, restricted, widened
from dag.mapping.judge import loads, makespan, peak_bytes
from dag.mapping.problem import LATENCY, THROUGHPUT, Mapping, MappingProblem, Objective
from tests.dag.mapping.conftest import random_problem

FAST = LinkCosts(latency_s=0.0, bandwidth_bytes_per_s=1e6)
SLOW = LinkCosts(latency_s=5.0, bandwidth_bytes_per_s=1.0)


def chain(
    on: list[DeviceCosts], objective: Objective = LATENCY,
    links: dict[tuple[str, str], LinkCosts] | None = None, **first: object,
) -> MappingProblem:
    """Eight nodes of 1 s and 10 bytes each."""
    nodes = [NodeCosts(id="n0", compute_s=1.0, output_bytes=10.0, **first)]  # type: ignore[arg-type]
    nodes += [NodeCosts(id=f"n{n}", compute_s=1.0, output_bytes=10.0) for n in range(1, 8)]
    edges = [EdgeCosts(src=f"n{n}", dst=f"n{n + 1}", bytes=10.0) for n in range(7)]
    return MappingProblem(
        graph=cost_graph(nodes, edges, on)[0], objective=objective,
        devices=devices(on, SLOW, links))


def device(name: str, speed: float = 1.0, memory: float = 1e3) -> DeviceCosts:
    return DeviceCosts(id=name, speed=speed, memory_bytes=memory)


def reasons(problem: MappingProblem, most: int) -> dict[str, str]:
    return {refusal.subject: refusal.rule
            for refusal in chosen_devices(problem, most).left_out}


def test_fast_devices_come_first_and_slow_ones_are_left_out_for_speed() -> None:
    problem = chain([device("slow", 0.1), device("fast", 9.0), device("middle", 3.0)], THROUGHPUT)
    chosen = chosen_devices(problem, 2)
    assert chosen.devices.tolist() == [1, 2]
    (refusal,) = chosen.left_out
    assert (refusal.subject, refusal.rule) == ("slow", "speed")
    assert refusal.had == pytest.approx(40.0)
    assert refusal.wanted == pytest.approx(8 / 3 / 2)


def test_a_well_connected_device_is_taken_before_a_faster_distant_one() -> None:
    links = {("a", "near"): FAST, ("near", "a"): FAST}
    on = [device("a", 4.0), device("far", 2.0), device("near", 1.9)]
    problem = chain(on, links=links)
    assert chosen_devices(problem, 2).devices.tolist() == [0, 2]
    assert reasons(problem, 2) == {"far": "link"}


def test_links_do_not_count_for_throughput_without_contention() -> None:
    links = {("a", "near"): FAST, ("near", "a"): FAST}
    problem = chain([device("a", 4.0), device("far", 2.0), device("near", 1.9)], THROUGHPUT, links)
    assert chosen_devices(problem, 2).devices.tolist() == [0, 1]


def test_what_can_hold_no_node_is_left_out_for_memory() -> None:
    problem = chain([device("tiny", 9.0, 5.0), device("a")])
    assert reasons(problem, 2) == {"tiny": "memory"}


def test_more_devices_are_taken_until_they_hold_the_graph() -> None:
    problem = chain([device("a", 9.0, 40.0), device("b", 8.0, 40.0), device("c", 1.0, 50.0),
                     device("d", 1.0, 60.0)])
    assert chosen_devices(problem, 1).devices.tolist() == [0, 3]


def test_pins_and_rare_abilities_are_kept() -> None:
    on = [device("a", 9.0), device("b", 1.0), device("c", 1.0)]
    assert 2 in chosen_devices(chain(on, pin="c"), 1).devices
    nodes = [NodeCosts(id="x", compute_s={"b": 1.0}), NodeCosts(id="y", compute_s={"a": 1.0})]
    graph, _ = cost_graph(nodes, [], on)
    problem = MappingProblem(
        graph=graph, objective=LATENCY, devices=devices(on, FAST, by_device=True))
    assert set(chosen_devices(problem, 1).devices.tolist()) == {0, 1}


@pytest.mark.parametrize("seed", range(20))
def test_a_restricted_problem_costs_what_the_whole_one_does(seed: int) -> None:
    problem = random_problem(seed, nodes=15, count=6, serial=seed % 2 == 0)
    row = np.full(len(problem.graph.tensor_bytes), -1)
    row[:2] = [0, 1]
    over = np.random.default_rng(seed).uniform(1.0, 2.0, (2, 6, 6))
    problem = replace(problem, graph=replace(problem.graph, override_row=row, override_s=over))
    few = np.array([4, 0, 2])
    small = restricted(problem, few)
    assert (small.graph.pin[problem.graph.pin == 0] == 1).all()
    drawn = np.random.default_rng(seed).integers(0, 3, 15)
    total, start = makespan(small, drawn)
    mapping = widened(Mapping(algorithm="any", device=drawn, start_s=start), few)
    assert makespan(problem, mapping.device)[0] == pytest.approx(total)
    np.testing.assert_allclose(loads(problem, mapping.device)[few], loads(small, drawn))
    np.testing.assert_allclose(peak_bytes(problem, mapping.device)[few], peak_bytes(small, drawn))


def test_every_device_is_chosen_or_has_a_reason() -> None:
    for seed in range(10):
        problem = random_problem(seed, nodes=20, count=12)
        chosen = chosen_devices(problem, 4)
        names = {problem.devices.ids[number] for number in chosen.devices.tolist()}
        assert names.isdisjoint(refusal.subject for refusal in chosen.left_out)
        assert len(names) + len(chosen.left_out) == 12
