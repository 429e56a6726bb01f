"""Why peers are idle and why a job cannot be planned, as data."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from dag.cluster import PeerResources
from dag.pipeline.feasible import Feasibility
from dag.pipeline.ranges import Ranges
from dag.placement import PlacementProblem, Refusal


def too_few_peers(problem: PlacementProblem, had: int) -> Refusal | None:
    """The job asks for more peers than there are, or than can run a part of it."""
    wanted, known = max(1, problem.job.peers), len(problem.cluster.peers)
    if wanted <= had:
        return None
    able = "" if had == known else f" and can run a part of it, of {known}"
    return Refusal(
        subject=problem.job.name, rule="count", wanted=wanted, had=had,
        text=f"The job needs {wanted} peers, and {had} are available{able}.")


def too_few_cuts(problem: PlacementProblem, had: int) -> Refusal:
    """The graph has fewer blocks than the job wants segments."""
    wanted = problem.job.peers
    return Refusal(
        subject=problem.job.name, rule="count", wanted=wanted, had=had,
        text=f"The job asks for {wanted} peers, but its graph can be cut into at most {had} "
        "segments.")


def no_cut(problem: PlacementProblem, wanted: int, covered: int) -> Refusal:
    """Every node can be run, but not in so many segments."""
    return Refusal(
        subject=problem.job.name, rule="count", wanted=wanted, had=covered,
        text=f"No cut into exactly {wanted} segments gives each peer only what its executor can "
        f"run; one into {covered} does.")


def out_of_memory(
    problem: PlacementProblem, tables: Ranges, pool: Sequence[int],
    shortage: Sequence[tuple[int, int, int]],
) -> tuple[Refusal, ...]:
    """What the nearest plan lacks.

    Args:
        problem: the job.
        tables: bytes of its blocks.
        pool: peers considered.
        shortage: (segment, peer, bytes missing) of the nearest plan.
    """
    peers = problem.cluster.peers
    refusals = [
        Refusal(
            subject=peers[peer].peer_id, rule="memory",
            wanted=peers[peer].memory_bytes + missing, had=peers[peer].memory_bytes,
            text=f"Segment {segment} of the nearest plan takes "
            f"{peers[peer].memory_bytes + missing} bytes; the peer offers "
            f"{peers[peer].memory_bytes}, {missing} too few.")
        for segment, peer, missing in shortage]
    whole = int(tables.fixed[0, -1] + tables.per_microbatch[0, -1])
    offered = sum(peers[peer].memory_bytes for peer in pool)
    total = sum(missing for _, _, missing in shortage)
    refusals.append(Refusal(
        subject=problem.job.name, rule="memory", wanted=whole, had=offered,
        text=f"The job takes {whole} bytes on one peer, more when cut; the peers offer {offered} "
        f"bytes together. {total} bytes are missing."))
    return tuple(refusals)


class IdlePeers:
    """Why each peer that a plan does not use is idle."""

    def __init__(
        self, problem: PlacementProblem, feasible: Feasibility, pool: Sequence[int],
        tables: Ranges, with_peer_s: Callable[[int], float | None],
    ) -> None:
        """Explain a plan.

        Args:
            problem: the job.
            feasible: what each peer can run.
            pool: peers that were considered.
            tables: of the job's blocks.
            with_peer_s: predicted step with one more peer, None if no plan with it was found.
        """
        self._problem, self._feasible, self._pool = problem, feasible, frozenset(pool)
        self._tables, self._with_peer_s = tables, with_peer_s

    def reason(self, peer: int, used: int, step_s: float, runs_all: bool) -> Refusal:
        """Why one peer is not among the `used` of a plan with that step."""
        subject = self._problem.cluster.peers[peer]
        if not self._feasible.runs_any(peer):
            return self._feasible.refusal(peer)
        if self._problem.job.peers:
            return _count(
                subject, used, f"The job asks for exactly {used} peer{'' if used == 1 else 's'}; "
                "others suit it better.")
        if peer not in self._pool:
            return _count(
                subject, len(self._pool),
                f"Only the {len(self._pool)} most promising peers were considered.")
        if used == self._tables.count:
            return _count(
                subject, used, f"The graph cannot be cut into more than {used} segments.")
        longer_s = self._with_peer_s(peer)
        if longer_s is None:
            return self._no_room(peer, subject, runs_all)
        return Refusal(
            subject=subject.peer_id, rule="slower", wanted=step_s, had=longer_s,
            text=f"With it a step would take {longer_s:.4g} s instead of {step_s:.4g} s.")

    def _no_room(self, peer: int, subject: PeerResources, runs_all: bool) -> Refusal:
        table = self._tables.fixed + self._tables.per_microbatch
        needed = int(min(table[i, i + 1] for i in range(self._tables.count)))
        if needed <= subject.memory_bytes and not runs_all:
            return self._feasible.refusal(peer)
        return Refusal(
            subject=subject.peer_id, rule="memory", wanted=needed, had=subject.memory_bytes,
            text=f"Beside the chosen peers nothing fits into its {subject.memory_bytes} bytes; "
            f"the smallest part of the graph takes {needed}, more in a pipeline.")


def _count(subject: PeerResources, had: int, text: str) -> Refusal:
    return Refusal(
        subject=subject.peer_id, rule="count", wanted=had + 1, had=had, text=text)
