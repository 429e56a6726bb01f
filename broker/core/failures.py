"""What a segment's failure means: for whom it counts, and whether the segment is tried again.

A failure that is the job's own ends the job: it would come again anywhere. Any other is answered
like a loss, on another peer where one can, until the segment has failed `SEGMENT_ATTEMPTS` times
without coming further. A peer whose device failed the segment does not get it again.

Numbers that stop being finite within a segment may be the job's doing or a sick device's. A second
peer that computes the same again decides: if it comes to the same, the job ends with that.
"""

from __future__ import annotations

from broker.core import limits
from broker.core.events import SegmentFailed
from broker.core.state import FailureRecord, JobRecord, LeaseRecord
from homespun.causes import PASSING, Cause, cause_of
from homespun.errors import Code


def failure_of(job: JobRecord, lease: LeaseRecord) -> FailureRecord:
    """A segment's failures since it last came further."""
    known = job.failures.get(lease.index)
    if known is None or lease.steps_done > known.steps_done:
        known = job.failures[lease.index] = FailureRecord(steps_done=lease.steps_done)
    return known


def count(job: JobRecord, lease: LeaseRecord, event: SegmentFailed, *, is_own: bool) -> str:
    """Take a failure into account.

    Args:
        job: whose segment has failed.
        lease: whose holder says so.
        event: what it says.
        is_own: nobody else is to blame.

    Returns:
        Why the job must end; "" if the segment may be tried again.
    """
    cause = cause_of(event.code, event.cause)
    record = failure_of(job, lease)
    if event.code == Code.LOSS_NOT_FINITE and is_own:
        record.not_finite.add(lease.peer_id)
        if len(record.not_finite) > 1:
            return f"{len(record.not_finite)} peers have come to it: it is the job's own doing"
    elif cause is Cause.JOB and is_own:
        return "it is the job's own failure"
    record.count += 1
    if cause not in PASSING and is_own:
        record.avoided[lease.peer_id] = f"has failed it ({cause}: {event.message[:200]})"
    if record.count >= limits.SEGMENT_ATTEMPTS:
        return f"it has failed {record.count} times without coming further"
    return ""


def avoid(job: JobRecord, lease: LeaseRecord, why: str) -> None:
    """A neighbour blames this segment's peer: it does not get the segment again."""
    failure_of(job, lease).avoided[lease.peer_id] = why
