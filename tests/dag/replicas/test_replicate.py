"""Pipelines of chains and their replicas: cases worked by hand, and what must hold for any."""

from __future__ import annotations

import os
import random
import subprocess
import sys

import numpy as np
import pytest

from dag.mapping.build import DeviceCosts, EdgeCosts, LinkCosts, NodeCosts, cost_graph, devices
from dag.mapping.problem import THROUGHPUT, MappingProblem
from dag.placement import Refusal
from dag.replicas.chain_pipeline import ChainPlanner, Pipeline
from dag.replicas.exchange import all_reduce_s, exchange_s
from dag.replicas.replicate import Replicated, groupings, replicate, share
from dag.schedule import SegmentTimes, Transfer, timeline
from homespun.errors import Code, HomespunError

FREE = LinkCosts(latency_s=0.0, bandwidth_bytes_per_s=1e12)


def chain(
    forward_s, backward_s, on, link=FREE, *, links=None, cut=0.0, persistent=1.0, kept=0.0
) -> MappingProblem:
    """A chain of nodes with these seconds; `cut` bytes between neighbours."""
    nodes = [
        NodeCosts(id=f"n{n}", compute_s=f, backward_s=b, persistent_bytes=persistent,
                  output_bytes=kept)
        for n, (f, b) in enumerate(zip(forward_s, backward_s, strict=True))]
    edges = [EdgeCosts(src=f"n{n}", dst=f"n{n + 1}", bytes=cut) for n in range(len(nodes) - 1)]
    graph, _ = cost_graph(nodes, edges, on)
    return MappingProblem(
        graph=graph, devices=devices(on, link, links), objective=THROUGHPUT)


def peers(count, memory=100.0, speed=1.0):
    return [DeviceCosts(id=f"d{n}", memory_bytes=memory, speed=speed) for n in range(count)]


def run(problem, microbatches, gradients=None, most=None):
    return replicate(problem.devices, microbatches, ChainPlanner(problem), gradients, most)


# --- one pipeline --------------------------------------------------------------------------------


def test_two_stages_by_hand():
    # Stage 1 + 2 s, 1 s latency each way, 4 bytes at 2 bytes/s each way: once 3 + 6 + 3, period
    # max(3, 4 busy, round trip 12 / window).
    problem = chain([1.0, 1.0], [2.0, 2.0], peers(2, memory=1.0 + 6 * 4.0), LinkCosts(
        latency_s=1.0, bandwidth_bytes_per_s=2.0), cut=4.0, kept=4.0)
    pipeline = ChainPlanner(problem).pipeline([0, 1], [0, 1, 2])
    assert pipeline.stage_s.tolist() == [3.0, 3.0]
    assert pipeline.link_s.tolist() == [4.0]
    assert pipeline.window.tolist() == [6, 3]  # the second stage keeps what it received, too
    assert (pipeline.once_s, pipeline.period_s, pipeline.limit) == (12.0, 4.0, "link")
    assert pipeline.seconds(5) == 12.0 + 4 * 4.0


def test_little_memory_makes_the_pipeline_wait_for_the_round_trip():
    problem = chain([1.0, 1.0], [2.0, 2.0], peers(2, memory=9.0), LinkCosts(
        latency_s=1.0, bandwidth_bytes_per_s=2.0), cut=4.0, kept=4.0)
    pipeline = ChainPlanner(problem).pipeline([0, 1], [0, 1, 2])
    assert (pipeline.window.tolist(), pipeline.period_s, pipeline.limit) == ([2, 1], 6.0, "window")


def test_inference_sends_one_way_and_waits_for_nothing():
    problem = chain([1.0, 1.0], [0.0, 0.0], peers(2, memory=9.0), LinkCosts(
        latency_s=1.0, bandwidth_bytes_per_s=2.0), cut=4.0, kept=4.0)
    pipeline = ChainPlanner(problem).pipeline([0, 1], [0, 1, 2])
    assert (pipeline.once_s, pipeline.period_s, pipeline.limit) == (5.0, 2.0, "link")


def test_a_slow_link_leaves_devices_idle():
    slow = LinkCosts(latency_s=0.0, bandwidth_bytes_per_s=1.0)
    assert len(_planned(chain([1.0] * 4, [2.0] * 4, peers(4), slow, cut=10.0)).devices) == 1
    assert len(_planned(chain([1.0] * 4, [2.0] * 4, peers(4), slow, cut=0.01)).devices) == 4


