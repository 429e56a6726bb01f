"""What a planned job does to each peer and link, what limits it, and what else could run it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from dag.cluster import Cluster, DenseRates, PeerRates, PeerResources
from dag.placement import Infeasible, Placement, PlacementProblem
from dag.planner import plan
from dag.predict import Estimate, Prediction, estimate, predict
from dag.verify import verify
from ir.cut import cut
from ir.graph import INFER
from ir.segment import BoundaryKind, Segment

UNCERTAIN = 0.2
"""Rates, bandwidths and latencies are taken to be off by this share at most, all at once."""
AT_LEAST = 0.1
"""What no rate covers, such as the time between tasks, leaves the step off by this share."""
UNMEASURED = 4.0
"""A link that was never measured is taken to be up to so many times faster or slower."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkTraffic:
    """What goes over one ordered pair of peers.

    Attributes:
        source, target: peer ids.
        step_bytes: payload of one step; of inference of one microbatch.
        step_s: how long the link is occupied by that.
        measured: whether the pair was measured, or its link is assumed.
    """

    source: str
    target: str
    step_bytes: int
    step_s: float
    measured: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Alone:
    """One peer with the whole job.

    Attributes:
        peer: which.
        step_s: predicted; None where it cannot run the job.
        text: why it cannot; "" if it can.
    """

    peer: PeerResources
    step_s: float | None
    text: str


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class JobPlan:
    """A plan with all that is said of it.

    Attributes:
        problem: the question.
        placement: the planner's answer.
        known: the problem, counted.
        peers: `placement.segments[i]` runs on `peers[i]`.
        prediction: the judge's.
        traffic: by pairs that have some.
        slow_step_s: step if everything is a little slower than measured (`UNCERTAIN`).
        fast_step_s: likewise faster.
        limited_by: one sentence.
    """

    problem: PlacementProblem
    placement: Placement
    known: Estimate
    peers: tuple[PeerResources, ...]
    prediction: Prediction
    traffic: tuple[LinkTraffic, ...]
    slow_step_s: float
    fast_step_s: float
    limited_by: str


def plan_job(problem: PlacementProblem) -> JobPlan | Infeasible:
    """Ask the planner, and work out what its answer means."""
    answer = plan(problem)
    if isinstance(answer, Infeasible):
        return answer
    known = estimate(problem)
    peers = _peers_of(answer, problem.cluster)
    segments = [placed.segment for placed in answer.segments]
    prediction = predict(known, segments, peers)
    traffic = tuple(_traffic(known, segments, peers))
    return JobPlan(
        problem=problem, placement=answer, known=known, peers=peers, prediction=prediction,
        traffic=traffic,
        slow_step_s=max(_step_if(answer, problem, faster=False),
                        prediction.step_s * (1 + AT_LEAST)),
        fast_step_s=min(_step_if(answer, problem, faster=True),
                        prediction.step_s / (1 + AT_LEAST)),
        limited_by=_limit(problem, peers, prediction, traffic))


def best_alone(problem: PlacementProblem) -> Alone | None:
    """The peer that is best at the whole job; if none can run it, the one with most memory.

    Cost: O(peers * nodes), and a verification for each peer until one passes.
    """
    if not problem.cluster.peers:
        return None
    problem = replace(problem, job=replace(problem.job, peers=0))
    graph, job = problem.graph, problem.job
    segments = cut(graph, [range(len(graph.nodes))], job.trainable, job.kind)
    known = estimate(problem)
    found = [(predict(known, segments, [peer]), peer) for peer in problem.cluster.peers]
    for prediction, peer in sorted(found, key=lambda one: (one[0].step_s, one[1].peer_id)):
        if not _refused(problem, prediction):
            return Alone(peer=peer, step_s=prediction.step_s, text="")
    prediction, peer = max(found, key=lambda one: one[1].memory_bytes)
    return Alone(peer=peer, step_s=None, text=_refused(problem, prediction))


def _refused(problem: PlacementProblem, prediction: Prediction) -> str:
    """Why one peer cannot run the whole job; "" if it can."""
    alone = Placement(
        segments=prediction.segments, algorithm="alone", step_s=prediction.step_s)
    refusals = verify(alone, problem)
    return refusals[0].text if refusals else ""


def _peers_of(placement: Placement, cluster: Cluster) -> tuple[PeerResources, ...]:
    by_id = {peer.peer_id: peer for peer in cluster.peers}
    return tuple(by_id[placed.peer_id] for placed in placement.segments)


