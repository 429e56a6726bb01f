from dataclasses import replace
from random import Random

import pytest

from dag.schedule import SegmentTimes, Transfer, in_flight, timeline
from ir.graph import TensorType
from ir.segment import BoundaryKind, BoundaryTensor, Segment


def segments_of(count, edges):
    tensors = [
        BoundaryTensor(
            edge=number, value=f"v{number}", kind=BoundaryKind.ACTIVATION, source=source,
            target=target, type=TensorType("float32", ()), differentiable=True, consumers=(0,))
        for number, (source, target) in enumerate(edges)]
    return tuple(
        Segment(
            index=index, nodes=(index,), parameters=(), data_inputs=(),
            incoming=tuple(t for t in tensors if t.target == index),
            outgoing=tuple(t for t in tensors if t.source == index), has_loss=index == count - 1)
        for index in range(count))


def link(source, target, forward_s=0.0, backward_s=0.0, latency_s=0.0):
    return Transfer(
        source=source, target=target, forward_s=forward_s, backward_s=backward_s,
        forward_latency_s=latency_s, backward_latency_s=latency_s)


def chain(count, forward_s=1.0, backward_s=2.0, limits=None):
    limits = limits or [count - i for i in range(count)]
    times = [
        SegmentTimes(forward_s=forward_s, backward_s=backward_s, in_flight=limit)
        for limit in limits]
    return times, [link(i, i + 1) for i in range(count - 1)]


def test_in_flight_of_a_chain_is_1f1b():
    segments = segments_of(4, [(0, 1), (1, 2), (2, 3)])
    assert in_flight(segments, 8) == (4, 3, 2, 1)
    assert in_flight(segments, 3) == (3, 3, 2, 1)
    assert in_flight(segments, 8, slack=1) == (5, 4, 3, 1)


def test_in_flight_of_a_dag_follows_the_longest_path():
    # Two branches of unequal length that join, and a segment that skips to the end.
    segments = segments_of(5, [(0, 1), (1, 2), (2, 4), (0, 3), (3, 4), (0, 4)])
    assert in_flight(segments, 8) == (4, 3, 2, 2, 1)


def test_one_segment_has_no_bubble():
    played = timeline([SegmentTimes(forward_s=1.0, backward_s=2.0, in_flight=1)], [], 5)
    assert played.pipeline_s == pytest.approx(15.0)
    assert played.bubble == pytest.approx(0.0)
    assert played.busy_s == (15.0,)
    assert played.peak_in_flight == (1,)


@pytest.mark.parametrize(("count", "microbatches"), [(2, 4), (4, 4), (4, 16), (8, 32)])
def test_equal_segments_take_the_1f1b_time(count, microbatches):
    # Narayanan et al. 2021, section 2.2: (m + p - 1) * (t_f + t_b), bubble (p - 1) / m of ideal.
    times, links = chain(count)
    played = timeline(times, links, microbatches)
    assert played.pipeline_s == pytest.approx(3.0 * (microbatches + count - 1))
    assert played.bubble == pytest.approx((count - 1) / (microbatches + count - 1))
    assert played.peak_in_flight == tuple(
        min(microbatches, count - index) for index in range(count))


def test_peak_never_exceeds_the_limit():
    draw = Random(3)
    for _ in range(50):
        count = draw.randint(1, 5)
        times = [
            SegmentTimes(
                forward_s=draw.random(), backward_s=draw.random(), in_flight=draw.randint(1, 4))
            for _ in range(count)]
        links = [
            link(a, b, draw.random(), draw.random(), draw.random())
            for a in range(count) for b in range(a + 1, count) if draw.random() < 0.7 or b == a + 1]
        played = timeline(times, links, 6)
        assert all(
            peak <= segment.in_flight
            for peak, segment in zip(played.peak_in_flight, times, strict=True))
        assert played.pipeline_s >= max(played.busy_s) * (1 - 1e-12)
        assert 0.0 <= played.bubble < 1.0


def test_in_flight_of_one_serialises_a_chain():
    times, links = chain(3, limits=[1, 1, 1])
    assert timeline(times, links, 4).pipeline_s == pytest.approx(4 * 9.0)


def test_a_slow_link_is_the_bottleneck():
    times, _ = chain(2, limits=[8, 8])
    played = timeline(times, [link(0, 1, forward_s=10.0)], 8)
    # The first activation is ready at 1, eight transfers take 80, then one segment turn and back.
    assert played.pipeline_s == pytest.approx(1.0 + 80.0 + 3.0 + 2.0)


def test_latency_delays_but_does_not_occupy():
    times, _ = chain(2, limits=[8, 8])
    late = timeline(times, [link(0, 1, latency_s=5.0)], 8)
    free = timeline(times, [link(0, 1)], 8)
    assert free.pipeline_s < late.pipeline_s <= free.pipeline_s + 10.0 + 1e-9


def test_slack_hides_the_link():
    tight, _ = chain(2, limits=[2, 1])
    roomy, _ = chain(2, limits=[3, 1])
    links = [link(0, 1, latency_s=1.0)]
    assert timeline(roomy, links, 16).pipeline_s < timeline(tight, links, 16).pipeline_s


def test_many_microbatches_are_extrapolated_exactly_in_the_steady_state():
    times, links = chain(4)
    assert timeline(times, links, 1000).pipeline_s == pytest.approx(3.0 * 1003)


def test_an_acknowledged_transfer_returns_with_the_forward():
    # Inference over three peers far apart: the first may go on when its neighbour has used what it
    # got; that the last one has not is nothing to it.
    times = [SegmentTimes(forward_s=1.0, backward_s=0.0, in_flight=1) for _ in range(3)]
    links = [replace(link(i, i + 1, latency_s=2.0), is_acknowledged=True) for i in range(2)]
    played = timeline(times, links, 10)
    # Each microbatch: forward, to the neighbour, its forward, back: 1 + 2 + 1 + 2; then the rest.
    assert played.pipeline_s == pytest.approx(9 * 6.0 + 1.0 + 2.0 + 1.0 + 2.0 + 1.0 + 2.0)


def test_deferred_weight_gradients_fill_the_bubble():
    # Two equal segments; the second one's backward is half weight gradients.
    whole, links = chain(2)
    halved = [whole[0], replace(whole[1], backward_s=1.0, deferred_s=1.0)]
    before, after = timeline(whole, links, 8), timeline(halved, links, 8)
    assert after.busy_s == before.busy_s
    # The first gradient comes a second earlier, and so does everything; what is deferred at the end
    # is done while the first segment works on the last gradient.
    assert before.pipeline_s == pytest.approx(27.0)
    assert after.pipeline_s == pytest.approx(26.0)
