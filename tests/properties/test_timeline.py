"""`dag.schedule.timeline` says what the real peer cores do: random jobs played both ways."""

from random import Random

import pytest

from dag.cost import is_awaited
from dag.schedule import SegmentTimes, Transfer, in_flight, timeline
from sim.timed import Fleet, play
from sim.topologies import Edge, segments_of, spec_of

SEEDS = 20
TOLERANCE_S = 1e-6
"""Both are exact; the simulator counts nanoseconds, and rounding them adds up."""


def random_edges(draw, count):
    """Every segment but the first has something before it; some tensors have no gradient."""
    edges = {(draw.randrange(target), target) for target in range(1, count)}
    edges |= {(source, target) for target in range(1, count) for source in range(target)
              if draw.random() < 0.25}
    return tuple(
        Edge(source, target, gradient=draw.random() < 0.8) for source, target in sorted(edges))


def random_fleet(draw, segments, edges, microbatches):
    limits = in_flight(segments, microbatches, slack=draw.randrange(2))
    times = [
        SegmentTimes(forward_s=draw.uniform(0.01, 1.0), backward_s=draw.uniform(0.01, 2.0),
                     in_flight=limit,
                     deferred_s=draw.uniform(0.01, 1.0) if is_awaited(segment) else 0.0)
        for segment, limit in zip(segments, limits, strict=True)]
    transfers = []
    for edge in edges:
        forward_s = draw.uniform(0.0, 1.0)
        backward_s = draw.uniform(0.0, 1.0) if edge.gradient else 0.0
        transfers.append(Transfer(
            source=edge.source, target=edge.target, forward_s=forward_s, backward_s=backward_s,
            forward_latency_s=draw.uniform(0.0, 0.5), backward_latency_s=draw.uniform(0.0, 0.5),
            is_acknowledged=not edge.gradient,
            forward_lines_s=(draw.random() * forward_s, draw.random() * forward_s),
            backward_lines_s=(draw.random() * backward_s, draw.random() * backward_s)))
    return Fleet(times=times, transfers=transfers,
                 update_s=[draw.uniform(0.0, 0.5) for _ in segments])


@pytest.mark.parametrize("seed", range(SEEDS))
def test_the_cores_take_the_predicted_time(seed):
    draw = Random(seed)
    count, microbatches = draw.randint(1, 6), draw.randint(1, 9)
    edges = random_edges(draw, count)
    segments = segments_of(count, edges)
    fleet = random_fleet(draw, segments, edges, microbatches)
    predicted = timeline(fleet.times, fleet.transfers, microbatches)
    record = play(spec_of(count, steps=1, microbatches=microbatches), segments, fleet)
    print(f"seed {seed}: {count} segments, {edges}, {microbatches} microbatches")
    assert record.pipeline_s() == pytest.approx(predicted.pipeline_s, abs=TOLERANCE_S)


def test_more_in_flight_changes_both_alike():
    # A slow link: with one more microbatch in flight the first segment waits less.
    edges = (Edge(0, 1),)
    segments = segments_of(2, edges)
    found = []
    for limit in (1, 2, 3):
        times = [SegmentTimes(forward_s=0.1, backward_s=0.2, in_flight=n) for n in (limit, 1)]
        link = Transfer(source=0, target=1, forward_s=0.25, backward_s=0.25,
                        forward_latency_s=0.1, backward_latency_s=0.1)
        fleet = Fleet(times=times, transfers=[link], update_s=[0.0, 0.0])
        played = play(spec_of(2, steps=1, microbatches=6), segments, fleet).pipeline_s()
        assert played == pytest.approx(
            timeline(times, [link], 6).pipeline_s, abs=TOLERANCE_S)
        found.append(played)
    assert found[0] > found[1] > found[2]
