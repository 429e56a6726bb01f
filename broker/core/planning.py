"""Which waiting job is planned when, and what an answer of the planner means.

One placement is solved at a time, oldest job first, so two jobs never plan for the same free peer.
A job that must wait is considered again when `cluster_version` has changed, and never before: the
queue costs nothing while nothing changes. Answers are checked against the *current* state, as the
planner thinks about a copy that ages.
"""

from __future__ import annotations

from broker.core import limits
from broker.core.commands import SolvePlacement
from broker.core.events import PlacementSolved, PlanningFailed
from broker.core.jobs import fail, known_code, move
from broker.core.leases import assignment, grant, preparation_ms
from broker.core.pool import cluster_of
from broker.core.snapshots import begin
from broker.core.state import (
    NS_PER_MS,
    JobRecord,
    JobState,
    PeerRecord,
    PeerState,
    State,
    Turn,
    free_peers,
)
from dag.placement import Infeasible, Placement, Refusal
from homespun.errors import Code
from ir.graph import INFER, TRAIN

SHOWN_REFUSALS = 3
"""Refusals quoted in a message; the rest are in the placement's own list."""


def plan_next(turn: Turn) -> None:
    """Ask for the placement of the oldest job that has not been considered yet.

    Cost: O(unfinished jobs), and O(peers log peers) where one is considered.
    """
    state = turn.state
    if state.planning_job or _is_settling(state) or any(
            job.growth.awaited for job in state.unfinished.values()):
        return  # the last: a peer that comes free is spoken for
    for job in list(state.unfinished.values()):
        if job.state is not JobState.SUBMITTED:
            continue
        if job.considered_version == state.cluster_version:
            continue
        free = free_peers(state)
        job.considered_version = state.cluster_version
        reason = _reason_to_wait(state, job, free)
        if reason:
            job.reason = reason
            continue
        _ask(turn, job, free)
        return


def _is_settling(state: State) -> bool:
    """After a restart, the first peer to come back must not get everything: wait for the rest."""
    return state.now_ns < state.settle_until_ns and any(
        peer.state is PeerState.SUSPECT for peer in state.peers.values()
    )


def _reason_to_wait(state: State, job: JobRecord, free: list[PeerRecord]) -> str:
    live = sum(peer.is_present for peer in state.peers.values())
    suspect = sum(peer.state is PeerState.SUSPECT for peer in state.peers.values())
    wanted = max(job.spec.peers, 1)
    if live == 0:
        return "no live peers"
    if len(free) < wanted and (len(free) < live or suspect):
        return (f"needs {wanted} free peer{'s' * (wanted > 1)}; {len(free)} free, "
                f"{live - len(free)} busy, {suspect} reconnecting")
    return ""


def _ask(turn: Turn, job: JobRecord, free: list[PeerRecord]) -> None:
    state = turn.state
    move(job, JobState.PLANNING)
    job.considered_version = state.cluster_version
    job.deadline_ns = turn.now_ns + limits.PLANNING_TIMEOUT_MS * NS_PER_MS
    state.planning_job = job.job_id
    job.growth.known = frozenset(peer.peer_id for peer in free)
    turn.emit(
        SolvePlacement(
            job_id=job.job_id,
            spec=job.spec,
            cluster=cluster_of(state, free),
            cluster_version=state.cluster_version,
        )
    )


def put_back(turn: Turn, job: JobRecord, reason: str, considered_version: int) -> None:
    """Let a job that was being planned wait again."""
    move(job, JobState.SUBMITTED)
    job.reason = reason
    job.considered_version = considered_version
    turn.state.planning_job = ""
    turn.note(job.job_id, "job_waits", f"{job.job_id} waits: {reason}.")


def solved(turn: Turn, event: PlacementSolved) -> None:
    """Use the planner's answer, if it still fits."""
    job = _planned_job(turn, event.job_id)
    if job is None or event.cluster_version != job.considered_version:
        turn.note(event.job_id, "placement_ignored", "The planner answered a question of before.")
    elif event.answer is not None:
        _accept(turn, job, event.answer)
    elif event.infeasible is not None:
        _infeasible(turn, job, event.infeasible)
    else:
        fail(turn, job, Code.INTERNAL, "The planner answered with neither a plan nor a reason.")


def planning_failed(turn: Turn, event: PlanningFailed) -> None:
    """The planner refuses the job itself."""
    job = _planned_job(turn, event.job_id)
    if job is None:
        turn.note(event.job_id, "placement_ignored", "The planner answered a question of before.")
        return
    code = known_code(event.code)
    fail(turn, job, code, event.message)


