"""Local search over splits: never slower, and it finds what one step away is better."""

from dataclasses import replace
from random import Random

import pytest

from dag.pipeline.chain_model import fits_model
from dag.pipeline.local_search import _neighbours, improved
from dag.pipeline.split import Split
from dag.pipeline.trials import contiguous

PLENTY = 1000


def random_split(draw, parts, peers):
    blocks = parts.tables.count
    count = draw.randint(1, min(peers, blocks))
    cuts = sorted(draw.sample(range(1, blocks), count - 1))
    return Split(
        peers=tuple(draw.sample(range(peers), count)), bounds=(0, *cuts, blocks), value=0.0)


@pytest.mark.parametrize("seed", range(30))
def test_never_slower(world, parts_of, seed):
    draw = Random(seed)
    problem = world.random(seed, peers=5)
    parts, peers = parts_of(problem), len(problem.cluster.peers)
    start = random_split(draw, parts, peers)
    wanted = draw.choice([0, len(start.peers)])
    if not parts.trials.fits(contiguous(start)):
        return
    found = improved(
        start, parts.split_problem, parts.trials, range(peers), wanted, PLENTY)
    assert parts.trials.fits(contiguous(found)), seed
    assert parts.trials.step_s(contiguous(found)) <= parts.trials.step_s(contiguous(start)), seed
    assert wanted in (0, len(found.peers)), seed


@pytest.mark.parametrize("seed", range(20))
def test_neighbours_are_splits(world, parts_of, seed):
    draw = Random(seed)
    parts = parts_of(world.uniform(layers=6, peers=(1.0,) * 5))
    start, blocks = random_split(draw, parts, 5), parts.tables.count
    wanted = draw.choice([0, len(start.peers)])
    for split in _neighbours(start, range(5), wanted, blocks):
        assert len(split.bounds) == len(split.peers) + 1
        assert len(set(split.peers)) == len(split.peers)
        assert (split.bounds[0], split.bounds[-1]) == (0, blocks)
        assert sorted(set(split.bounds)) == list(split.bounds)
        assert wanted in (0, len(split.peers))


def test_it_swaps_two_peers(world, parts_of):
    # The one matrix product is on the slow peer; no cut can be moved that changes it.
    problem = world.problem(
        world.chain([256, 256], rows=64), world.cluster(world.peer(0), world.peer(1, 3.0)),
        microbatches=16)
    parts = parts_of(problem)
    start = Split(peers=(0, 1), bounds=(0, 1, 3), value=0.0)
    found = improved(start, parts.split_problem, parts.trials, (0, 1), 2, PLENTY)
    assert found.peers == (1, 0)


def test_an_idle_peer_replaces_a_slower_one(world, parts_of):
    parts = parts_of(world.uniform(layers=4, peers=(1.0, 0.1, 1.0), microbatches=16))
    start = Split(peers=(0, 1), bounds=(0, 4, 9), value=0.0)
    found = improved(start, parts.split_problem, parts.trials, (0, 1, 2), 2, PLENTY)
    assert sorted(found.peers) == [0, 2]


def test_a_hopeless_peer_is_dropped(world, parts_of):
    parts = parts_of(world.uniform(layers=4, peers=(1.0, 0.001, 1.0), microbatches=16))
    start = Split(peers=(0, 1, 2), bounds=(0, 4, 6, 9), value=0.0)
    found = improved(start, parts.split_problem, parts.trials, (0, 1, 2), 0, PLENTY)
    assert sorted(found.peers) == [0, 2]


def test_the_budget_ends_the_search(world, parts_of):
    parts = parts_of(world.uniform(layers=16, peers=(1.0,) * 4, microbatches=16))
    start = Split(peers=(0, 1, 2, 3), bounds=(0, 1, 2, 3, 33), value=0.0)
    assert improved(start, parts.split_problem, parts.trials, range(4), 0, 0) == start
    made = parts.trials.made
    improved(start, parts.split_problem, parts.trials, range(4), 0, 1)
    assert parts.trials.made - made <= 5  # the start, and one round


def test_the_chain_model_knows_memory_and_abilities(world, parts_of):
    parts = parts_of(world.uniform(layers=4))
    split = Split(peers=(0, 1), bounds=(0, 4, 9), value=0.0)
    table = parts.split_problem
    assert fits_model(table, split)
    assert not fits_model(replace(table, memory_bytes=(1 << 40, 1)), split)
    unable = [table.seconds[0], table.seconds[1] + float("inf")]
    assert not fits_model(replace(table, seconds=unable), split)
