"""Who could take over which segment of a plan, and how fast: the ranking of a job's backups.

A backup runs the segment as it was cut, with as many microbatches in flight, so only three things
can be in its way: what its executor lacks, its memory, and that it computes other bits. The last is
no obstacle, but peers of the numeric class of the segment's holder go first: after them nobody can
tell that the segment has moved (docs/adr/0008-bit-identity.md).
"""

from __future__ import annotations

from collections.abc import Sequence

from dag.cluster import PeerResources
from dag.cost import segment_seconds
from dag.placement import PlacementProblem, SegmentPlacement
from dag.predict import Estimate, estimate
from dag.support import ExecutorSupport, SupportIndex
from ir.graph import TRAIN

Ranking = tuple[tuple[str, float], ...]
"""(peer id, predicted seconds of a microbatch forward and backward), the best first."""


def rank_backups(
    problem: PlacementProblem, segments: Sequence[SegmentPlacement]
) -> tuple[Ranking, ...]:
    """Rank the peers of a cluster for every segment of a plan. Who cannot run it is left out.

    Args:
        problem: the graph, the job, and the peers to rank.
        segments: the plan's, each with the peer that holds it now: which need not be in the
            cluster, and then has no numeric class.

    Returns:
        Per segment, in their order. Holders are ranked like anybody else. Ties break on ids.

    Cost: O(peers * nodes), and O(different executors * nodes) to ask what they run.
    """
    known = estimate(problem)
    classes = {peer.peer_id: peer.numeric_class for peer in problem.cluster.peers}
    runs = {
        support: _which_run(problem, segments, support)
        for support in {peer.support for peer in problem.cluster.peers}}
    return tuple(
        _rank(known, placed, classes.get(placed.peer_id, ""), [
            peer for peer in problem.cluster.peers
            if runs[peer.support][number] and peer.memory_bytes >= placed.memory_bytes])
        for number, placed in enumerate(segments))


def _which_run(
    problem: PlacementProblem, segments: Sequence[SegmentPlacement],
    support: ExecutorSupport | None,
) -> list[bool]:
    """For each segment whether an executor runs all of it."""
    if support is None:
        return [True] * len(segments)
    index = SupportIndex(support, trains=problem.job.kind == TRAIN)
    return [index.first_obstacle(problem.graph, placed.segment.nodes) is None
            for placed in segments]


def _rank(
    known: Estimate, placed: SegmentPlacement, numeric_class: str, able: Sequence[PeerResources]
) -> Ranking:
    seconds = {
        peer.peer_id: sum(segment_seconds(placed.segment, known.seconds[peer.peer_id]))
        for peer in able}
    order = sorted(able, key=lambda peer: (
        not numeric_class or peer.numeric_class != numeric_class, seconds[peer.peer_id],
        peer.peer_id))
    return tuple((peer.peer_id, seconds[peer.peer_id]) for peer in order)
