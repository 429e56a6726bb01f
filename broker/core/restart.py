"""What a broker's absence must not cost anybody.

While the broker is away nobody can report, so no wait for a peer's or the planner's word may run
out meanwhile. Promises about the clock on the wall, such as when a drained peer will be empty or
until when a key can be used, stay as they are.
"""

from __future__ import annotations

from dataclasses import replace

from broker.core.state import JobRecord, PeerRecord, State


def excuse(state: State, away_ns: int) -> None:
    """Let every wait go on with the time that was left of it when the broker was last heard of.

    Args:
        state: as of the last event before the absence, but for its time.
        away_ns: nanoseconds since then.

    Cost: O(peers + leases and standbys of unfinished jobs).
    """
    for job in state.unfinished.values():
        _excuse_job(job, away_ns)
    for job in state.collecting.values():
        if job.partial is not None:
            job.partial.deadline_ns += away_ns
    for peer in state.peers.values():
        _excuse_peer(peer, away_ns)


def _excuse_job(job: JobRecord, away_ns: int) -> None:
    job.deadline_ns = _later(job.deadline_ns, away_ns)
    job.fallback_ns = _later(job.fallback_ns, away_ns)
    job.growth.awaited_until_ns += away_ns
    for standby in job.standbys.values():
        standby.deadline_ns = _later(standby.deadline_ns, away_ns)
    for lease in job.leases:
        if lease.trouble is not None:
            lease.trouble = replace(
                lease.trouble, deadline_ns=lease.trouble.deadline_ns + away_ns)


def _excuse_peer(peer: PeerRecord, away_ns: int) -> None:
    """Leases of ended jobs too: who holds one is still to confirm that it holds it no more."""
    peer.suspect_at_ns += away_ns
    for lease in peer.leases.values():
        lease.deadline_ns = _later(lease.deadline_ns, away_ns)


def _later(at_ns: int | None, away_ns: int) -> int | None:
    return None if at_ns is None else at_ns + away_ns
