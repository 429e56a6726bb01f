"""Orders of peers follow the network."""

from itertools import pairwise, permutations
from random import Random

import numpy as np
import pytest

from dag.cluster import Cluster, Link
from dag.pipeline.peer_order import _path_cost, _turned, orders
from dag.pipeline.split import Splitter
from dag.pipeline.trials import contiguous
from dag.planner import plan
from dag.verify import verify


def hops(seed, count):
    return np.random.default_rng(seed).uniform(0.001, 1.0, (count, count))


def test_all_orders_of_a_few(world):
    peers = [world.peer(n) for n in range(4)]
    assert orders(peers, range(4), np.ones((4, 4))) == list(permutations(range(4)))


@pytest.mark.parametrize("seed", range(20))
def test_every_order_holds_every_peer_once(world, seed):
    draw = Random(seed)
    count = draw.randint(5, 16)
    peers = [world.peer(n, draw.uniform(0.5, 2.0), draw.randint(1, 9)) for n in range(count + 3)]
    chosen = sorted(draw.sample(range(count + 3), count))
    covering = draw.sample(chosen, 3)
    found = orders(peers, chosen, hops(seed, count + 3), covering)
    assert len(set(found)) == len(found)
    assert all(sorted(order) == chosen for order in found), seed


@pytest.mark.parametrize("seed", range(20))
def test_turning_never_lengthens_a_path(seed):
    count = Random(seed).randint(2, 12)
    hop_s = hops(seed, count)
    path = tuple(Random(seed).sample(range(count), count))
    turned = _turned(path, hop_s)
    assert sorted(turned) == list(range(count))
    assert _path_cost(turned, hop_s) <= _path_cost(path, hop_s), seed


def test_turning_untangles_a_line():
    place = np.arange(8.0)
    assert _turned((0, 5, 4, 3, 2, 1, 6, 7), abs(place[:, None] - place)) == tuple(range(8))


def houses(world, count, apart):
    """`count` peers, `house[n]` of each drawn; a short way inside, `apart` between houses."""
    house = [n % apart for n in range(count)]
    Random(3).shuffle(house)
    peers = [world.peer(n, 1.0 + n / 100) for n in range(count)]
    hop_s = np.array([[0.001 if a == b else 1.0 for b in house] for a in house])
    return peers, house, hop_s


@pytest.mark.parametrize("apart", [2, 3])
def test_each_house_is_walked_through_before_the_next(world, apart):
    peers, house, hop_s = houses(world, 12, apart)
    crossings = [
        sum(house[a] != house[b] for a, b in pairwise(order))
        for order in orders(peers, range(12), hop_s)]
    assert crossings.count(apart - 1) >= 2  # one way and the other


def test_a_slow_line_is_crossed_once(world, clustered):
    answer = plan(clustered)
    where = [int(placed.peer_id[-1]) % 2 for placed in answer.segments]
    assert len(where) == 8
    assert sum(a != b for a, b in pairwise(where)) == 1
    assert verify(answer, clustered) == ()


def test_orders_that_do_not_see_links_lose(world, clustered, parts_of):
    parts = parts_of(clustered)
    splitter = Splitter(parts.split_problem)
    forwards = tuple(range(8))  # by speed, and as listed; memory is equal
    blind_s = min(
        parts.trials.step_s(contiguous(split))
        for order in (forwards, forwards[::-1]) for split in splitter.bottleneck(order, 8))
    assert plan(clustered).step_s < 0.8 * blind_s


def test_no_measured_link_is_worse_than_others(world):
    """Without measures all orders are alike, and nothing divides by zero."""
    peers = tuple(world.peer(n) for n in range(6))
    problem = world.problem(world.chain([64] * 9), Cluster(peers=peers), microbatches=8)
    assert verify(plan(problem), problem) == ()


def test_one_direction_may_be_slower_than_the_other(world):
    peers = [world.peer(n) for n in range(6)]
    links = tuple(
        Link(source=f"peer_{a}", target=f"peer_{b}", latency_s=1e-4,
             bandwidth_bytes_per_s=1e9 if a < b else 1e8)
        for a in range(6) for b in range(6) if a != b)
    problem = world.problem(
        world.chain([256] * 13, rows=64), Cluster(peers=tuple(peers), links=links),
        microbatches=8)
    assert verify(plan(problem), problem) == ()
