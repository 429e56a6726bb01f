"""How long a running job's state takes to where a new cut needs it."""

import pytest

from dag.cost import optimizer_bytes
from dag.planner import plan
from dag.predict import estimate
from dag.replanning.recut_moves import recut_seconds, state_bytes

LATENCY_S, BANDWIDTH = 0.01, 1e6
WEIGHT = 64 * 64 * 4


@pytest.fixture
def moving(world):
    """Two cuts of a chain of six equal weights, and the time between them."""
    graph = world.chain([64] * 7, rows=64)
    cluster = world.cluster(
        *(world.peer(name) for name in "abcd"), latency_s=LATENCY_S, bandwidth=BANDWIDTH)

    def seconds(before, after, on_before="ab", on_after="abcd"):
        plans = []
        for count, names in ((before, on_before), (after, on_after)):
            wanted = {f"peer_{name}" for name in names}
            problem = world.problem(graph, cluster, peers=count)
            some = tuple(peer for peer in cluster.peers if peer.peer_id in wanted)
            answer = plan(world.problem(
                graph, world.cluster(*some, latency_s=1e-6, bandwidth=1e12), peers=count))
            plans.append((estimate(problem), answer.segments))
        (known, first), (_, second) = plans
        return known, first, second, recut_seconds(known, first, second)

    return seconds


def test_the_same_cut_moves_nothing(moving):
    assert moving(2, 2, on_after="ab")[-1] == 0.0


def test_a_snapshot_has_parameters_and_what_the_optimizer_remembers(moving):
    known, first, _, _ = moving(1, 1, on_before="a", on_after="a")
    size = WEIGHT + optimizer_bytes(WEIGHT, known.training.optimizer)
    assert state_bytes(known, first[0]) == 6 * size


def test_one_peer_sends_its_whole_snapshot_to_each_that_needs_some_of_it(moving):
    known, first, second, seconds = moving(1, 3, on_before="a", on_after="bcd")
    one_s = state_bytes(known, first[0]) / BANDWIDTH
    assert {placed.peer_id for placed in second} == {"peer_b", "peer_c", "peer_d"}
    assert seconds == pytest.approx(3 * one_s, rel=0.01)


def test_who_ran_a_segment_has_its_snapshot(moving):
    known, first, second, seconds = moving(1, 2, on_before="a", on_after="ab")
    assert {placed.peer_id for placed in second} == {"peer_a", "peer_b"}
    assert seconds == pytest.approx(state_bytes(known, first[0]) / BANDWIDTH + LATENCY_S)
