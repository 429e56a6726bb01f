"""Peers: the list, one of them, and what an operator does to one."""

from __future__ import annotations

from collections.abc import Mapping

from starlette.requests import Request

from broker.console.page import ConsoleParts, Page, number, options_of, query_of, turned
from broker.core import operator_views, views
from broker.core.event_log import LineFilter
from broker.core.limits import MAX_PEERS
from broker.core.views import PeerView
from broker.operator_actions import Actor
from homespun.errors import Code, HomespunError
from homespun.units import parse_duration_ms

EVENTS_SHOWN = 50
PEERS_PER_PAGE = 250
"""Rows that a browser lays out in half a second."""
STATES = ("pending", "suspect", "live", "lost", "banned")
"""In the order in which a list has them."""


def peer_list(request: Request, parts: ConsoleParts) -> Page:
    """All peers, those that need somebody first, in pages."""
    first = number(request.query_params, "from", MAX_PEERS)
    query = query_of(request, "text", "state")
    found = sorted(
        (peer for peer in views.peers(parts.core) if _is_wanted(peer, query)),
        key=lambda peer: (STATES.index(shown_state(peer)), peer.name))
    last = first + PEERS_PER_PAGE
    shown = found[first:last]
    return Page(
        template="peers.html", title="Peers",
        command=f"broker peers {options_of(query)}".strip(), values={
            "peers": [(peer, shown_state(peer)) for peer in shown],
            "idle": operator_views.first_reasons(
                parts.core, (peer.peer_id for peer in shown)),
            "query": query, "chosen": options_of(query), "states": STATES,
            "following": turned(request, query, last) if len(found) > last else "",
            "previous": turned(request, query, max(0, first - PEERS_PER_PAGE)) if first else "",
            "newcomers": operator_views.newcomers(parts.core)})


def _is_wanted(peer: PeerView, query: Mapping[str, str]) -> bool:
    text = query["text"].casefold()
    return query["state"] in ("", shown_state(peer)) and any(
        text in each.casefold() for each in (peer.peer_id, peer.name, peer.label))


def shown_state(peer: PeerView) -> str:
    """Whether a peer is there; of one that is pending or banned, that."""
    return peer.state if peer.standing == "admitted" else peer.standing


def peer(request: Request, parts: ConsoleParts) -> Page:
    """One peer: hardware, rates, links, what it does, and why it does nothing."""
    peer_id = request.path_params["peer_id"]
    found = views.peer(parts.core, peer_id)
    if found is None:
        raise HomespunError(Code.NOT_FOUND, "There is no such peer: the list has all.")
    return Page(
        template="peer.html", title=f"Peer {found.name}", command=f"broker peer {found.peer_id}",
        values={
            "peer": found,
            "state": shown_state(found),
            "names": {other: record.name for other, record in parts.core.state.peers.items()},
            "idle": operator_views.why_idle(parts.core, peer_id),
            "events": operator_views.newest_events(
                parts.core, LineFilter(subject=peer_id), EVENTS_SHOWN)})


async def drain(
    request: Request, parts: ConsoleParts, actor: Actor, form: Mapping[str, str]
) -> str:
    """Have a peer emptied, or used again (`undo`)."""
    deadline = form.get("deadline", "").strip()
    peer_id = await parts.actions.drain_peer(
        actor, request.path_params["peer_id"], undo=form.get("undo") == "yes",
        deadline_ms=parse_duration_ms(deadline) if deadline else 0)
    return f"/peers/{peer_id}"


async def admit(
    request: Request, parts: ConsoleParts, actor: Actor, form: Mapping[str, str]
) -> str:
    """Let a pending peer take part."""
    await parts.actions.admit_peer(actor, request.path_params["peer_id"])
    return "/peers"


async def ban(
    request: Request, parts: ConsoleParts, actor: Actor, form: Mapping[str, str]
) -> str:
    """Shut a peer out, or in again (`undo`)."""
    peer_id = await parts.actions.ban_member(
        actor, request.path_params["peer_id"], undo=form.get("undo") == "yes")
    return f"/peers/{peer_id}"


async def label(
    request: Request, parts: ConsoleParts, actor: Actor, form: Mapping[str, str]
) -> str:
    """Say what a peer is to people."""
    peer_id = await parts.actions.label_peer(
        actor, request.path_params["peer_id"], form.get("label", "").strip())
    return f"/peers/{peer_id}"
