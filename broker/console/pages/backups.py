"""The backup pool: who could take which segment over, from where, and what is missing."""

from __future__ import annotations

from starlette.requests import Request

from broker.console.page import ConsoleParts, Page
from broker.core import views


def backups(request: Request, parts: ConsoleParts) -> Page:
    """Every segment of every started job, those that lack something first."""
    found = sorted(views.backup_view(parts.core.state), key=lambda one: not one.gap)
    return Page(
        template="backups.html", title="Backup pool", command="broker backups", values={
            "segments": found, "now_ns": parts.driver.now_ns(),
            "names": {peer_id: peer.name for peer_id, peer in parts.core.state.peers.items()}})
