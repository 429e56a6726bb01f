"""What a broker may still believe after its journal was put back from a copy.

What was decided after the copy was made is unknown, and some of it is still out there: peers hold
leases of it, submitters know its jobs, join keys were used or revoked. So nothing is ever given out
twice: tokens and job numbers go on far beyond. Every lease of the copy is taken back, and started
jobs go on at the complete position that the copy knows, or at the last one that all still have
snapshots of. No join key of the copy works any more.
"""

from __future__ import annotations

from broker.core import limits, restart, takeover
from broker.core.events import JournalRestored
from broker.core.jobs import put_back_to_queue
from broker.core.state import STARTED, JobState, Turn, cluster_changed


def restored(turn: Turn, event: JournalRestored) -> None:
    """The journal is a copy from here back. Cost: O(jobs + keys + segments * peers)."""
    state = turn.state
    restart.excuse(state, turn.since_last_ns)
    state.last_token += limits.RESTORED_TOKENS
    state.last_job += limits.RESTORED_JOBS
    for key in state.keys.values():
        key.is_revoked = True
    for job in list(state.unfinished.values()):
        if job.state in STARTED:
            takeover.go_back_to(
                turn, job, job.position, "the broker was restored from a copy of its journal")
        elif job.state is JobState.PREPARING:
            put_back_to_queue(turn, job, "is planned again, as the broker was restored")
    cluster_changed(state)
    why = f": {event.reason[: limits.MAX_REASON]}" if event.reason else "."
    turn.note("", "journal_restored", (
        f"The journal was restored from a copy, says {event.by}{why} All join keys are revoked."))
