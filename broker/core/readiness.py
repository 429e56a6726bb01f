"""Backups that are to get ready: how long they have for it, and what becomes of those that break.

A backup breaks when its process dies, or when it cannot get its blobs or compile. It then *rests*:
it goes on as a keeper of snapshots, another takes its place where there is one, and after a pause,
longer each time, it may be chosen again. So no gap waits for somebody who has given up.
"""

from __future__ import annotations

from broker.core import limits
from broker.core.leases import preparation_ms
from broker.core.state import NS_PER_MS, STARTED, JobRecord, StandbyRecord, Turn

STORE, WARM, HOT = "store", "warm", "hot"
LEVELS = ("", STORE, WARM, HOT)
"""What a standby may have reached, the least first."""
READY = frozenset({WARM, HOT})
"""Levels at which a backup could take its segment over at once."""


def watch(turn: Turn, job: JobRecord, standby: StandbyRecord) -> None:
    """Give a backup that is to get ready its time for that, unless it runs already."""
    if standby.wanted not in READY:
        return
    if standby.level in READY:
        standby.deadline_ns, standby.problem = None, ""
    elif standby.deadline_ns is None:
        standby.deadline_ns = turn.now_ns + preparation_ms(turn, job) * NS_PER_MS


def ask_again(standby: StandbyRecord, wanted: str) -> None:
    """A keeper is to be ready too, with a new time for that."""
    standby.wanted, standby.deadline_ns = wanted, None


def rest(turn: Turn, job: JobRecord, standby: StandbyRecord, problem: str) -> None:
    """Let a backup that broke only keep snapshots for a while."""
    pause_ms = min(
        limits.BACKUP_REST_MS << min(standby.breaks, 16), limits.BACKUP_REST_MAX_MS)
    standby.breaks += 1
    standby.wanted, standby.problem = STORE, problem[: limits.MAX_MESSAGE]
    standby.deadline_ns = turn.now_ns + pause_ms * NS_PER_MS
    job.is_review_due = True
    label = turn.state.peers[standby.peer_id].label
    turn.note(job.job_id, "backup_broke", (
        f"Peer {label}, a backup of segment {standby.index}, rests for {pause_ms // 1_000} s: "
        f"{standby.problem}"))


def is_resting(standby: StandbyRecord) -> bool:
    """Whether a backup has broken lately."""
    return standby.wanted == STORE and standby.deadline_ns is not None


def time_passed(turn: Turn) -> None:
    """Let those rest that were not ready in time, and choose among those that have rested."""
    for job in turn.state.unfinished.values():
        if job.state in STARTED:
            for standby in job.standbys.values():
                if standby.deadline_ns is not None and standby.deadline_ns <= turn.now_ns:
                    _judge(turn, job, standby)


def _judge(turn: Turn, job: JobRecord, standby: StandbyRecord) -> None:
    if standby.wanted in READY:
        seconds = preparation_ms(turn, job) // 1_000
        rest(turn, job, standby, f"it was not ready within {seconds} s")
    else:
        standby.deadline_ns = None
        job.is_review_due = True


def next_deadline_ns(job: JobRecord) -> int | None:
    """When a backup of a job must be ready, or has rested."""
    return min((standby.deadline_ns for standby in job.standbys.values()
                if standby.deadline_ns is not None), default=None)