def _planned(problem: MappingProblem, microbatches: int = 100) -> Pipeline:
    found = ChainPlanner(problem)(range(problem.devices.count), microbatches)
    assert isinstance(found, Pipeline)
    return found


def test_a_chain_too_large_is_refused_with_bytes():
    problem = chain([1.0] * 4, [2.0] * 4, peers(2, memory=1.5))
    refusal = ChainPlanner(problem)([0, 1], 8)
    assert isinstance(refusal, Refusal)
    assert (refusal.rule, refusal.wanted, refusal.had) == ("memory", 4.0, 3.0)


def test_only_chains_without_bindings_are_taken():
    on = peers(2)
    graph, _ = cost_graph([NodeCosts(id=name, compute_s=1.0) for name in "abc"], [
        EdgeCosts(src="a", dst="b", bytes=1.0), EdgeCosts(src="a", dst="c", bytes=1.0)], on)
    pinned, _ = cost_graph([NodeCosts(id="a", compute_s=1.0, pin="d1")], [], on)
    for one in (graph, pinned):
        with pytest.raises(HomespunError) as caught:
            ChainPlanner(MappingProblem(
                graph=one, devices=devices(on, FREE), objective=THROUGHPUT))
        assert caught.value.code is Code.INVALID_ARGUMENT


def _played(problem: MappingProblem, pipeline: Pipeline, microbatches: int) -> float:
    """The same by the event-driven timeline, whose links carry both directions at once."""
    graph = problem.graph
    cuts = [float(graph.tensor_bytes[end - 1]) for end in pipeline.bounds[1:-1]]
    times = [
        SegmentTimes(forward_s=float(graph.compute_s[n, 0]), backward_s=float(
            graph.backward_s[n, 0]), in_flight=int(min(microbatches, window)))
        for n, window in enumerate(pipeline.window)]
    latency_s = problem.devices.latency_s[0, 1]
    transfers = [Transfer(
        source=n, target=n + 1, forward_s=cut, backward_s=cut, forward_latency_s=latency_s,
        backward_latency_s=latency_s) for n, cut in enumerate(cuts)]
    return timeline(times, transfers, microbatches).pipeline_s


@pytest.mark.parametrize("memory", [601.0, 1801.0])
@pytest.mark.parametrize("latency_s", [0.0, 0.5, 5.0])
@pytest.mark.parametrize("cut", [0.1, 1.4])
def test_closed_form_agrees_with_the_timeline_for_equal_stages(cut, latency_s, memory):
    problem = chain([1.0] * 8, [2.0] * 8, peers(8, memory=memory), LinkCosts(
        latency_s=latency_s, bandwidth_bytes_per_s=1.0), cut=cut, kept=60.0)
    pipeline = ChainPlanner(problem).pipeline(range(8), range(9))
    assert pipeline.seconds(400) == pytest.approx(_played(problem, pipeline, 400), rel=0.12)


@pytest.mark.parametrize("seed", range(12))
def test_closed_form_is_a_lower_bound_for_unequal_stages_with_small_windows(seed):
    draw = random.Random(seed)
    count = draw.randint(2, 6)
    problem = chain(
        [draw.uniform(0.5, 1.5) for _ in range(count)],
        [draw.uniform(1.0, 3.0) for _ in range(count)],
        peers(count, memory=1 + draw.choice([60.0, 120.0, 600.0])),
        LinkCosts(latency_s=draw.choice([0.0, 0.3, 3.0]), bandwidth_bytes_per_s=1.0),
        cut=draw.choice([0.1, 0.3, 1.5]), kept=10.0)
    pipeline = ChainPlanner(problem).pipeline(range(count), range(count + 1))
    ratio = _played(problem, pipeline, 400) / pipeline.seconds(400)
    assert 0.97 < ratio < 1.35, f"seed {seed}"


# --- summing gradients ---------------------------------------------------------------------------


