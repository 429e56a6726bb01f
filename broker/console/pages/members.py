"""Members: everybody who has joined."""

from __future__ import annotations

from starlette.requests import Request

from broker.console.page import ConsoleParts, Page, number, turned
from broker.core.limits import MAX_IDENTITIES, MAX_PEERS
from broker.core.member_views import members

MEMBERS_PER_PAGE = 500


def member_list(request: Request, parts: ConsoleParts) -> Page:
    """Peers, then submitters, by name, in pages."""
    first = number(request.query_params, "from", MAX_IDENTITIES + MAX_PEERS)
    last = first + MEMBERS_PER_PAGE
    found = members(parts.core)
    return Page(
        template="members.html", title="Members", command="broker members", values={
            "members": found[first:last],
            "following": turned(request, {}, last) if len(found) > last else "",
            "previous": turned(request, {}, max(0, first - MEMBERS_PER_PAGE)) if first else ""})
