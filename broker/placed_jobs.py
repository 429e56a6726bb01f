"""Where jobs run: the console's placement page and `broker placement show` are made of this."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from broker.core import views
from broker.core.machine import Broker
from broker.core.state import PeerState
from broker.core.views import JobView, PeerView, SegmentCoverage, SegmentLink
from broker.telemetry import Telemetry

JOBS_SEEN = 1_000
"""Newest jobs that are looked at."""

Traffic = Mapping[tuple[str, str], int]
"""(from peer, to peer) -> payload bytes sent for the job."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlacedJob:
    """A job that has a place.

    Attributes:
        job: itself.
        coverage: of its segments, by number; empty before it has started.
    """

    job: JobView
    coverage: tuple[SegmentCoverage, ...]


def placed_jobs(core: Broker, job_id: str = "") -> Iterator[PlacedJob]:
    """Jobs that have a place and have not ended, newest first; only one if its exact id is given.

    Cost: that of `views.backup_view`, and linear in `JOBS_SEEN`.
    """
    coverage: dict[str, list[SegmentCoverage]] = defaultdict(list)
    for one in views.backup_view(core.state):
        coverage[one.job_id].append(one)
    known = views.job(core, job_id) if job_id else None
    for job in (known,) if known else views.jobs(core, limit=JOBS_SEEN):
        if job.segments and not job.has_ended:
            yield PlacedJob(job=job, coverage=tuple(coverage[job.job_id]))


def links_of(
    core: Broker, telemetry: Telemetry, job: JobView
) -> tuple[tuple[SegmentLink, ...], Traffic]:
    """A job's links, and what was sent over them. Cost: linear in its boundary tensors."""
    sent = {(one.peer_id, traffic.to_peer): traffic.sent_bytes for one in job.segments
            for traffic in telemetry.traffic(job.job_id, one.peer_id)}
    return views.segment_links(core, job.job_id), sent


def free_peers(core: Broker) -> tuple[PeerView, ...]:
    """Live peers that neither run nor stand by. Cost: that of `views.peers`."""
    return tuple(
        peer for peer in views.peers(core)
        if peer.state == PeerState.LIVE and peer.standing == "admitted"
        and not peer.leases and not peer.standbys)