def test_all_reduce_by_hand():
    assert all_reduce_s(1, 100.0, 1.0, 10.0) == 0.0
    # Two: ring 2 * (1 + 50 / 10) = 12, tree 2 * (1 + 10) = 22.
    assert all_reduce_s(2, 100.0, 1.0, 10.0) == 12.0
    # Eight, tiny: ring 14 * (1 + 1 / 8) = 15.75, tree 6 * (1 + 1) = 12.
    assert all_reduce_s(8, 1.0, 1.0, 1.0) == 12.0


def test_replicas_with_different_cuts_exchange_stretch_by_stretch():
    on = devices(peers(4), LinkCosts(latency_s=0.0, bandwidth_bytes_per_s=1.0), {
        ("d0", "d2"): LinkCosts(latency_s=0.0, bandwidth_bytes_per_s=0.5)})
    # Stretches: node 0 on d0 and d2 (slow: 2 * 4 / 2 / 0.5 = 8 s), node 1 on d0 and d3 (4 s), node
    # 2 on d1 and d3 (4 s); d0 is busy for the first two.
    held = [((0, 1), (0, 2, 3)), ((2, 3), (0, 1, 3))]
    assert exchange_s(on, held, np.full(3, 4.0)) == 12.0


# --- replicas ------------------------------------------------------------------------------------


def test_what_cannot_be_cut_is_replicated():
    found = run(chain([1.0], [2.0], peers(4)), 12)
    assert isinstance(found, Replicated)
    assert [one.microbatches for one in found.replicas] == [3, 3, 3, 3]
    assert (found.step_s, found.microbatches_per_s) == (9.0, 12 / 9.0)


def test_a_costly_exchange_is_not_worth_a_replica():
    slow = LinkCosts(latency_s=0.0, bandwidth_bytes_per_s=1.0)
    problem = chain([1.0], [2.0], peers(2), slow)
    cheap = run(problem, 4, np.array([5.0]))  # 6 + 5 instead of 12
    dear = run(problem, 4, np.array([7.0]))
    assert isinstance(cheap, Replicated)
    assert isinstance(dear, Replicated)
    assert (len(cheap.replicas), cheap.exchange_s, cheap.step_s) == (2, 5.0, 11.0)
    assert (len(dear.replicas), dear.exchange_s, dear.step_s) == (1, 0.0, 12.0)
    assert [(one.subject, one.rule) for one in dear.refused] == [
        ("2 replicas", "slower"), ("d1", "count")]
    assert "exchange" in dear.refused[0].text


def test_the_batch_is_shared_by_speed():
    on = [DeviceCosts(id="d0", memory_bytes=9.0, speed=2.0),
          DeviceCosts(id="d1", memory_bytes=9.0, speed=1.0)]
    found = run(chain([1.0], [1.0], on), 12)
    assert isinstance(found, Replicated)
    assert [one.microbatches for one in found.replicas] == [8, 4]
    assert found.flow_s == 8.0


def test_a_replica_without_a_share_takes_no_part():
    on = [DeviceCosts(id="d0", memory_bytes=9.0, speed=1.0),
          DeviceCosts(id="d1", memory_bytes=9.0, speed=0.01)]
    found = run(chain([1.0], [1.0], on), 4, np.array([1.0]))
    assert isinstance(found, Replicated)
    assert [one.pipeline.devices for one in found.replicas] == [(0,)]
    assert any(one.subject == "d1" for one in found.refused)


def test_memory_bounds_the_number_of_replicas():
    found = run(chain([1.0] * 4, [2.0] * 4, peers(4, memory=2.5)), 16)
    assert isinstance(found, Replicated)
    assert [len(one.pipeline.devices) for one in found.replicas] == [2, 2]
    refused = {one.subject: one.rule for one in found.refused}
    assert refused == {"1 replica": "slower", "3 replicas": "memory", "4 replicas": "memory"}


def test_groups_are_well_linked_inside():
    on = peers(4)
    near = LinkCosts(latency_s=0.0, bandwidth_bytes_per_s=100.0)
    links = {(f"d{a}", f"d{b}"): near for a, b in ((0, 2), (2, 0), (1, 3), (3, 1))}
    problem = chain([1.0] * 2, [2.0] * 2, on, LinkCosts(
        latency_s=1.0, bandwidth_bytes_per_s=1.0), links=links, cut=10.0, persistent=60.0)
    assert [[0, 2], [1, 3]] in groupings(problem.devices, 2)
    found = run(problem, 8, np.array([1.0, 1.0]))
    assert isinstance(found, Replicated)
    assert sorted(sorted(one.pipeline.devices) for one in found.replicas) == [[0, 2], [1, 3]]


