"""The chain model of a split: near the prediction, and aware of lines that are shared."""

from random import Random

import pytest

from dag.cluster import Cluster, Link
from dag.pipeline.chain_model import model_seconds
from dag.pipeline.split import Split
from dag.pipeline.trials import contiguous


def homes(world, rates, microbatches, width=256):
    """Peers with an uplink of the given rate each, and downlinks that are no limit."""
    peers = tuple(world.peer(n, 100.0) for n in range(len(rates)))
    links = tuple(
        Link(source=a.peer_id, target=b.peer_id, latency_s=1e-4, bandwidth_bytes_per_s=rates[n])
        for n, a in enumerate(peers) for b in peers if a is not b)
    graph = world.chain([width] * 7, rows=64)
    return world.problem(graph, Cluster(peers=peers, links=links), microbatches=microbatches)


def test_a_middle_peer_sends_activations_and_gradients_over_one_uplink(world, parts_of):
    table = parts_of(homes(world, [1e6] * 3, microbatches=101)).split_problem
    ends = model_seconds(table, Split(peers=(0, 1), bounds=(0, 6, 13), value=0.0))
    middle = model_seconds(table, Split(peers=(0, 1, 2), bounds=(0, 4, 8, 13), value=0.0))
    size_s = 256 * 64 * 4 / 1e6  # one tensor
    # Two ends: a microbatch a tensor's time. With a middle: it sends two for each.
    assert ends == pytest.approx(102 * size_s, rel=0.02)
    assert middle == pytest.approx(204 * size_s, rel=0.02)


@pytest.mark.parametrize("seed", range(10))
def test_it_is_near_the_prediction(world, parts_of, seed):
    draw = Random(seed)
    problem = homes(world, [draw.uniform(5e5, 5e6) for _ in range(4)], microbatches=32)
    parts = parts_of(problem)
    cuts = sorted(draw.sample(range(1, 13), 3))
    split = Split(peers=tuple(draw.sample(range(4), 4)), bounds=(0, *cuts, 13), value=0.0)
    predicted_s = parts.trials.step_s(contiguous(split))
    modelled_s = model_seconds(parts.split_problem, split)
    print(f"seed {seed}: {modelled_s / predicted_s:.3f} of the prediction")
    assert modelled_s == pytest.approx(predicted_s, rel=0.1)
