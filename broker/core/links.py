"""Who measures the link to whom, and what came out.

A newcomer is measured against a few live peers in both directions. Both the number per join and
the number per minute are bounded, and a fresh measurement is not repeated.
"""

from __future__ import annotations

from math import isfinite

from broker.core import limits
from broker.core.commands import MeasureLink
from broker.core.events import LinkMeasured
from broker.core.state import NS_PER_MS, LinkRecord, PeerRecord, PeerState, State, Turn
from dag.cluster import Link


def probe_newcomer(turn: Turn, peer: PeerRecord) -> None:
    """Ask for the links between `peer` and live peers; idle ones first, as probes disturb work.

    Cost: O(peers log peers).
    """
    others = sorted(
        (other for other in turn.state.peers.values()
         if other.state is PeerState.LIVE and other is not peer),
        key=lambda other: (bool(other.leases), other.peer_id),
    )
    for other in others[: limits.PROBES_PER_JOIN]:
        _probe(turn, peer, other)
        _probe(turn, other, peer)


def _probe(turn: Turn, source: PeerRecord, target: PeerRecord) -> None:
    state = turn.state
    record = state.links.get((source.peer_id, target.peer_id))
    if record is not None and turn.now_ns - record.at_ns < limits.LINK_FRESH_MS * NS_PER_MS:
        return
    if turn.now_ns - state.probe_window_start_ns >= limits.PROBE_WINDOW_MS * NS_PER_MS:
        state.probe_window_start_ns = turn.now_ns
        state.probes_in_window = 0
    if state.probes_in_window >= limits.PROBES_PER_WINDOW:
        return
    state.probes_in_window += 1
    turn.emit(
        MeasureLink(
            peer_id=source.peer_id,
            to_peer=target.peer_id,
            tensor_address=target.tensor_address,
        )
    )


def measured(turn: Turn, event: LinkMeasured) -> None:
    """Remember a measurement, unless it cannot be one."""
    state, link = turn.state, event.link
    problem = _problem_with(state, link)
    if problem:
        turn.note(link.source, "measurement_ignored", f"A link of {link.source}: {problem}.")
        return
    state.peers[link.source].last_seen_ns = turn.now_ns
    key = (link.source, link.target)
    state.links.pop(key, None)
    if len(state.links) >= limits.MAX_LINKS:
        del state.links[next(iter(state.links))]
    state.links[key] = LinkRecord(link=link, at_ns=turn.now_ns)


def _problem_with(state: State, link: Link) -> str:
    if link.source not in state.peers or link.target not in state.peers:
        return "one end is unknown"
    if link.source == link.target:
        return "both ends are the same"
    if not isfinite(link.latency_s) or not 0 <= link.latency_s <= limits.MAX_LATENCY_S:
        return f"latency_s is {link.latency_s}"
    bandwidth = link.bandwidth_bytes_per_s
    if not isfinite(bandwidth) or not 0 < bandwidth <= limits.MAX_BANDWIDTH_BYTES_PER_S:
        return f"bandwidth_bytes_per_s is {bandwidth}"
    return ""