def _planned_job(turn: Turn, job_id: str) -> JobRecord | None:
    job = turn.state.unfinished.get(job_id)
    return job if job is not None and job.state is JobState.PLANNING else None


def _accept(turn: Turn, job: JobRecord, answer: Placement) -> None:
    state = turn.state
    problem = problem_with(state, job, answer)
    if problem:
        fail(turn, job, Code.INTERNAL, f"The planner's answer is wrong: {problem}.")
        return
    free = {peer.peer_id for peer in free_peers(state)}
    gone = [placed.peer_id for placed in answer.segments if placed.peer_id not in free]
    if gone:
        # Version -1 is nobody's: the job is considered again at once.
        put_back(turn, job, f"{gone[0]}, chosen for it, is not free any more", -1)
        return
    move(job, JobState.PREPARING)
    state.planning_job = ""
    job.placement, job.placed_at_ns = answer, turn.now_ns
    for placed in answer.segments:
        grant(turn, job, placed, state.peers[placed.peer_id])
    begin(job)
    job.deadline_ns = turn.now_ns + preparation_ms(turn, job) * NS_PER_MS
    for lease in job.leases:
        turn.emit(assignment(turn, job, lease))
    where = ", ".join(state.peers[lease.peer_id].label for lease in job.leases)
    turn.note(job.job_id, "job_placed", f"{answer.algorithm} put {job.job_id} on {where}.")


def problem_with(state: State, job: JobRecord, answer: Placement) -> str:
    """The cheap facts of a placement; whether it is good was the planner's to verify."""
    segments = answer.segments
    peers = [placed.peer_id for placed in segments]
    homes = [name for placed in segments for name in placed.segment.parameters]
    names = {ref.name for ref in job.spec.parameters}
    memory = {
        peer_id: state.peers[peer_id].hardware.memory_bytes
        for peer_id in peers
        if peer_id in state.peers
    }
    if not 0 < len(segments) <= limits.MAX_SEGMENTS:
        return f"{len(segments)} segments"
    if [placed.segment.index for placed in segments] != list(range(len(segments))):
        return "the segments are not numbered 0, 1, 2, ..."
    if len(set(peers)) != len(peers):
        return "a peer has two segments"
    if job.spec.peers not in (0, len(segments)):
        return f"{len(segments)} segments for exactly {job.spec.peers} peers"
    losses = sum(placed.segment.has_loss for placed in segments)
    results = [result.name for placed in segments for result in placed.segment.results]
    if losses != (job.spec.kind == TRAIN):
        return "not exactly one segment computes the loss" if losses != 1 else "it has a loss"
    if len(set(results)) != len(results) or (job.spec.kind == INFER and not results):
        return "a graph output is given twice, or none is given"
    if len(set(homes)) != len(homes) or not set(homes) <= names:
        return "a parameter has two homes or is not the job's"
    for placed in segments:
        if placed.in_flight < 1 or placed.memory_bytes < 0:
            return f"segment {placed.segment.index} has nothing in flight or negative memory"
        if placed.memory_bytes > memory.get(placed.peer_id, placed.memory_bytes):
            return f"segment {placed.segment.index} is larger than its peer's memory"
    return ""


def _infeasible(turn: Turn, job: JobRecord, answer: Infeasible) -> None:
    """Wait if more peers could come free or come back; fail if these are all there are."""
    state = turn.state
    why = _text_of(answer.refusals)
    if job.considered_version != state.cluster_version:
        put_back(turn, job, f"the free peers changed while it was planned; before: {why}", -1)
        return
    free = {peer.peer_id for peer in free_peers(state)}
    others = sum(
        peer.state is not PeerState.LOST and peer.peer_id not in free
        for peer in state.peers.values()
    )
    if others:
        reason = f"does not fit on the {len(free)} free peers ({others} busy or away): {why}"
        put_back(turn, job, reason, state.cluster_version)
        return
    message = f"The job fits on no set of the {len(free)} live peers: {why}."
    if answer.missing_bytes:
        message += f" {answer.missing_bytes} bytes of device memory are missing."
    fail(turn, job, Code.CANNOT_PLACE, message)


def _text_of(refusals: tuple[Refusal, ...]) -> str:
    texts = [refusal.text.rstrip(".") for refusal in refusals[:SHOWN_REFUSALS]]
    more = len(refusals) - len(texts)
    if not texts:
        return "no reason given"
    return "; ".join(texts) + (f"; and {more} more reasons" if more > 0 else "")