def test_nothing_fits():
    refusal = run(chain([1.0] * 4, [2.0] * 4, peers(2, memory=1.5)), 8)
    assert isinstance(refusal, Refusal)
    assert (refusal.subject, refusal.rule, refusal.had) == ("1 replica", "memory", 3.0)


@pytest.mark.parametrize("seed", range(15))
def test_what_holds_for_any_fleet(seed):
    problem, gradients, microbatches = _drawn(seed)
    found = run(problem, microbatches, gradients)
    alone = run(problem, microbatches, gradients, most=1)
    if isinstance(found, Refusal):
        assert isinstance(alone, Refusal), f"seed {seed}"
        return
    if isinstance(alone, Replicated):
        assert found.microbatches_per_s >= alone.microbatches_per_s * (1 - 1e-12), f"seed {seed}"
    used = [device for one in found.replicas for device in one.pipeline.devices]
    assert len(set(used)) == len(used) == found.devices
    assert sum(one.microbatches for one in found.replicas) == microbatches
    for one in found.replicas:
        _assert_memory_is_kept(problem, one.pipeline, one.microbatches, seed)
    idle = {one.subject for one in found.refused} & set(problem.devices.ids)
    assert len(idle) + len(used) == problem.devices.count


def _assert_memory_is_kept(problem, pipeline, microbatches, seed):
    """Every stage with as many microbatches as 1F1B admits, counted anew."""
    graph, stages = problem.graph, len(pipeline.devices)
    for stage, device in enumerate(pipeline.devices):
        nodes = range(pipeline.bounds[stage], pipeline.bounds[stage + 1])
        received = 0.0 if stage == 0 else float(graph.tensor_bytes[nodes[0] - 1])
        each = sum(float(graph.output_bytes[n]) for n in nodes) + received
        held = min(int(pipeline.window[stage]), microbatches, stages - stage)
        total = sum(float(graph.persistent_bytes[n]) for n in nodes) + held * each
        assert total <= problem.devices.memory_bytes[device] + 1, f"seed {seed}"
        assert held == min(microbatches, stages - stage), f"seed {seed}"


def _drawn(seed: int):
    draw = random.Random(seed)
    on = [DeviceCosts(id=f"d{n}", memory_bytes=draw.choice([12.0, 30.0, 60.0]),
                      speed=draw.choice([0.5, 1.0, 3.0])) for n in range(draw.randint(2, 7))]
    links = {
        (a.id, b.id): LinkCosts(latency_s=draw.choice([0.0, 0.2]),
                                bandwidth_bytes_per_s=draw.choice([0.5, 2.0, 20.0]))
        for a in on for b in on if a is not b}
    size = draw.randint(3, 9)
    problem = chain(
        [draw.uniform(0.5, 2.0) for _ in range(size)],
        [draw.uniform(1.0, 4.0) for _ in range(size)], on, links=links,
        cut=draw.choice([0.5, 2.0]), persistent=draw.choice([1.0, 4.0]), kept=0.5)
    return problem, np.full(size, draw.choice([0.1, 2.0])), draw.randint(2, 20)


def test_shares_of_equal_pipelines_differ_by_one_at_most():
    problem = chain([1.0], [1.0], peers(3))
    planner = ChainPlanner(problem)
    assert share([planner.pipeline([n], [0, 1]) for n in range(3)], 11) == [4, 4, 3]


DESCRIBE = """
from tests.dag.replicas.test_replicate import _drawn, run
for seed in range(6):
    found = run(*[_drawn(seed)[n] for n in (0, 2, 1)])
    print(repr(found.refused if hasattr(found, "refused") else found))
    for one in getattr(found, "replicas", ()):
        print(one.microbatches, one.pipeline.devices, one.pipeline.bounds)
"""


def test_equal_in_every_process():
    answers = {
        subprocess.run(
            [sys.executable, "-c", DESCRIBE], capture_output=True, text=True, check=True,
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": os.getcwd()}).stdout
        for seed in ("0", "1")}
    assert len(answers) == 1
    assert "slower" in answers.pop()
