"""The reference placer's own answers, hand-worked cases, and soundness on random problems.

The toy graphs are those of the public repository chiragcshetty/BaechiPyTorch
(`baechi_core/placer/dummy_graphs.py`): node seconds and bytes, and edges with the transfer time of
their tensor. Answers: that repository's placer, its linear program solved by HiGHS.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pytest

from dag.mapping.build import DeviceCosts, EdgeCosts, LinkCosts, NodeCosts, cost_graph, devices
from dag.mapping.judge import value
from dag.mapping.paths import places
from dag.mapping.problem import LATENCY, Mapping, MappingProblem, Unmapped
from dag.mapping.verify import verify
from dag.placers.etf import m_etf
from dag.placers.event_schedule import schedule
from dag.placers.sct import Relaxed, favourites, m_sct, relaxed
from dag.placers.topo import breadth_first, m_topo
from tests.dag.mapping.conftest import random_problem
from tests.dag.placers.plain_schedule import PlainSchedule

AMPLE = 1e9
Placer = Callable[[MappingProblem], Mapping | Unmapped]


@dataclass(frozen=True)
class Toy:
    """A graph: seconds and bytes of each node, edges (source, target, transfer seconds)."""

    count: int
    seconds: tuple[float, ...]
    bytes: tuple[float, ...]
    edges: tuple[tuple[int, int, float], ...]

    def problem(self, memory: float, *, serial: bool = False) -> MappingProblem:
        on = [DeviceCosts(id=f"d{n}", memory_bytes=memory) for n in range(self.count)]
        nodes = [
            NodeCosts(id=f"{n}", compute_s=seconds, persistent_bytes=self.bytes[n])
            for n, seconds in enumerate(self.seconds)]
        edges = [EdgeCosts(src=f"{a}", dst=f"{b}", bytes=taken) for a, b, taken in self.edges]
        graph, _ = cost_graph(nodes, edges, on)
        link = LinkCosts(latency_s=0.0, bandwidth_bytes_per_s=1.0)
        return MappingProblem(
            graph=graph, objective=LATENCY, devices=devices(on, link, serial=serial))


FIG1 = Toy(2, (1, 3, 3, 1, 3, 1), (1, 2, 2, 1, 1, 1), (
    (0, 1, 1), (0, 4, 1), (1, 2, 1), (2, 3, 1), (4, 5, 1), (5, 3, 1)))
FIG2 = Toy(2, (5, 4, 7, 4), (0.1,) * 4, ((0, 2, 1), (1, 2, 3), (1, 3, 1)))
FIG21 = Toy(2, (9, 9, 8, 5, 6, 4), (0.1,) * 6, ((0, 2, 2), (1, 2, 3), (1, 3, 1), (4, 5, 3)))
FIG3 = Toy(3, (6, 7, 9, 8, 10, 6, 6, 10, 6), (0.01,) * 9, (
    (0, 2, 1), (0, 3, 5), (0, 4, 2), (1, 2, 1), (1, 3, 1), (1, 4, 1), (2, 5, 5), (2, 6, 3),
    (3, 5, 4), (3, 6, 1), (3, 7, 5), (4, 8, 1)))

TIGHT_FIG1 = (9, (0, 0, 1, 1, 1, 0), (0, 1, 5, 8, 2, 6))
ROOMY_FIG1 = (8, (0, 0, 0, 0, 1, 1), (0, 1, 4, 7, 2, 5))
BOTH_FIG2 = (14, (0, 1, 0, 1), (0, 0, 7, 4))
ETF_FIG21 = (22, (0, 1, 1, 1, 0, 0), (0, 0, 14, 9, 9, 15))
SCT_FIG21 = (24, (0, 1, 1, 0, 0, 0), (0, 0, 11, 19, 9, 15))
ETF_FIG3 = (29, (0, 1, 1, 0, 2, 1, 1, 0, 2), (0, 0, 7, 8, 8, 23, 17, 16, 18))
SCT_FIG3 = (30, (0, 1, 1, 0, 2, 1, 2, 0, 2), (0, 0, 7, 8, 8, 20, 24, 16, 18))

# The optimum of the linear program is unique for FIG1; for FIG2 any optimum leads to one schedule.
# For FIG21 (edge 4 -> 5) and FIG3 (five edges) another optimum would lead to 23 and to 29: those
# two hold for the vertex that HiGHS finds.
ANSWERS = [
    (m_etf, FIG1, 4.0, TIGHT_FIG1), (m_etf, FIG1, AMPLE, ROOMY_FIG1),
    (m_sct, FIG1, 4.0, TIGHT_FIG1), (m_sct, FIG1, AMPLE, ROOMY_FIG1),
    *((placer, FIG2, memory, BOTH_FIG2) for placer in (m_etf, m_sct) for memory in (4.0, AMPLE)),
    *((m_etf, FIG21, memory, ETF_FIG21) for memory in (4.0, AMPLE)),
    *((m_sct, FIG21, memory, SCT_FIG21) for memory in (4.0, AMPLE)),
    *((m_etf, FIG3, memory, ETF_FIG3) for memory in (4.0, AMPLE)),
    *((m_sct, FIG3, memory, SCT_FIG3) for memory in (4.0, AMPLE))]


def ends(problem: MappingProblem, found: Mapping) -> float:
    """Makespan of the algorithm's own schedule."""
    seconds = problem.seconds()[np.arange(problem.graph.nodes), found.device]
    return float((found.start_s + seconds).max())


