"""Answer a placement problem, and verify the answer before anyone sees it.

Pure and deterministic; the broker runs it in a process of its own, outside its core.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import inf

from dag.cluster import problem_with_rates
from dag.pipeline.search import plan_pipeline
from dag.placement import Infeasible, Placement, PlacementProblem, Refusal
from dag.verify import verify

MAX_PEERS_WANTED = 256


def plan(problem: PlacementProblem) -> Placement | Infeasible:
    """Plan a job.

    Args:
        problem: a checked graph, the job, and the peers.

    Returns:
        The verified placement with the shortest predicted step, or why there is none.
    """
    if refusals := tuple(_problem_refusals(problem)):
        return Infeasible(refusals=refusals, missing_bytes=0)
    answer = plan_pipeline(problem)
    if isinstance(answer, Placement) and (refusals := verify(answer, problem)):
        return Infeasible(refusals=refusals, missing_bytes=0)
    return answer


def _problem_refusals(problem: PlacementProblem) -> Iterator[Refusal]:
    """What makes a problem unanswerable whatever the placer."""
    job, graph, peers = problem.job, problem.graph, problem.cluster.peers
    if not graph.nodes or not graph.outputs:
        yield _job_refusal(problem, "graph", 1, 0, "The graph computes nothing.")
    described = {ref.name for ref in job.parameters}
    if unknown := [name for name in graph.parameters if name not in described]:
        yield _job_refusal(
            problem, "graph", len(graph.parameters), len(graph.parameters) - len(unknown),
            f"The job does not describe parameter '{unknown[0]}' of its graph"
            f" and {len(unknown) - 1} more.")
    if job.flow < 1:
        yield _job_refusal(
            problem, "graph", 1, job.flow, "A step needs a microbatch.")
    if not 0 <= job.peers <= MAX_PEERS_WANTED:
        yield _job_refusal(
            problem, "count", MAX_PEERS_WANTED, job.peers,
            f"A job may ask for 0 to {MAX_PEERS_WANTED} peers, not {job.peers}.")
    if not peers:
        yield _job_refusal(problem, "count", max(1, job.peers), 0, "No peer is available.")
    if len({peer.peer_id for peer in peers}) != len(peers):
        yield _job_refusal(
            problem, "count", len(peers), len({peer.peer_id for peer in peers}),
            "A peer is listed twice.")
    for peer in peers:
        trouble = problem_with_rates(peer.rates)
        if peer.memory_bytes <= 0:
            trouble = f"memory_bytes is {peer.memory_bytes}; expected above 0"
        if trouble:
            yield Refusal(
                subject=peer.peer_id, rule="rates", wanted=1, had=0,
                text=f"Peer {peer.peer_id} reports the impossible: {trouble}.")
    for link in problem.cluster.links:
        if not (0 <= link.latency_s < inf and link.bandwidth_bytes_per_s > 0):
            yield Refusal(
                subject=link.source, rule="rates", wanted=1, had=0,
                text=f"The link from {link.source} to {link.target} has an impossible measure.")


def _job_refusal(
    problem: PlacementProblem, rule: str, wanted: float, had: float, text: str
) -> Refusal:
    return Refusal(subject=problem.job.name, rule=rule, wanted=wanted, had=had, text=text)