def _traffic(
    known: Estimate, segments: Sequence[Segment], peers: Sequence[PeerResources]
) -> Iterator[LinkTraffic]:
    flow = 1 if known.problem.job.kind == INFER else known.problem.job.flow
    sent: dict[tuple[str, str], int] = {}
    for segment in segments:
        for tensor in segment.outgoing:
            there, here = peers[tensor.source].peer_id, peers[tensor.target].peer_id
            times = flow if tensor.kind is BoundaryKind.ACTIVATION else 1
            sent[there, here] = sent.get((there, here), 0) + times * tensor.type.size_bytes
            if tensor.differentiable:
                back = times * tensor.type.size_bytes * tensor.contributions
                sent[here, there] = sent.get((here, there), 0) + back
    measured = {(link.source, link.target) for link in known.problem.cluster.links}
    for pair, step_bytes in sent.items():
        link = known.links.between(*pair)
        yield LinkTraffic(
            source=pair[0], target=pair[1], step_bytes=step_bytes,
            step_s=step_bytes / link.bandwidth_bytes_per_s, measured=pair in measured)


def _step_if(placement: Placement, problem: PlacementProblem, *, faster: bool) -> float:
    """The same plan on peers and links that are all a little faster, or slower."""
    factor = 1 + UNCERTAIN if faster else 1 / (1 + UNCERTAIN)
    known = estimate(problem)
    measured = {(link.source, link.target) for link in problem.cluster.links}
    used = [placed.peer_id for placed in placement.segments]
    links = []
    for source in used:
        for target in used:
            if source == target:
                continue
            link = known.links.between(source, target)
            by = factor if (source, target) in measured else (
                UNMEASURED if faster else 1 / UNMEASURED)
            links.append(replace(
                link, latency_s=link.latency_s / by,
                bandwidth_bytes_per_s=link.bandwidth_bytes_per_s * by))
    cluster = Cluster(links=tuple(links), peers=tuple(
        replace(peer, rates=_scaled(peer.rates, factor))
        for peer in problem.cluster.peers if peer.peer_id in used))
    other = replace(problem, cluster=cluster)
    return predict(
        estimate(other), [placed.segment for placed in placement.segments],
        _peers_of(placement, cluster)).step_s


def _scaled(rates: PeerRates, factor: float) -> PeerRates:
    return replace(
        rates,
        matmul_flops_per_s=rates.matmul_flops_per_s * factor,
        attention_flops_per_s=rates.attention_flops_per_s * factor,
        convolution_flops_per_s=rates.convolution_flops_per_s * factor,
        memory_bytes_per_s=rates.memory_bytes_per_s * factor,
        forward_overhead_s=rates.forward_overhead_s / factor,
        backward_overhead_s=rates.backward_overhead_s / factor,
        narrow=tuple(
            DenseRates(
                dtype=dense.dtype, matmul_flops_per_s=dense.matmul_flops_per_s * factor,
                attention_flops_per_s=dense.attention_flops_per_s * factor,
                convolution_flops_per_s=dense.convolution_flops_per_s * factor)
            for dense in rates.narrow))


def step_window_s(problem: PlacementProblem, prediction: Prediction) -> float:
    """Time in which peers and links do the work of `busy_s`: of a step, or of all microbatches."""
    job = problem.job
    return prediction.step_s * (job.flow if job.kind == INFER else 1)


def _limit(
    problem: PlacementProblem, peers: Sequence[PeerResources], prediction: Prediction,
    traffic: Sequence[LinkTraffic],
) -> str:
    window_s = step_window_s(problem, prediction)
    busy = max(range(len(peers)), key=lambda number: prediction.timeline.busy_s[number])
    share = prediction.timeline.busy_s[busy] / window_s if window_s > 0 else 1.0
    text = f"computing on {peers[busy].peer_id}, busy {100 * share:.0f} % of the time"
    if traffic:
        line = max(traffic, key=lambda one: one.step_s)
        line_share = line.step_s / prediction.step_s if prediction.step_s > 0 else 0.0
        if line_share > share:
            text = (f"the link from {line.source} to {line.target}, occupied "
                    f"{100 * line_share:.0f} % of the time")
            share = line_share
    if share < 0.5:
        text += (f"; more than half of the step is waiting: latencies, and the pipeline's "
                 f"filling and draining with {problem.job.flow} microbatches")
    return text