def mapped(answer: Mapping | Unmapped) -> Mapping:
    assert isinstance(answer, Mapping), answer
    return answer


@pytest.mark.parametrize(("placer", "toy", "memory", "answer"), ANSWERS)
def test_the_reference_placers_answers(
    placer: Placer, toy: Toy, memory: float,
    answer: tuple[float, tuple[int, ...], tuple[float, ...]],
) -> None:
    problem = toy.problem(memory)
    found = mapped(placer(problem))
    assert verify(found, problem) == ()
    assert (ends(problem, found), tuple(found.device), tuple(found.start_s)) == answer
    assert value(problem, found) == answer[0]


@pytest.mark.parametrize(
    ("toy", "makespan"), [(FIG1, 8.0), (FIG2, 12.5), (FIG21, 18.2), (FIG3, 77 / 3)])
def test_the_relaxed_makespans(toy: Toy, makespan: float) -> None:
    solved = relaxed(toy.problem(AMPLE))
    assert isinstance(solved, Relaxed)
    assert solved.makespan_s == pytest.approx(makespan, rel=1e-9)


@pytest.mark.parametrize("unit", [1e-7, 1e7])
def test_the_unit_of_time_does_not_matter_to_the_solver(unit: float) -> None:
    scaled = Toy(
        FIG21.count, tuple(unit * t for t in FIG21.seconds), FIG21.bytes,
        tuple((a, b, unit * taken) for a, b, taken in FIG21.edges))
    assert ends(scaled.problem(AMPLE), mapped(m_sct(scaled.problem(AMPLE)))) == pytest.approx(
        24 * unit)


def test_the_command_lines_threshold_gives_another_answer() -> None:
    problem = FIG21.problem(AMPLE)
    assert ends(problem, mapped(m_sct(problem, threshold=0.1))) == 22.0


def test_the_last_favourite_edge_wins_and_leaves_the_former_parent_without() -> None:
    solved = Relaxed(
        np.array([0, 0, 1]), np.array([2, 3, 3]), np.array([0.5, 0.25, 0.5]), 1.0)
    assert favourites(solved, 4, 0.5).tolist() == [-1, 3, -1, -1]
    assert favourites(solved, 4, 0.3).tolist() == [3, -1, -1, -1]


def test_an_awake_device_leaves_other_work_alone() -> None:
    """At 3 device 0 has run 0, whose favourite child 2 can start there at 4, when 1's tensor comes.

    Greedily it takes 3 meanwhile. Awake it would only if 3 could start everywhere by now, but 0's
    tensor reaches device 1 at 8. (The program: 0 -> 2 is 0.4 apart, 0 -> 3 is 0.6.)
    """
    toy = Toy(2, (3, 2, 4, 3), (0,) * 4, ((0, 2, 5), (0, 3, 5), (1, 2, 2)))
    problem = toy.problem(AMPLE)
    greedy, waiting = mapped(m_etf(problem)), mapped(m_sct(problem))
    assert (greedy.device.tolist(), greedy.start_s.tolist()) == ([0, 1, 0, 0], [0, 0, 6, 3])
    assert (waiting.device.tolist(), waiting.start_s.tolist()) == ([0, 1, 0, 0], [0, 0, 4, 8])


def test_serial_channels_send_one_tensor_at_a_time_and_none_twice() -> None:
    """Nodes 0 to 2 go to own devices; what 1 and 2 send to device 0 has to queue there.

    3 reads both: from 1 (2 s) at 1 to 3, then from 2 (2 s) at 3 to 5. 4 reads 1 as well, whose
    tensor device 0 has already.
    """
    toy = Toy(3, (1, 1, 1, 1, 1), (0,) * 5, ((0, 3, 9), (1, 3, 2), (2, 3, 2), (3, 4, 9), (1, 4, 2)))
    overlapping = mapped(m_etf(toy.problem(AMPLE)))
    assert overlapping.start_s.tolist() == [0, 0, 0, 3, 4]
    problem = toy.problem(AMPLE, serial=True)
    found = mapped(m_etf(problem))
    assert verify(found, problem) == ()
    assert (found.device.tolist(), found.start_s.tolist()) == ([0, 1, 2, 0, 0], [0, 0, 0, 5, 6])


