"""What peers say in heartbeats about their progress: shown to people, never decided upon.

In memory only; a heartbeat after a restart fills it again.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field

from homespun.v1 import session_pb2

JOBS_MAX = 1_000
"""Jobs remembered; the one heard of longest ago makes room."""


@dataclass(slots=True)
class _JobTelemetry:
    progress: dict[int, session_pb2.SegmentProgress] = field(default_factory=dict)
    traffic: dict[str, tuple[session_pb2.LinkTraffic, ...]] = field(default_factory=dict)


class Telemetry:
    """The latest progress by segment, and traffic by sender, of the jobs last heard of."""

    def __init__(self) -> None:
        self._jobs: OrderedDict[str, _JobTelemetry] = OrderedDict()
        self._alive: dict[str, None] = {}

    def heartbeat(self, peer_id: str, beat: session_pb2.Heartbeat) -> None:
        """Take in a heartbeat of a peer that holds the segments it speaks of."""
        self._alive[peer_id] = None
        for progress in beat.progress:
            self._job(progress.job_id).progress[progress.segment] = progress
        for job_id in {traffic.job_id for traffic in beat.traffic}:
            sent = tuple(traffic for traffic in beat.traffic if traffic.job_id == job_id)
            self._job(job_id).traffic[peer_id] = sent

    def take_alive(self) -> tuple[str, ...]:
        """Peers that showed life since the last call."""
        alive = tuple(self._alive)
        self._alive.clear()
        return alive

    def progress(self, job_id: str, segment: int) -> session_pb2.SegmentProgress | None:
        """The latest progress of a segment."""
        job = self._jobs.get(job_id)
        return None if job is None else job.progress.get(segment)

    def traffic(self, job_id: str, peer_id: str) -> Sequence[session_pb2.LinkTraffic]:
        """What a peer has sent for a job, by receiver; still there when the job has ended."""
        job = self._jobs.get(job_id)
        return () if job is None else job.traffic.get(peer_id, ())

    def _job(self, job_id: str) -> _JobTelemetry:
        job = self._jobs.setdefault(job_id, _JobTelemetry())
        self._jobs.move_to_end(job_id)
        if len(self._jobs) > JOBS_MAX:
            self._jobs.popitem(last=False)
        return job
