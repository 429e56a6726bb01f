"""Mappings as pipelines, and predictions that are made once."""

from random import Random

import numpy as np

from dag.pipeline.split import Split
from dag.pipeline.trials import Pipeline, contiguous, mapped


def of(device, edges):
    source, target = zip(*edges, strict=True) if edges else ((), ())
    return mapped(
        np.array(device), np.array(source, dtype=np.int64), np.array(target, dtype=np.int64))


def test_a_chain_that_comes_back_is_a_ring():
    assert of([0, 1, 0], [(0, 1), (1, 2)]) is None


def test_a_longer_ring_behind_a_beginning():
    assert of([3, 0, 1, 2, 0], [(0, 1), (1, 2), (2, 3), (3, 4)]) is None


def test_segments_are_in_the_order_in_which_values_flow():
    found = of([5, 2, 2, 0], [(0, 1), (1, 2), (2, 3)])
    assert found == Pipeline(parts=((0,), (1, 2), (3,)), peers=(5, 2, 0))


def test_branches_on_peers_of_their_own_are_segments_that_are_not_contiguous():
    # Two interleaved branches that join.
    found = of([0, 1, 0, 1, 1], [(0, 2), (1, 3), (2, 4), (3, 4)])
    assert found == Pipeline(parts=((0, 2), (1, 3, 4)), peers=(0, 1))


def test_blocks_without_edges_may_run_anywhere():
    assert of([1, 0], []) == Pipeline(parts=((1,), (0,)), peers=(0, 1))


def test_random_mappings_flow_forwards_or_are_rings():
    draw = Random(7)
    rings = 0
    for case in range(300):
        blocks = draw.randint(1, 8)
        edges = [(a, b) for b in range(blocks) for a in range(b) if draw.random() < 0.4]
        device = [draw.randrange(4) for _ in range(blocks)]
        found = of(device, edges)
        crossing = {(device[a], device[b]) for a, b in edges if device[a] != device[b]}
        if found is None:
            rings += 1
            reached = crossing
            for _ in range(4):
                reached = reached | {(a, d) for a, b in reached for c, d in crossing if b == c}
            assert any(a == b for a, b in reached), case
            continue
        place = {peer: number for number, peer in enumerate(found.peers)}
        assert all(place[a] < place[b] for a, b in crossing), case
        assert sorted(block for part in found.parts for block in part) == list(range(blocks))
        assert all(device[block] == peer for part, peer in zip(
            found.parts, found.peers, strict=True) for block in part), case
    assert 30 < rings < 270


def test_each_prediction_is_made_once(world, parts_of):
    trials = parts_of(world.uniform(layers=4)).trials
    first = contiguous(Split(peers=(0, 1), bounds=(0, 4, 9), value=0.0))
    again = contiguous(Split(peers=(0, 1), bounds=(0, 4, 9), value=1.0))
    assert trials.predicted(first) is trials.predicted(again)
    assert trials.made == 1
    assert trials.fits(first)


def test_the_fastest_is_of_those_that_fit(world, parts_of):
    problem = world.uniform(layers=4, peers=(1.0, 1.0), microbatches=8)
    split = Pipeline(parts=(tuple(range(4)), tuple(range(4, 9))), peers=(0, 1))
    alone = Pipeline(parts=(tuple(range(9)),), peers=(0,))
    trials = parts_of(problem).trials
    assert trials.fastest([alone, split]) == split
    assert trials.fastest([]) is None
    held = max(placed.memory_bytes for placed in trials.predicted(split).segments)
    scarce = parts_of(world.with_memory(problem, held // 2)).trials
    assert scarce.fastest([split]) is None
