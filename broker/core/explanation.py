"""Why a job's segments are where they are, read off what planner, ranking and takeovers left.

Nothing is decided here, and nothing is guessed: a reason that nobody recorded is not given.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice

from broker.core import limits, pool
from broker.core.left_out import left_out
from broker.core.machine import Broker
from broker.core.state import TERMINAL, JobRecord, LeaseRecord, PeerRecord, PeerState, State
from broker.core.views import named
from homespun.explanation import Alternative, Bound, Explanation, Offer, SegmentExplanation

SHOWN_OF_ALL = 8
"""Alternatives for each segment where all are asked about..."""
SHOWN_OF_ONE = 256
"""...and where it is one."""
LOOKS_MAX = 20_000
"""Pairs of a segment and a peer that are compared: a page must not hold the broker up."""
FULL = 0.9
"""Share of a peer's memory from which a segment fills it."""
EQUAL = 0.01
"""Predictions that differ by so little are the same."""

_ABLE = ("not_moved", "equal", "slower", "unranked")
"""Rules of alternatives that could have the segment."""


def explain(broker: Broker, job_id: str, segment: int | None = None) -> Explanation | None:
    """Explain a job's placement as it is now.

    Args:
        broker: the core.
        job_id: of a job that it knows.
        segment: whose peer is asked about; None for all.

    Returns:
        None where there is no such job, or no such segment of it.

    Cost: O(segments * peers), of which at most `LOOKS_MAX` cost more than a dict's look-up.
    """
    state = broker.state
    job = state.jobs.get(job_id)
    if job is None or (segment is not None and not 0 <= segment < len(job.leases)):
        return None
    placement = job.placement
    leases = job.leases if segment is None else [job.leases[segment]]
    shown = SHOWN_OF_ALL if segment is None else SHOWN_OF_ONE
    others = [] if job.state in TERMINAL else [
        peer for _, peer in sorted(state.peers.items()) if peer.state is not PeerState.LOST]
    return Explanation(
        job_id=job.job_id, state=job.state.value, reason=job.reason,
        algorithm=placement.algorithm if placement else "",
        step_s=placement.step_s if placement else 0.0,
        offers=tuple(
            Offer(algorithm=one.algorithm, has_plan=one.step_s is not None,
                  step_s=one.step_s or 0.0, reason=one.reason)
            for one in (placement.candidates if placement else ())),
        bounds=tuple(_bounds(state, job)),
        segments=tuple(
            _segment(state, job, lease, others, LOOKS_MAX // len(leases), shown)
            for lease in leases),
        idle=named(broker, left_out(job)))


def _segment(
    state: State, job: JobRecord, lease: LeaseRecord, others: list[PeerRecord], looks: int,
    shown: int,
) -> SegmentExplanation:
    assert job.placement is not None
    placed, peer = job.placement.segments[lease.index], state.peers[lease.peer_id]
    times = _times(job, lease.index)
    near = sorted(_alternatives(state, job, lease, times, others, looks), key=_order)
    return SegmentExplanation(
        segment=lease.index, peer_id=peer.peer_id, peer_name=peer.name, phase=lease.phase.value,
        rule="takeover" if lease.reason else "plan", why=_why(job, lease),
        planned_peer_id=placed.peer_id, planned_peer_name=state.peers[placed.peer_id].name,
        nodes=len(lease.segment.nodes), memory_bytes=lease.memory_bytes,
        memory_lent_bytes=peer.hardware.memory_bytes, in_flight=lease.in_flight,
        predicted_s=times.get(lease.peer_id, 0.0), measured_s=lease.pace_s,
        alternatives=tuple(near[:shown]),
        more_alternatives=max(0, sum(other is not peer for other in others) - shown))


def _why(job: JobRecord, lease: LeaseRecord) -> str:
    assert job.placement is not None
    if lease.reason:
        return lease.reason
    plan = job.placement
    found = sum(one.step_s is not None for one in plan.candidates)
    among = f", the shortest of {found} plans" if found > 1 else ""
    return f"{plan.algorithm} put it here: with this plan a step should take " \
           f"{plan.step_s:.3g} s{among}."


def _times(job: JobRecord, index: int) -> Mapping[str, float]:
    """Predicted time of a microbatch of a segment by peer, the best first, where there is one."""
    assert job.placement is not None
    placed = job.placement.segments[index]
    planned = {placed.peer_id: placed.forward_s + placed.backward_s}
    return dict(job.ranking[index]) if job.ranking else planned


# --- bounds -------------------------------------------------------------------------------------


def _bounds(state: State, job: JobRecord) -> Iterator[Bound]:
    if job.reason:
        yield Bound(rule="waits", segment=-1, text=f"It waits: {job.reason}.")
    if job.spec.peers:
        yield Bound(rule="count", segment=-1,
                    text=f"The job asks for exactly {job.spec.peers} peers.")
    if job.growth.verdict:
        yield Bound(rule="growth", segment=-1, text=f"{job.job_id} {job.growth.verdict}.")
    yield from _slowest(job)
    for lease in job.leases:
        peer = state.peers[lease.peer_id]
        share = lease.memory_bytes / max(peer.hardware.memory_bytes, 1)
        if share >= FULL:
            yield Bound(
                rule="memory", segment=lease.index,
                text=f"Segment {lease.index} takes {share:.0%} of the memory that {peer.label} "
                "lends.")


def _slowest(job: JobRecord) -> Iterator[Bound]:
    """The segment that the others wait for, as measured, or as predicted until all are."""
    if len(job.leases) < 2:
        return
    is_measured = all(lease.pace_s for lease in job.leases)
    times = {lease.index: lease.pace_s if is_measured
             else _times(job, lease.index).get(lease.peer_id, 0.0) for lease in job.leases}
    slowest = max(times, key=lambda index: (times[index], -index))
    others_s = max(time for index, time in times.items() if index != slowest)
    if times[slowest] > others_s * (1 + EQUAL):
        yield Bound(
            rule="slowest", segment=slowest,
            text=f"The pipeline waits for segment {slowest}: a microbatch "
            f"{'takes' if is_measured else 'should take'} {times[slowest]:.3g} s there and at most "
            f"{others_s:.3g} s elsewhere.")


# --- alternatives -------------------------------------------------------------------------------


def _alternatives(
    state: State, job: JobRecord, lease: LeaseRecord, times: Mapping[str, float],
    others: list[PeerRecord], looks: int,
) -> Iterator[Alternative]:
    """Peers besides the holder, those first that are ranked for the segment, at most `looks`."""
    here_s = times.get(lease.peer_id, 0.0)
    wanted = sorted(others, key=lambda peer: peer.peer_id not in times)
    for peer in islice(wanted, looks):
        if peer.peer_id == lease.peer_id:
            continue
        there_s = times.get(peer.peer_id, 0.0)
        standby = pool.standby_of(job, lease.index, peer)
        found = _obstacle(state, job, lease.index, peer, times) or _compared(here_s, there_s)
        yield Alternative(
            peer_id=peer.peer_id, peer_name=peer.name, microbatch_s=there_s,
            level=standby.level if standby else "", rule=found[0], text=found[1])


def _order(one: Alternative) -> tuple[bool, bool, float, str]:
    return one.rule not in _ABLE, not one.microbatch_s, one.microbatch_s, one.peer_id


def _obstacle(
    state: State, job: JobRecord, index: int, peer: PeerRecord, times: Mapping[str, float]
) -> tuple[str, str] | None:
    """What keeps a peer from having a segment at all: rule and sentence."""
    if peer.peer_id in state.banned:
        return "unavailable", "It is banned."
    if peer.is_pending:
        return "unavailable", "It waits for an operator to admit it."
    if peer.state is PeerState.SUSPECT:
        return "unavailable", f"It is suspect: {peer.trouble}."
    if not peer.is_open:
        return "unavailable", "An operator drains it." if peer.is_drained else \
            f"Its owner has it {peer.availability}."
    rule, text = pool.obstacle(state, job, index, peer, times)
    if rule:
        return rule, f"It {text}."
    if peer.leases:
        held = ", ".join(f"{lease.job_id}/{lease.index}" for lease in peer.leases.values())
        return "busy", f"It runs {held}."
    return None


def _compared(here_s: float, there_s: float) -> tuple[str, str]:
    """Why a segment is not on a peer that is free and could run it."""
    if not here_s or not there_s:
        return "unranked", "It is free; how fast it would be is not predicted yet."
    if there_s > here_s * (1 + EQUAL):
        return "slower", f"A microbatch should take {there_s:.3g} s there and {here_s:.3g} s here."
    if there_s >= here_s * (1 - EQUAL):
        return "equal", "It should be as fast, so moving would cost and bring nothing."
    return "not_moved", (
        f"A microbatch should take {there_s:.3g} s there and {here_s:.3g} s here. A segment that "
        "runs moves only if the job waits for it, its backup there is ready, and that saves more "
        f"than {limits.PAYBACK_S:.0f} s in what is left of the job.")
