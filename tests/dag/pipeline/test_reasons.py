"""Why a peer is idle, and why a job cannot be planned."""

from dataclasses import replace

import pytest

from dag.pipeline.feasible import Feasibility
from dag.pipeline.reasons import IdlePeers, out_of_memory, too_few_cuts, too_few_peers
from dag.planner import plan


def test_peers_missing(world):
    problem = world.uniform(peers=(1.0, 1.0))
    assert too_few_peers(problem, 2) is None
    assert too_few_peers(problem, 0).wanted == 1
    three = replace(problem, job=replace(problem.job, peers=3))
    assert "3 peers, and 2 are available." in too_few_peers(three, 2).text
    assert "1 are available and can run a part of it, of 2." in too_few_peers(three, 1).text


def test_cuts_missing(world):
    problem = world.uniform()
    refusal = too_few_cuts(replace(problem, job=replace(problem.job, peers=7)), 3)
    assert (refusal.wanted, refusal.had) == (7, 3)


def test_bytes_missing_are_named_for_each_peer_and_together(world, parts_of):
    problem = world.with_memory(world.uniform(peers=(1.0, 1.0)), 1000)
    tables = parts_of(problem).tables
    first, second, whole = out_of_memory(problem, tables, (0, 1), [(0, 1, 10), (1, 0, 20)])
    assert [(r.subject, r.wanted, r.had) for r in (first, second)] == [
        ("peer_1", 1010, 1000), ("peer_0", 1020, 1000)]
    assert (whole.subject, whole.had) == (problem.job.name, 2000)
    assert "30 bytes are missing" in whole.text


@pytest.fixture
def idle(world, parts_of):
    problem = world.uniform(layers=2, peers=(1.0, 1.0, 1.0))
    tables = parts_of(problem).tables

    def made(pool=(0, 1, 2), with_peer_s=None, of=problem):
        return IdlePeers(of, Feasibility(of), pool, tables, lambda peer: with_peer_s)
    return made


def test_slower_with_it(idle):
    refusal = idle(with_peer_s=3.0).reason(2, used=2, step_s=2.0, runs_all=True)
    assert (refusal.subject, refusal.rule, refusal.wanted, refusal.had) == (
        "peer_2", "slower", 2.0, 3.0)
    assert "3 s instead of 2 s" in refusal.text


def test_not_considered(idle):
    refusal = idle(pool=(0, 1)).reason(2, used=2, step_s=2.0, runs_all=True)
    assert (refusal.rule, refusal.had) == ("count", 2)
    assert "most promising" in refusal.text


def test_as_many_segments_as_blocks(idle):
    refusal = idle().reason(2, used=5, step_s=2.0, runs_all=True)
    assert "cannot be cut into more than 5 segments" in refusal.text


def test_no_room(idle, world):
    problem = world.with_memory(world.uniform(layers=2, peers=(1.0, 1.0, 1.0)), 10)
    refusal = idle(of=problem).reason(2, used=2, step_s=2.0, runs_all=True)
    assert (refusal.rule, refusal.had) == ("memory", 10)
    assert refusal.wanted > 10


def test_every_idle_peer_has_one_reason(world):
    problem = world.uniform(peers=(1.0, 0.001, 1.0, 2.0, 0.5))
    small = replace(problem.cluster.peers[4], memory_bytes=100)
    problem = replace(problem, cluster=replace(
        problem.cluster, peers=(*problem.cluster.peers[:4], small)))
    answer = plan(problem)
    used = [placed.peer_id for placed in answer.segments]
    told = [refusal.subject for refusal in answer.idle]
    assert sorted([*used, *told]) == [peer.peer_id for peer in problem.cluster.peers]
    assert {r.subject: r.rule for r in answer.idle}["peer_4"] == "memory"
