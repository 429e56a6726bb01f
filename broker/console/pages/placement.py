"""Where everything runs now: a strip of segments per peer, for each job that has a place."""

from __future__ import annotations

from collections import defaultdict

from starlette.requests import Request

from broker.console.page import ConsoleParts, Page
from broker.console.pages.peers import shown_state
from broker.console.strip import strip
from broker.core import views
from broker.core.views import SegmentCoverage

JOBS_SHOWN = 100
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
    return Page(
        template="placement.html", title="Placement", command="broker backups", values={
            "strips": [strip(job, coverage[job.job_id], names) for job in jobs[:JOBS_SHOWN]],
            "more": max(0, len(jobs) - JOBS_SHOWN), "free": free})
