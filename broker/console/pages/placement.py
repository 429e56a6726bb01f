"""Where everything runs now: for each job that has a place a strip of segments, and its links."""

from __future__ import annotations

from collections import defaultdict

from starlette.requests import Request

from broker.console.graph import Graph, graph
from broker.console.page import ConsoleParts, Page
from broker.console.pages.peers import shown_state
from broker.console.strip import strip
from broker.core import operator_views, views
from broker.core.views import JobView, SegmentCoverage

JOBS_SHOWN = 100
GRAPHS_SHOWN = 10
"""Jobs whose links are drawn: the newest."""
JOBS_SEEN = 1_000


def placement(request: Request, parts: ConsoleParts) -> Page:
    """The strips of the newest jobs that run, and the peers that are in none of them."""
    coverage: dict[str, list[SegmentCoverage]] = defaultdict(list)
    for one in views.backup_view(parts.core.state):
        coverage[one.job_id].append(one)
    jobs = [job for job in views.jobs(parts.core, limit=JOBS_SEEN)
            if job.segments and not job.has_ended]
    peers = views.peers(parts.core)
    names = {peer.peer_id: peer.name for peer in peers}
    free = [peer for peer in peers
            if shown_state(peer) == "live" and not peer.leases and not peer.standbys]
    shown = [(strip(job, coverage[job.job_id], names),
              _graph(parts, job, coverage[job.job_id], names) if number < GRAPHS_SHOWN else None)
             for number, job in enumerate(jobs[:JOBS_SHOWN])]
    return Page(
        template="placement.html", title="Placement", command="broker backups", values={
            "shown": shown,
            "more": max(0, len(jobs) - JOBS_SHOWN), "free": free})


def _graph(
    parts: ConsoleParts, job: JobView, coverage: list[SegmentCoverage], names: dict[str, str]
) -> Graph:
    """The links of one job, with what was sent over them."""
    sent = {(one.peer_id, traffic.to_peer): traffic.sent_bytes for one in job.segments
            for traffic in parts.telemetry.traffic(job.job_id, one.peer_id)}
    return graph(
        job, views.segment_links(parts.core, job.job_id), coverage,
        operator_views.timeline(parts.core, job.job_id), sent, names)