@pytest.mark.parametrize(("serial", "start"), [(False, 4.0), (True, 7.0)])
def test_all_tensors_of_one_edge_are_sent(serial: bool, start: float) -> None:
    """0 and 1 end on d0 at 1 and 2; d1 needs 2 s and 3 s of tensors from 0, and 1 s from 1."""
    on = [DeviceCosts(id=f"d{n}", memory_bytes=AMPLE) for n in range(2)]
    nodes = [NodeCosts(id=f"{n}", compute_s=1.0, pin=f"d{at}") for n, at in enumerate("001")]
    edges = [EdgeCosts(src=f"{a}", dst="2", bytes=taken) for a, taken in ((0, 2), (1, 1), (0, 3))]
    graph, _ = cost_graph(nodes, edges, on)
    problem = MappingProblem(graph=graph, objective=LATENCY, devices=devices(
        on, LinkCosts(latency_s=0.0, bandwidth_bytes_per_s=1.0), serial=serial))
    for placer in (m_etf, m_sct):
        assert mapped(placer(problem)).start_s.tolist() == [0.0, 1.0, start]


def test_topo_fills_equal_shares_in_breadth_first_order() -> None:
    """Orders 0 1 4 2 5 3 with bytes 1 2 1 2 1 1; a share is 8 / 2 + 2 = 6 bytes."""
    problem = FIG1.problem(AMPLE)
    assert breadth_first(problem.graph).tolist() == [0, 1, 4, 2, 5, 3]
    found = mapped(m_topo(problem))
    assert found.device.tolist() == [0, 0, 0, 1, 0, 1]
    assert found.start_s.tolist() == [0, 1, 7, 11, 4, 8]
    assert verify(found, problem) == ()


def test_topo_keeps_to_the_memory_there_is() -> None:
    """With 5 bytes each, device 0 takes 1 + 2 + 1; the next 2 close it."""
    assert mapped(m_topo(FIG1.problem(5.0))).device.tolist() == [0, 0, 1, 1, 0, 1]
    refused = m_topo(FIG1.problem(3.9))
    assert isinstance(refused, Unmapped)
    assert refused.reason == "no device has room left for node '5'"


@pytest.mark.parametrize("serial", [False, True])
@pytest.mark.parametrize("placer", [m_topo, m_etf, m_sct])
@pytest.mark.parametrize("seed", range(40))
def test_random_problems(placer: Placer, seed: int, serial: bool) -> None:
    problem = random_problem(seed, nodes=14, serial=serial, memory=10.0)
    found = placer(problem)
    if isinstance(found, Unmapped):
        assert "no device has room left" in found.reason
        return
    assert verify(found, problem) == (), f"seed {seed}"
    again = mapped(placer(random_problem(seed, nodes=14, serial=serial, memory=10.0)))
    assert np.array_equal(found.device, again.device)
    assert np.array_equal(found.start_s, again.start_s)


@pytest.mark.parametrize("serial", [False, True])
@pytest.mark.parametrize("equal", [False, True])
@pytest.mark.parametrize("seed", range(30))
def test_plain_python_makes_the_same_schedule(seed: int, equal: bool, serial: bool) -> None:
    """With random favourites; where devices are equal also with nodes that take no time."""
    draw = random.Random(seed)
    problem = random_problem(seed, nodes=16, serial=serial, memory=(12.0, 100.0)[seed % 2])
    if equal:
        link = LinkCosts(latency_s=0.25, bandwidth_bytes_per_s=2.0)
        on = [DeviceCosts(id=name, memory_bytes=float(problem.devices.memory_bytes[0]))
              for name in problem.devices.ids]
        seconds = np.array([[float(draw.choice([0, 1, 1, 2, 3]))] for _ in range(16)])
        problem = MappingProblem(
            graph=replace(problem.graph, compute_s=seconds), objective=LATENCY,
            devices=devices(on, link, serial=serial))
    graph = problem.graph
    child = np.full(graph.nodes, -1, dtype=np.int64)
    for edge in range(graph.edges):
        if draw.random() < 0.6:
            child[graph.edge_source[edge]] = graph.edge_target[edge]
    rank = places(breadth_first(graph)).tolist()
    plain = PlainSchedule(problem, rank, child.tolist())
    plain.run()
    found = schedule(problem, child, "x")
    if isinstance(found, Unmapped):
        assert len(plain.start) < graph.nodes
        return
    assert found.device.tolist() == [plain.device[n] for n in range(graph.nodes)], f"seed {seed}"
    assert found.start_s.tolist() == [plain.start[n] for n in range(graph.nodes)], f"seed {seed}"


@pytest.mark.parametrize("placer", [m_topo, m_etf, m_sct])
def test_no_room_is_said(placer: Placer) -> None:
    refused = placer(random_problem(3, memory=1.0))
    assert isinstance(refused, Unmapped)
    assert "no device has room left for node" in refused.reason
