"""A started job in another cut: all segments restart at the complete position, as other segments.

It is the fallback of a takeover, in which all segments go back together, with another plan: state
goes along by the names of parameters, from the snapshots of the cut before. Steps that are done
again are in the books already and do not count again.
"""

from __future__ import annotations

from broker.core import limits, pool, snapshots
from broker.core.leases import vacant_leases
from broker.core.state import (
    NS_PER_MS,
    FailureRecord,
    JobRecord,
    Turn,
    cluster_changed,
)
from broker.core.takeover import recover, vacate
from dag.placement import Placement


def cut_anew(turn: Turn, job: JobRecord, plan: Placement, why: str) -> None:
    """Replace the segments of a running job by others.

    Args:
        turn: the event being applied.
        job: running, with a snapshot of its complete position for every segment.
        plan: its new segments, on members of now and free peers.
        why: in a sentence after the job's name.
    """
    for lease in job.leases:
        vacate(turn, job, lease, f"{job.job_id} {why}")
    pool.end_all_standbys(turn, job)
    snapshots.cut_anew(job, [placed.segment for placed in plan.segments])
    job.first_serial += len(job.leases)
    job.placement = plan
    job.leases = vacant_leases(turn, job, plan, job.position)
    _forget_what_was_about_segments(job)
    job.growth.awaited = {placed.segment.index: placed.peer_id for placed in plan.segments}
    job.growth.awaited_until_ns = turn.now_ns + limits.RELEASE_TIMEOUT_MS * NS_PER_MS
    cluster_changed(turn.state)
    turn.note(job.job_id, "job_cut_anew", f"{job.job_id} {why}.")
    recover(turn, job)


def _forget_what_was_about_segments(job: JobRecord) -> None:
    """Rankings; and failures, but for who is not to run anything of this job again."""
    avoided = {peer_id: why for failure in job.failures.values()
               for peer_id, why in failure.avoided.items()}
    job.failures = {
        lease.index: FailureRecord(steps_done=lease.steps_done, avoided=dict(avoided))
        for lease in job.leases} if avoided else {}
    job.ranking, job.ranked_peers, job.is_ranking_asked = (), frozenset(), False
    job.fallback_ns, job.is_review_due = None, True
