"""Which peers a job does without, and why, as it is now and not as it was planned."""

from __future__ import annotations

from broker.core.state import HELD_PHASES, JobRecord
from dag.placement import Refusal


def left_out(job: JobRecord) -> tuple[Refusal, ...]:
    """Whom the plan left out and who has given its segment up since, but for who has one now.

    Cost: linear in the plan's peers.
    """
    if job.placement is None:
        return ()
    holders = {lease.peer_id for lease in job.leases if lease.phase in HELD_PHASES}
    planned = tuple(each for each in job.placement.idle if each.subject not in holders)
    gave_up = tuple(
        Refusal(subject=placed.peer_id, rule="moved", wanted=0.0, had=0.0,
                text=f"It was planned for segment {lease.index}, which is on another peer now.")
        for placed, lease in zip(job.placement.segments, job.leases, strict=True)
        if lease.reason and placed.peer_id != lease.peer_id and placed.peer_id not in holders)
    return planned + gave_up
