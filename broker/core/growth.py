"""Fresh capacity: a running job is planned anew for peers that came, and cut anew if that pays.

Only jobs that train and leave the number of their peers open grow, and only with peers that run
what their members run and can put state together from several snapshots. One free peer for each
started job stays in the pool. The planner answers outside the core; whether its answer pays is
decided here, by what steps and loading really took. The cut itself comes when the next position is
complete, so next to nothing is done twice (docs/adr/0030-growth.md).
"""

from __future__ import annotations

from dataclasses import replace
from math import isfinite

from broker.core import limits, recut
from broker.core.commands import ReplanJob
from broker.core.events import JobReplanned
from broker.core.growth_record import GrowthRecord, Recut
from broker.core.planning import problem_with
from broker.core.pool import cluster_of
from broker.core.snapshots import step_seconds
from broker.core.state import (
    NS_PER_MS,
    STARTED,
    JobRecord,
    JobState,
    LeasePhase,
    PeerRecord,
    PeerState,
    State,
    Turn,
    free_peers,
)
from dag.placement import Placement
from dag.replanning.worth import Worth, worth
from ir.graph import TRAIN


def consider(turn: Turn) -> None:
    """Look whether running jobs could use peers that they do not know yet.

    Cost: O(unfinished jobs), and O(peers log peers) for each that may grow, where peers changed.
    """
    for job in list(turn.state.unfinished.values()):
        if job.state is not JobState.RUNNING or job.spec.kind != TRAIN or job.spec.peers:
            continue
        if job.growth.plan is not None:
            _carry_out(turn, job, job.growth.plan)
        elif job.growth.asked_version < 0:
            _look_for_newcomers(turn, job)


def next_deadline_ns(job: JobRecord) -> int | None:
    """When the planner is to be asked, or peers of a new cut are not waited for any longer."""
    growth = job.growth
    if growth.awaited:
        return growth.awaited_until_ns
    looks = job.state is JobState.RUNNING and growth.plan is None and growth.asked_version < 0
    return growth.due_ns if looks else None


def forget(job: JobRecord) -> None:
    """The broker was started: the planner's answer went with the process, peers come back."""
    growth = job.growth
    growth.known, growth.newcomers, growth.seen_version = frozenset(), (), -1
    growth.due_ns, growth.asked_version, growth.plan = None, -1, None


# --- who has come -------------------------------------------------------------------------------


def _look_for_newcomers(turn: Turn, job: JobRecord) -> None:
    state, growth = turn.state, job.growth
    if growth.seen_version != state.cluster_version:
        growth.seen_version = state.cluster_version
        free = [peer.peer_id for peer in free_peers(state)]
        growth.known = growth.known.intersection(free)
        newcomers = tuple(peer_id for peer_id in free if peer_id not in growth.known)
        if newcomers != growth.newcomers:
            growth.newcomers = newcomers
            settled_ns = turn.now_ns + state.policy.growth_settle_ms * NS_PER_MS
            growth.due_ns = max(settled_ns, growth.not_before_ns) if newcomers else None
    if growth.due_ns is not None and growth.due_ns <= turn.now_ns:
        growth.due_ns = None
        _ask(turn, job)


def _ask(turn: Turn, job: JobRecord) -> None:
    state, growth = turn.state, job.growth
    why_not = _reason_to_wait(state, job)
    if why_not:
        growth.verdict = f"is looked at again later: {why_not}"
        growth.due_ns = turn.now_ns + state.policy.growth_pause_ms * NS_PER_MS
        return
    assert job.placement is not None
    free = free_peers(state)
    members = [state.peers[lease.peer_id] for lease in job.leases]
    fresh = _fresh(state, job, free)
    growth.known, growth.newcomers = frozenset(peer.peer_id for peer in free), ()
    if not fresh:
        _decide(turn, job, "stays as it is: no free peer is left beside its backups")
        return
    growth.asked_version = state.cluster_version
    turn.emit(ReplanJob(
        job_id=job.job_id, spec=job.spec,
        segments=tuple(replace(placed, peer_id=lease.peer_id) for placed, lease in zip(
            job.placement.segments, job.leases, strict=True)),
        cluster=cluster_of(state, [*members, *fresh]), cluster_version=state.cluster_version))


def _reason_to_wait(state: State, job: JobRecord) -> str:
    """Why a job cannot be planned anew now; "" if it can."""
    if any(other.state not in STARTED for other in state.unfinished.values()):
        return "another job waits for peers"
    if len(job.losses) < limits.PACE_STEPS:
        return "it has not done enough steps to know how long they take"
    return _problem_with_members(state, job)


def _problem_with_members(state: State, job: JobRecord) -> str:
    for lease in job.leases:
        peer = state.peers[lease.peer_id]
        if lease.phase is not LeasePhase.RUNNING:
            return f"segment {lease.index} is {lease.phase}"
        if peer.availability != "open" or peer.is_drained or not peer.joins_parts:
            return f"{peer.label} takes no other segment"
    kinds = {state.peers[lease.peer_id].hardware.executor for lease in job.leases}
    return "its segments' states are those of different executors" if len(kinds) > 1 else ""


def _fresh(state: State, job: JobRecord, free: list[PeerRecord]) -> list[PeerRecord]:
    """Free peers that may become members: those that have not failed it, less the reserve."""
    executor = state.peers[job.leases[0].peer_id].hardware.executor
    able = [peer for peer in free if peer.joins_parts and peer.hardware.executor == executor
            and not any(peer.peer_id in failure.avoided for failure in job.failures.values())]
    largest = max(lease.memory_bytes for lease in job.leases)
    able.sort(key=lambda peer: (
        peer.hardware.memory_bytes < largest, peer.hardware.rates.matmul_flops_per_s,
        peer.peer_id))
    reserve = sum(other.state in STARTED for other in state.unfinished.values())
    return sorted(able[reserve:], key=lambda peer: peer.peer_id)


