"""Predict a complete plan: memory, times and the step of given segments on given peers.

This is the one judge of plans: placers search with simpler models, but what they return was
predicted here, so predictions of different placers compare.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dag.cluster import PeerResources
from dag.cost import (
    HANDOVER_BYTES_PER_S,
    TASK_OVERHEAD_S,
    FloatArray,
    GraphCosts,
    Links,
    SegmentMemory,
    activation_bytes,
    deferred_seconds,
    gradient_bytes,
    graph_costs,
    is_awaited,
    link_seconds,
    node_seconds,
    segment_memory,
    segment_seconds,
    update_seconds,
)
from dag.job import TrainingSpec
from dag.placement import PlacementProblem, SegmentPlacement
from dag.schedule import (
    SegmentTimes,
    TaskSpan,
    Timeline,
    Transfer,
    in_flight,
    task_spans,
    timeline,
)
from ir.graph import INFER
from ir.segment import BoundaryKind, BoundaryTensor, Segment

DEFERRING_EXECUTORS = frozenset({"torch"})
"""Those that split a backward (docs/adr/0013-weight-gradients-later.md)."""


@dataclass(frozen=True, slots=True, eq=False)
class Estimate:
    """A problem with everything counted that all its plans share.

    Attributes:
        problem: what to place where.
        costs: the graph's costs.
        seconds: peer id -> time of every node, shape [2, nodes].
        links: the link of each pair.
    """

    problem: PlacementProblem
    costs: GraphCosts
    seconds: Mapping[str, FloatArray]
    links: Links

    @property
    def training(self) -> TrainingSpec:
        """How the job trains, or how its rows flow."""
        return self.problem.job.training


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """What a plan would do.

    Attributes:
        segments: with memory, in-flight limits and times.
        step_s: time of one step, update included; for inference the mean over all microbatches.
        timeline: the pipeline's part of it; for inference of all of them.
        shortage: segment -> bytes that its peer lacks; empty if everything fits.
    """

    segments: tuple[SegmentPlacement, ...]
    step_s: float
    timeline: Timeline
    shortage: Mapping[int, int]


def estimate(problem: PlacementProblem) -> Estimate:
    """Count a problem. Cost: O(peers * nodes + edges)."""
    costs = graph_costs(problem.graph, problem.job.trainable, problem.job.kind)
    training = problem.job.training
    seconds = {
        peer.peer_id: node_seconds(costs, peer.rates, training.recompute, training.precision)
        for peer in problem.cluster.peers}
    return Estimate(problem, costs, seconds, Links(problem.cluster))


def predict(
    known: Estimate, segments: Sequence[Segment], peers: Sequence[PeerResources]
) -> Prediction:
    """Predict `segments[i]` on `peers[i]`.

    Every segment gets the in-flight limit of `dag.schedule.in_flight`, plus one where memory
    allows it. A segment that does not fit even so is reported, not refused.
    """
    training = known.training
    memories = [segment_memory(known.costs, segment, training) for segment in segments]
    flow = known.problem.job.flow
    limits = _limits(memories, segments, peers, flow)
    spans = [
        segment_seconds(segment, known.seconds[peer.peer_id])
        for segment, peer in zip(segments, peers, strict=True)]
    times = [
        _occupied(known, segment, peer, span, limit)
        for segment, peer, span, limit in zip(segments, peers, spans, limits, strict=True)]
    played = timeline(times, transfers(known, segments, peers), flow)
    placements = tuple(
        SegmentPlacement(
            segment=segment, peer_id=peer.peer_id, in_flight=limit,
            memory_bytes=memory.total(limit), forward_s=span[0], backward_s=span[1])
        for segment, peer, limit, memory, span in zip(
            segments, peers, limits, memories, spans, strict=True))
    if known.problem.job.kind == INFER:
        step_s = played.pipeline_s / flow  # a step is one of the microbatches that flow
    else:
        step_s = played.pipeline_s + _step_end_seconds(known, segments, peers, memories)
    shortage = {
        placed.segment.index: placed.memory_bytes - peer.memory_bytes
        for placed, peer in zip(placements, peers, strict=True)
        if placed.memory_bytes > peer.memory_bytes}
    return Prediction(
        segments=placements, step_s=step_s, timeline=played, shortage=shortage)


def _limits(
    memories: Sequence[SegmentMemory], segments: Sequence[Segment],
    peers: Sequence[PeerResources], microbatches: int,
) -> list[int]:
    needed = in_flight(segments, microbatches)
    wished = in_flight(segments, microbatches, slack=1)
    return [
        wish if memory.total(wish) <= peer.memory_bytes else need
        for need, wish, memory, peer in zip(needed, wished, memories, peers, strict=True)]


def _occupied(
    known: Estimate, segment: Segment, peer: PeerResources, span: tuple[float, float], limit: int
) -> SegmentTimes:
    """How long a peer is busy with a microbatch: computing, and handing its results over.

    Retiring a microbatch without a gradient takes no task, and deferring takes one more.
    """
    leaving = activation_bytes(segment.outgoing)
    forward_s = span[0] + TASK_OVERHEAD_S + leaving / HANDOVER_BYTES_PER_S
    if known.problem.job.kind == INFER:
        return SegmentTimes(forward_s=forward_s, backward_s=0.0, in_flight=limit)
    gradients = gradient_bytes(segment.incoming)
    deferred_s = 0.0
    if peer.executor in DEFERRING_EXECUTORS and is_awaited(segment):
        deferred_s = deferred_seconds(
            known.costs, segment, known.seconds[peer.peer_id], known.training.recompute)
    return SegmentTimes(
        forward_s=forward_s, in_flight=limit,
        backward_s=span[1] - deferred_s + TASK_OVERHEAD_S + gradients / HANDOVER_BYTES_PER_S,
        deferred_s=deferred_s + TASK_OVERHEAD_S if deferred_s else 0.0)


def transfers(
    known: Estimate, segments: Sequence[Segment], peers: Sequence[PeerResources]
) -> list[Transfer]:
    """What flows between each pair of segments for one microbatch, `segments[i]` on `peers[i]`."""
    pairs: dict[tuple[int, int], list[BoundaryTensor]] = {}
    for segment in segments:
        for tensor in segment.outgoing:
            if tensor.kind is BoundaryKind.ACTIVATION:
                pairs.setdefault((tensor.source, tensor.target), []).append(tensor)
    found = []
    for (source, target), tensors in sorted(pairs.items()):
        there = known.links.between(peers[source].peer_id, peers[target].peer_id)
        back = known.links.between(peers[target].peer_id, peers[source].peer_id)
        activations, gradients = activation_bytes(tensors), gradient_bytes(tensors)
        found.append(Transfer(
            source=source, target=target,
            forward_s=activations / there.bandwidth_bytes_per_s,
            backward_s=gradients / back.bandwidth_bytes_per_s,
            # A tensor has to be with the executor before it is of use.
            forward_latency_s=there.latency_s + activations / HANDOVER_BYTES_PER_S,
            backward_latency_s=back.latency_s + gradients / HANDOVER_BYTES_PER_S,
            is_acknowledged=gradients == 0,
            forward_lines_s=known.links.lines_seconds(there, activations),
            backward_lines_s=known.links.lines_seconds(back, gradients)))
    return found


def _step_end_seconds(
    known: Estimate, segments: Sequence[Segment], peers: Sequence[PeerResources],
    memories: Sequence[SegmentMemory],
) -> float:
    """Update, agreement on the norm, and tied parameters' way home and back."""
    update_s = max(
        update_seconds(memory, peer.rates)
        for memory, peer in zip(memories, peers, strict=True))
    agree_s, tied_s = 0.0, 0.0
    for number in range(1, len(peers)):
        there = known.links.between(peers[0].peer_id, peers[number].peer_id)
        back = known.links.between(peers[number].peer_id, peers[0].peer_id)
        agree_s = max(agree_s, there.latency_s + back.latency_s)
    for segment in segments:
        for tensor in segment.outgoing:
            if tensor.kind is BoundaryKind.PARAMETER:
                there = known.links.between(
                    peers[tensor.source].peer_id, peers[tensor.target].peer_id)
                back = known.links.between(
                    peers[tensor.target].peer_id, peers[tensor.source].peer_id)
                gradient = tensor.type.size_bytes * tensor.contributions
                tied_s = max(
                    tied_s,
                    link_seconds(there, tensor.type.size_bytes)
                    + (link_seconds(back, gradient) if tensor.differentiable else 0.0))
    update_s += 2 * TASK_OVERHEAD_S  # measuring the gradients is a task of its own
    return update_s + tied_s + (agree_s if known.training.clip_norm > 0 else 0.0)


def task_spans_of(
    known: Estimate, placed: Sequence[SegmentPlacement], peers: Sequence[PeerResources]
) -> tuple[TaskSpan, ...]:
    """When each task of a predicted step runs, `placed[i]` on `peers[i]`; as `task_spans`."""
    times = [
        _occupied(known, one.segment, peer, (one.forward_s, one.backward_s), one.in_flight)
        for one, peer in zip(placed, peers, strict=True)]
    return task_spans(
        times, transfers(known, [one.segment for one in placed], peers), known.problem.job.flow)
