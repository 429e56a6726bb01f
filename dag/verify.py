"""Check a placement without trusting whoever made it.

Called by the planner before a plan is returned and again when it arrives. Shares no code with the
placers: coverage, order and memory are worked out anew from the graph and the job.
"""

from __future__ import annotations

from collections.abc import Iterator

from dag.cost import graph_costs, segment_memory
from dag.placement import Placement, PlacementProblem, Refusal, SegmentPlacement
from dag.support import SupportIndex
from homespun.errors import HomespunError
from ir.cut import cut, replicable
from ir.graph import TRAIN
from ir.segment import Segment


def verify(placement: Placement, problem: PlacementProblem) -> tuple[Refusal, ...]:
    """Every reason not to run a placement; empty if it is sound.

    Rules: `count` (number of segments and peers), `unknown_peer`, `peer_twice`, `numbering`,
    `coverage` (each node that is not replicable exactly once), `cycle` (the quotient graph),
    `boundary` (segments differ from what `ir.cut` makes of the same nodes), `in_flight`, `memory`,
    and what a peer's executor lacks (`operator`, `dtype`, `opset`, `trainable`).
    """
    refusals = [
        *_peers(placement, problem), *_numbering(placement), *_coverage(placement, problem),
        *_in_flight(placement, problem)]
    if refusals:
        return tuple(refusals)
    refusals += _cycle(placement, problem)
    if refusals:
        return tuple(refusals)
    return (
        *_boundary(placement, problem), *_memory(placement, problem),
        *_executors(placement, problem))


def _peers(placement: Placement, problem: PlacementProblem) -> Iterator[Refusal]:
    count, wanted = len(placement.segments), problem.job.peers
    if count == 0 or (wanted and count != wanted):
        yield Refusal(
            subject=placement.algorithm, rule="count", wanted=max(1, wanted), had=count,
            text=f"The plan has {count} segments; {wanted or 'at least 1'} wanted.")
    known = {peer.peer_id for peer in problem.cluster.peers}
    seen: set[str] = set()
    for placed in placement.segments:
        if placed.peer_id not in known:
            yield _of(placed, "unknown_peer", 1, 0, f"Peer {placed.peer_id} is not available.")
        if placed.peer_id in seen:
            yield _of(placed, "peer_twice", 1, 2, f"Peer {placed.peer_id} has two segments.")
        seen.add(placed.peer_id)


def _numbering(placement: Placement) -> Iterator[Refusal]:
    for number, placed in enumerate(placement.segments):
        if placed.segment.index != number:
            yield _of(
                placed, "numbering", number, placed.segment.index,
                f"Segment {placed.segment.index} stands at place {number}.")


def _coverage(placement: Placement, problem: PlacementProblem) -> Iterator[Refusal]:
    free = replicable(problem.graph)
    runs = [0] * len(problem.graph.nodes)
    for placed in placement.segments:
        for index in placed.segment.nodes:
            if not 0 <= index < len(runs):
                yield _of(placed, "coverage", len(runs), index, f"There is no node {index}.")
            elif index not in free:
                runs[index] += 1
    for node in problem.graph.nodes:
        if node.index not in free and runs[node.index] != 1:
            yield Refusal(
                subject=placement.algorithm, rule="coverage", wanted=1, had=runs[node.index],
                text=f"Node {node.index} '{node.name}' is in {runs[node.index]} segments.")


def _in_flight(placement: Placement, problem: PlacementProblem) -> Iterator[Refusal]:
    most = problem.job.flow
    for placed in placement.segments:
        if not 1 <= placed.in_flight <= most:
            yield _of(
                placed, "in_flight", most, placed.in_flight,
                f"Segment {placed.segment.index} has {placed.in_flight} microbatches in flight; "
                f"1 to {most} make sense.")


def _cycle(placement: Placement, problem: PlacementProblem) -> Iterator[Refusal]:
    """Every value must flow to the same or a later segment: that orders the quotient graph."""
    free = replicable(problem.graph)
    owner = {
        index: number for number, placed in enumerate(placement.segments)
        for index in placed.segment.nodes if index not in free}
    made_in = {
        name: owner[node.index] for node in problem.graph.nodes if node.index in owner
        for name in node.outputs if name}
    for index, segment in owner.items():
        for name in problem.graph.nodes[index].inputs:
            if made_in.get(name, segment) > segment:
                yield _of(
                    placement.segments[segment], "cycle", segment, made_in[name],
                    f"Value '{name}' would flow from segment {made_in[name]} back to segment "
                    f"{segment}.")


def _boundary(placement: Placement, problem: PlacementProblem) -> Iterator[Refusal]:
    parts = [placed.segment.nodes for placed in placement.segments]
    try:
        made = cut(problem.graph, parts, problem.job.trainable, problem.job.kind)
    except HomespunError as error:
        yield Refusal(
            subject=placement.algorithm, rule="boundary", wanted=1, had=0, text=error.message)
        return
    for placed, expected in zip(placement.segments, made, strict=True):
        if placed.segment != expected:
            yield _of(
                placed, "boundary", 1, 0,
                f"Segment {expected.index} differs from what its nodes give in: "
                f"{', '.join(_differences(placed.segment, expected))}.")


def _differences(found: Segment, expected: Segment) -> list[str]:
    return [
        name for name in (
            "nodes", "parameters", "data_inputs", "incoming", "outgoing", "has_loss",
            "results")
        if getattr(found, name) != getattr(expected, name)]


def _memory(placement: Placement, problem: PlacementProblem) -> Iterator[Refusal]:
    costs = graph_costs(problem.graph, problem.job.trainable, problem.job.kind)
    offered = {peer.peer_id: peer.memory_bytes for peer in problem.cluster.peers}
    for placed in placement.segments:
        memory = segment_memory(costs, placed.segment, problem.job.training)
        wanted, had = memory.total(placed.in_flight), offered[placed.peer_id]
        if wanted > had:
            yield _of(
                placed, "memory", wanted, had,
                f"Segment {placed.segment.index} takes {wanted} bytes; peer {placed.peer_id} "
                f"offers {had}.")
        if placed.memory_bytes < wanted:
            yield _of(
                placed, "memory", wanted, placed.memory_bytes,
                f"Segment {placed.segment.index} takes {wanted} bytes; the plan says "
                f"{placed.memory_bytes}.")


def _executors(placement: Placement, problem: PlacementProblem) -> Iterator[Refusal]:
    """Each segment's first node that the executor of its peer does not run."""
    peers = {peer.peer_id: peer for peer in problem.cluster.peers}
    for placed in placement.segments:
        support = peers[placed.peer_id].support
        if support is None:
            continue
        index = SupportIndex(support, trains=problem.job.kind == TRAIN)
        found = index.first_obstacle(problem.graph, placed.segment.nodes)
        if found is not None:
            node, obstacle = found
            yield Refusal(
                subject=placed.peer_id, rule=obstacle.rule, wanted=1, had=0, node=node.name,
                text=f"Segment {placed.segment.index} holds node {node.index} '{node.name}', "
                f"and the executor of peer {placed.peer_id} {obstacle.text}.")


def _of(
    placed: SegmentPlacement, rule: str, wanted: float, had: float, text: str
) -> Refusal:
    return Refusal(subject=placed.peer_id, rule=rule, wanted=wanted, had=had, text=text)
