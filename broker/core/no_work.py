"""Why a peer runs nothing, counted over all jobs, each with the change that would help."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from broker.core.left_out import left_out
from broker.core.state import JobState, PeerRecord, PeerState, State

REASONS_MAX = 16
CHANGES: Mapping[str, str] = {
    "not_admitted": "ask the operator: broker admit",
    "drained": "ask the operator: broker drain --undo",
    "unavailable": "peer resume, or what `peer status` names",
    "no_jobs": "nothing: the next job asks this peer too",
    "job_waits": "nothing that one peer can do, unless it lends what the job lacks",
    "memory": "lend more: peer set memory",
    "slower": "a quicker network to the others or a quicker device; the job is faster without it",
    "operator": "peer set executor, to one that runs it",
    "dtype": "peer set executor, to one that runs it",
    "opset": "peer set executor, to one that runs it",
    "trainable": "peer set executor torch or jax",
    "count": "nothing: the job asked for fewer peers",
}
"""What would help, by rule; other rules have nothing that an owner can change."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NoWorkReason:
    """One reason.

    Attributes:
        rule: stable short name: a key of `CHANGES`, or another rule of a planner's refusal.
        jobs: how many unfinished jobs it is about; 0 for none in particular.
        text: for people; of several jobs that of the newest.
        change: what would help.
    """

    rule: str
    jobs: int
    text: str
    change: str


Refusals = Mapping[str, Mapping[str, NoWorkReason]]
"""Peer -> rule -> reason."""


def counted_refusals(state: State) -> Refusals:
    """Why peers were left out of the plans of unfinished jobs.

    Cost: linear in those plans' peers; ask once for many peers.
    """
    found: dict[str, dict[str, NoWorkReason]] = {}
    for job in state.unfinished.values():
        for each in left_out(job):
            of_peer = found.setdefault(each.subject, {})
            before = of_peer.get(each.rule)
            of_peer[each.rule] = _reason(
                each.rule, f"{job.job_id}: {each.text}", 1 + (before.jobs if before else 0))
    return found


def no_work(state: State, peer_id: str, refusals: Refusals) -> tuple[NoWorkReason, ...]:
    """Why a peer runs nothing; empty for one that does, or that is not known or away.

    Args:
        state: the core's.
        peer_id: which.
        refusals: as `counted_refusals` gives them.
    """
    peer = state.peers.get(peer_id)
    if peer is None or peer.leases or peer.state is not PeerState.LIVE:
        return ()
    waiting = [job for job in state.unfinished.values()
               if job.state is JobState.SUBMITTED and job.reason]
    reasons = [*standing_reasons(peer), *sorted(
        refusals.get(peer_id, {}).values(), key=lambda each: (-each.jobs, each.rule))]
    if waiting:
        reasons.append(_reason(
            "job_waits", f"{waiting[-1].job_id} {waiting[-1].reason}.", len(waiting)))
    if not state.unfinished:
        reasons.append(_reason("no_jobs", "No job waits or runs."))
    return tuple(reasons[:REASONS_MAX])


def standing_reasons(peer: PeerRecord) -> tuple[NoWorkReason, ...]:
    """What stands against a live peer whatever the jobs are."""
    reasons = []
    if peer.is_pending:
        reasons.append(_reason("not_admitted", "It waits for an operator to admit it."))
    if peer.is_drained:
        reasons.append(_reason("drained", "An operator drains it."))
    if peer.availability != "open":
        reasons.append(_reason("unavailable", f"Its owner has it {peer.availability}."))
    return tuple(reasons)


def _reason(rule: str, text: str, jobs: int = 0) -> NoWorkReason:
    return NoWorkReason(rule=rule, jobs=jobs, text=text, change=CHANGES.get(rule, ""))
