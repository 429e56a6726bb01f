"""Where everything runs now: for each job that has a place a strip of segments, and its links."""

from __future__ import annotations

from starlette.requests import Request

from broker.console.graph import Graph, graph
from broker.console.page import ConsoleParts, Page
from broker.console.strip import strip
from broker.core import operator_views
from broker.placed_jobs import PlacedJob, free_peers, links_of, placed_jobs

JOBS_SHOWN = 100
GRAPHS_SHOWN = 10
"""Jobs whose links are drawn: the newest."""


def placement(request: Request, parts: ConsoleParts) -> Page:
    """The strips of the newest jobs that run, and the peers that are in none of them."""
    placed = list(placed_jobs(parts.core))
    names = {peer_id: peer.name for peer_id, peer in parts.core.state.peers.items()}
    shown = [(strip(one.job, one.coverage, names),
              _graph(parts, one, names) if number < GRAPHS_SHOWN else None)
             for number, one in enumerate(placed[:JOBS_SHOWN])]
    return Page(
        template="placement.html", title="Placement", command="broker placement show", values={
            "shown": shown, "more": max(0, len(placed) - JOBS_SHOWN),
            "free": free_peers(parts.core)})


def _graph(parts: ConsoleParts, one: PlacedJob, names: dict[str, str]) -> Graph:
    """The links of one job, with what was sent over them."""
    links, sent = links_of(parts.core, parts.telemetry, one.job)
    return graph(
        one.job, links, one.coverage, operator_views.timeline(parts.core, one.job.job_id), sent,
        names)