# --- what it is worth ---------------------------------------------------------------------------


def replanned(turn: Turn, event: JobReplanned) -> None:
    """Judge the planner's answer. One that pays waits for the next complete position."""
    job = turn.state.unfinished.get(event.job_id)
    if job is None or job.growth.asked_version != event.cluster_version or (
            event.cluster_version < 0):
        turn.note(event.job_id, "replan_ignored", "The planner answered a question of before.")
        return
    growth = job.growth
    growth.asked_version = -1
    growth.not_before_ns = turn.now_ns + turn.state.policy.growth_pause_ms * NS_PER_MS
    answer = event.answer
    if answer is None:
        _decide(turn, job, f"stays as it is: {event.problem[:limits.MAX_MESSAGE]}")
        return
    problem = problem_with(turn.state, job, answer) or _problem_with_numbers(answer, event)
    if problem:
        _decide(turn, job, f"stays as it is: the planner's answer is wrong: {problem}")
        return
    problem = _problem_now(turn.state, job, answer)
    if problem:
        _decide(turn, job, f"stays as it is: {problem}")
        _forget_newcomers(growth)
        return
    growth.plan, growth.plan_position = answer, job.position
    growth.plan_stay_s, growth.plan_move_s = event.stay_s, event.move_s
    _judge(turn, job, answer, "is to be cut anew at the next complete position")


def _problem_with_numbers(answer: Placement, event: JobReplanned) -> str:
    numbers = (answer.step_s, event.stay_s, event.move_s)
    good = all(isfinite(number) for number in numbers) and min(numbers[:2]) > 0 <= event.move_s
    return "" if good else f"the planner predicts {numbers} seconds"


def _forget_newcomers(growth: GrowthRecord) -> None:
    """They may be news again after the pause: the answer was not about what they are worth."""
    growth.known, growth.seen_version = frozenset(), -1


def _problem_now(state: State, job: JobRecord, plan: Placement) -> str:
    """Why a plan cannot be carried out any more; "" if it can."""
    if job.state is not JobState.RUNNING:
        return f"it is {job.state}"
    if problem := _problem_with_members(state, job):
        return problem
    usable = {lease.peer_id for lease in job.leases} | {
        peer.peer_id for peer in free_peers(state) if peer.joins_parts}
    gone = [placed.peer_id for placed in plan.segments if placed.peer_id not in usable]
    return f"{gone[0]}, which was planned for it, is not free any more" if gone else ""


def _judge(turn: Turn, job: JobRecord, plan: Placement, what: str) -> Worth | None:
    """What a plan is worth now, if it pays; else it is dropped."""
    gain = _worth(job, plan)
    cuts = f"{len(job.leases)} into {len(plan.segments)} segments"
    numbers = (f"a step takes {gain.before_s:.3g} s and should take {gain.after_s:.3g} s, the "
               f"change {gain.stop_s:.3g} s")
    least_s = turn.state.policy.growth_saved_min_ms / 1_000
    if gain.pays(least_saved_s=least_s, least_share=limits.GAIN_MIN):
        _decide(turn, job, f"{what}, from {cuts}: {numbers}; it pays after {gain.payback_s:.3g} s "
                           f"and saves {gain.saved_s:.3g} s")
        return gain
    job.growth.plan = None
    _decide(turn, job, f"stays as it is: from {cuts} {numbers}; that would save "
                       f"{gain.saved_s:.3g} s in all")
    return None


def _worth(job: JobRecord, plan: Placement) -> Worth:
    """By measured steps; the planner's two predictions only tell how they compare."""
    growth, before_s = job.growth, max(step_seconds(job), 1e-9)
    done_again = job.steps_done - job.position if job.position > growth.plan_position else 0
    return worth(
        before_s=before_s, after_s=before_s * plan.step_s / growth.plan_stay_s,
        stop_s=job.prepared_s + growth.plan_move_s + done_again * before_s,
        steps_left=job.spec.training.steps - job.steps_done)


def _decide(turn: Turn, job: JobRecord, verdict: str) -> None:
    job.growth.verdict = verdict
    turn.note(job.job_id, "job_replanned", f"{job.job_id} {verdict}.")


# --- when it is done ----------------------------------------------------------------------------


def _carry_out(turn: Turn, job: JobRecord, plan: Placement) -> None:
    """Cut a job anew as soon as a newer position is complete, if that is still right.

    A member that is away for the moment would lose its place: then a later position will do.
    """
    growth = job.growth
    if job.position <= growth.plan_position:
        return
    if any(turn.state.peers[lease.peer_id].state is not PeerState.LIVE for lease in job.leases):
        growth.plan_position = job.position
        return
    problem = _problem_now(turn.state, job, plan)
    if problem:
        growth.plan = None
        _decide(turn, job, f"stays as it is: {problem}")
        _forget_newcomers(growth)
        return
    gain = _judge(turn, job, plan, f"is cut anew at position {job.position}")
    if gain is None:
        return
    growth.plan = None
    growth.recuts.append(Recut(
        position=job.position, segments_before=len(job.leases), segments_after=len(plan.segments),
        worth=gain, at_ns=turn.now_ns))
    recut.cut_anew(turn, job, plan, growth.verdict)
