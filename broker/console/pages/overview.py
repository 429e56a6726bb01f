"""The first page: what there is, what runs, what needs somebody."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from starlette.requests import Request

from broker.console.page import ConsoleParts, Page
from broker.console.pages.peers import shown_state
from broker.core import operator_views, views
from broker.core.event_log import LineFilter
from broker.core.state import JobState, PeerState
from broker.core.views import JobView, PeerView

EVENTS_SHOWN = 15
CONCERNS_SHOWN = 20
JOBS_SEEN = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Concern:
    """Something that an operator may want to look at, and where."""

    text: str
    path: str


def overview(request: Request, parts: ConsoleParts) -> Page:
    """Counts, concerns, and what happened last."""
    peers = views.peers(parts.core)
    jobs = views.jobs(parts.core, limit=JOBS_SEEN)
    live = [peer for peer in peers if shown_state(peer) == PeerState.LIVE]
    concerns = [*_of_peers(peers), *_of_jobs(jobs), *_of_backups(parts)]
    return Page(
        template="overview.html", title="Overview", command="broker top --once",
        values={
            "network": parts.settings.address,
            "peers": Counter(map(shown_state, peers)),
            "jobs": Counter(job.state for job in jobs),
            "memory_bytes": sum(peer.hardware.memory_bytes for peer in live),
            "flops_per_s": sum(peer.hardware.rates.matmul_flops_per_s for peer in live),
            "free": sum(not peer.leases and not peer.is_drained and peer.availability == "open"
                        for peer in live),
            "running": [job for job in jobs if not job.has_ended],
            "concerns": concerns[:CONCERNS_SHOWN],
            "more": max(0, len(concerns) - CONCERNS_SHOWN),
            "events": operator_views.newest_events(parts.core, LineFilter(), EVENTS_SHOWN),
        })


def _of_peers(peers: tuple[PeerView, ...]) -> list[Concern]:
    pending = [
        Concern(text=f"Peer {peer.name} waits to be admitted.", path=f"/peers/{peer.peer_id}")
        for peer in peers if peer.standing == "pending"]
    suspect = [
        Concern(text=f"Peer {peer.name} is suspect: {peer.trouble}.",
                path=f"/peers/{peer.peer_id}")
        for peer in peers if peer.state == PeerState.SUSPECT]
    return pending + suspect


def _of_jobs(jobs: tuple[JobView, ...]) -> list[Concern]:
    return [
        Concern(text=f"{job.job_id} waits: {job.reason}.", path=f"/jobs/{job.job_id}")
        for job in jobs
        if job.reason and job.state in (JobState.SUBMITTED, JobState.RECOVERING)]


def _of_backups(parts: ConsoleParts) -> list[Concern]:
    return [
        Concern(text=f"Segment {one.segment} of {one.job_id} could not be taken over at once: "
                f"{one.gap}.", path="/backups")
        for one in views.backup_view(parts.core.state) if one.gap]
