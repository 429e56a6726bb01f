"""Who may take over which segment: what is in the way, and who goes first."""

from dataclasses import replace

import pytest

from dag.backups import rank_backups
from dag.cluster import Correction
from dag.cost import node_seconds, segment_seconds
from dag.placement import Placement
from dag.planner import plan
from dag.predict import estimate
from dag.support import ANY, everything
from ir.operators import OpClass

ALL = everything(("MatMul", "Relu", "ReduceMean"), range(23, 24))


@pytest.fixture
def placed(world):
    """A chain over two peers of equal speed, and its problem."""
    problem = world.problem(
        world.chain([64] * 5, rows=64), world.cluster(world.peer("a"), world.peer("b")), peers=2)
    answer = plan(problem)
    assert isinstance(answer, Placement)
    assert len(answer.segments) == 2
    return problem, answer.segments


def ranked(placed, world, *peers):
    problem, segments = placed
    return rank_backups(replace(problem, cluster=world.cluster(*peers)), segments)


def names(ranking):
    return [[peer_id for peer_id, _ in of] for of in ranking]


def test_a_slower_peer_stands_behind_a_faster_one(placed, world):
    slow, fast = world.peer("a_slow", 0.5), world.peer("b_fast", 2.0)
    for ranking in ranked(placed, world, slow, fast):
        assert [peer_id for peer_id, _ in ranking] == ["peer_b_fast", "peer_a_slow"]
        assert ranking[0][1] < ranking[1][1]


def test_seconds_are_those_of_the_plan_for_its_own_peers(placed):
    problem, segments = placed
    for segment, ranking in zip(segments, rank_backups(problem, segments), strict=True):
        assert dict(ranking)[segment.peer_id] == pytest.approx(
            segment.forward_s + segment.backward_s)


def test_what_tasks_have_taught_counts(placed, world):
    problem, segments = placed
    peer = world.peer("c")
    sluggish = replace(peer, rates=replace(peer.rates, corrections=tuple(
        Correction(direction=direction, op_class=op_class, factor=4.0)
        for direction in ("forward", "backward") for op_class in OpClass)))
    known = estimate(problem)
    plain_s = sum(segment_seconds(segments[0].segment, node_seconds(
        known.costs, peer.rates, recompute=False)))
    ((_, seconds),), _ = ranked(placed, world, sluggish)
    assert seconds > 3 * plain_s


def test_a_peer_with_too_little_memory_is_left_out(placed, world):
    _, (first, second) = placed
    least, most = sorted((first.memory_bytes, second.memory_bytes))
    assert least < most
    ranking = names(ranked(placed, world, world.peer("c", memory=least)))
    assert sorted(ranking) == [[], ["peer_c"]]
    assert names(ranked(placed, world, world.peer("c", memory=most))) == [["peer_c"]] * 2
    assert names(ranked(placed, world, world.peer("c", memory=least - 1))) == [[], []]


@pytest.mark.parametrize("support", [
    everything(("MatMul", "Relu"), range(23, 24)),
    everything(("MatMul", "Relu", "ReduceMean"), range(24, 25)),
    replace(ALL, trainable=False),
], ids=["operator", "opset", "trainable"])
def test_a_peer_whose_executor_does_not_run_it_is_left_out(placed, world, support):
    able = replace(world.peer("a"), support=ALL)
    lesser = replace(world.peer("b", 9.0), support=support)
    ranking = names(ranked(placed, world, able, lesser))
    last = ranking[-1]  # the segment with the loss
    assert last == ["peer_a"]


def test_a_lesser_executor_may_run_one_of_the_segments(placed, world):
    lesser = replace(world.peer("b"), support=everything(("MatMul", "Relu"), range(23, 24), ANY))
    assert names(ranked(placed, world, lesser)) == [["peer_b"], []]


def test_peers_that_compute_the_same_bits_go_first(placed, world):
    problem, segments = placed
    here = replace(world.peer("a"), numeric_class="torch on cuda")
    alike = replace(world.peer("z", 0.1), numeric_class="torch on cuda")
    other = replace(world.peer("y", 9.0), numeric_class="torch on cpu")
    held = [replace(segment, peer_id="peer_a") for segment in segments]
    cluster = world.cluster(other, alike, here)
    for ranking in rank_backups(replace(problem, cluster=cluster), held):
        assert [peer_id for peer_id, _ in ranking] == ["peer_a", "peer_z", "peer_y"]


def test_a_holder_that_is_away_or_says_nothing_makes_no_class(placed, world):
    alike = replace(world.peer("z", 0.1), numeric_class="torch on cuda")
    other = replace(world.peer("y", 9.0), numeric_class="")
    assert names(ranked(placed, world, alike, other)) == [["peer_y", "peer_z"]] * 2


def test_the_order_of_the_cluster_changes_nothing(placed, world):
    peers = [world.peer(name, speed) for name, speed in (("c", 1.0), ("a", 1.0), ("b", 2.0))]
    expected = [["peer_b", "peer_a", "peer_c"]] * 2
    assert names(ranked(placed, world, *peers)) == expected
    assert names(ranked(placed, world, *reversed(peers))) == expected


def test_an_empty_cluster_ranks_nobody(placed, world):
    assert ranked(placed, world) == ((), ())
