"""What peers say in heartbeats about their progress: shown to people, never decided upon.

In memory only; a heartbeat after a restart fills it again.
"""

from __future__ import annotations

from collections.abc import Sequence

from homespun.v1 import session_pb2


class Telemetry:
    """The latest progress and traffic, by (job, segment) and (job, from peer, to peer)."""

    def __init__(self) -> None:
        self._progress: dict[tuple[str, int], session_pb2.SegmentProgress] = {}
        self._traffic: dict[tuple[str, str], dict[str, session_pb2.LinkTraffic]] = {}
        self._alive: dict[str, None] = {}

    def heartbeat(self, peer_id: str, beat: session_pb2.Heartbeat) -> None:
        """Take in a heartbeat of a peer that holds the segments it speaks of."""
        self._alive[peer_id] = None
        for progress in beat.progress:
            self._progress[progress.job_id, progress.segment] = progress
        for traffic in beat.traffic:
            self._traffic.setdefault((traffic.job_id, peer_id), {})[traffic.to_peer] = traffic

    def take_alive(self) -> tuple[str, ...]:
        """Peers that showed life since the last call."""
        alive = tuple(self._alive)
        self._alive.clear()
        return alive

    def progress(self, job_id: str, segment: int) -> session_pb2.SegmentProgress | None:
        """The latest progress of a segment."""
        return self._progress.get((job_id, segment))

    def traffic(self, job_id: str, peer_id: str) -> Sequence[session_pb2.LinkTraffic]:
        """What a peer has sent for a job, by receiver."""
        return list(self._traffic.get((job_id, peer_id), {}).values())

    def forget(self, job_id: str) -> None:
        """Drop a finished job's progress; its traffic stays for the final status."""
        for key in [key for key in self._progress if key[0] == job_id]:
            del self._progress[key]
