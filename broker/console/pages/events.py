"""What happened, and what operators did."""

from __future__ import annotations

from starlette.requests import Request

from broker.console.page import ConsoleParts, Page, options_of, query_of
from broker.core import operator_views
from broker.core.event_log import LineFilter
from homespun.units import parse_duration_ms

LINES_SHOWN = 500
AUDIT_SHOWN = 500
EVENTS_COMMAND = f"broker events --limit {LINES_SHOWN}"


def events(request: Request, parts: ConsoleParts) -> Page:
    """The event log, newest first, filtered by what the address asks for."""
    query = query_of(request, "subject", "kind", "text", "since")
    since_ns = 0
    if query["since"]:
        since_ns = parts.driver.now_ns() - 1_000_000 * parse_duration_ms(query["since"])
    wanted = LineFilter(
        subject=query["subject"], kind=query["kind"], text=query["text"], since_ns=since_ns)
    return Page(
        template="events.html", title="Events",
        command=f"{EVENTS_COMMAND} {options_of(query)}".strip(), values={
            "query": query, "everything": EVENTS_COMMAND,
            "chosen": options_of(query), "limit": LINES_SHOWN,
            "events": operator_views.newest_events(parts.core, wanted, LINES_SHOWN)})


def audit(request: Request, parts: ConsoleParts) -> Page:
    """What operators did, newest first."""
    return Page(
        template="audit.html", title="Audit log",
        command=f"broker audit --limit {AUDIT_SHOWN}", values={
            "entries": operator_views.audit(parts.core, AUDIT_SHOWN), "limit": AUDIT_SHOWN})
