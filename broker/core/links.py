"""Who measures the link to whom, and what came out.

A newcomer is measured against a few live peers in both directions. Both the number per join and
the number per minute are bounded, and a fresh measurement is not repeated. What jobs send refreshes
it: a probe is 4 MiB at a quiet moment, a job's tensors are what a plan is about. Both are folded:
the latency is the newest probe's; of the bandwidth, real transfers weigh more while they are fresh,
and reports smooth each other. Bandwidths are averaged as ratios, so half as fast and twice as fast
weigh the same.
"""

from __future__ import annotations

from dataclasses import replace
from math import isfinite

from broker.core import limits
from broker.core.commands import MeasureLink
from broker.core.events import LinkMeasured, TransfersMeasured
from broker.core.state import NS_PER_MS, LinkRecord, PeerRecord, State, Turn
from dag.cluster import DEFAULT_LATENCY_S, Link


def probe_newcomer(turn: Turn, peer: PeerRecord) -> None:
    """Ask for the links between `peer` and live peers; idle ones first, as probes disturb work.

    Cost: O(peers log peers).
    """
    others = sorted(
        (other for other in turn.state.peers.values()
         if other.is_present and other is not peer),
        key=lambda other: (bool(other.leases), other.peer_id),
    )
    for other in others[: limits.PROBES_PER_JOIN]:
        _probe(turn, peer, other)
        _probe(turn, other, peer)


def _probe(turn: Turn, source: PeerRecord, target: PeerRecord) -> None:
    state = turn.state
    record = state.links.get((source.peer_id, target.peer_id))
    if record is not None and _is_fresh(turn, record.at_ns):
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
    known = state.links.get((link.source, link.target))
    transfer_at_ns = 0 if known is None else known.transfer_at_ns
    if known is not None and _is_fresh(turn, transfer_at_ns):
        link = replace(link, bandwidth_bytes_per_s=_between(
            link.bandwidth_bytes_per_s, known.link.bandwidth_bytes_per_s, limits.TRANSFER_WEIGHT))
    _keep(state, LinkRecord(link=link, at_ns=turn.now_ns, transfer_at_ns=transfer_at_ns))


def transferred(turn: Turn, event: TransfersMeasured) -> None:
    """Fold in what a job's transfers showed, unless they cannot have."""
    state = turn.state
    known = state.links.get((event.source, event.target))
    latency_s = DEFAULT_LATENCY_S if known is None else known.link.latency_s
    link = Link(source=event.source, target=event.target, latency_s=latency_s,
                bandwidth_bytes_per_s=event.bandwidth_bytes_per_s)
    problem = _problem_with(state, link) or (
        "" if _are_neighbours(state, link) else "no job connects its ends")
    if problem:
        turn.note(event.source, "measurement_ignored", f"Transfers of {event.source}: {problem}.")
        return
    state.peers[event.source].last_seen_ns = turn.now_ns
    if known is not None:
        link = replace(link, bandwidth_bytes_per_s=_folded(turn, known, link.bandwidth_bytes_per_s))
    _keep(state, LinkRecord(
        link=link, at_ns=0 if known is None else known.at_ns, transfer_at_ns=turn.now_ns))


def _folded(turn: Turn, known: LinkRecord, bandwidth: float) -> float:
    """What is believed after one more report of transfers."""
    before = known.link.bandwidth_bytes_per_s
    most = limits.TRANSFER_CHANGE_MAX
    bounded = min(max(bandwidth, before / most), before * most)
    if _is_fresh(turn, known.transfer_at_ns):
        return _between(before, bounded, limits.TRANSFER_GAIN)
    if _is_fresh(turn, known.at_ns):
        return _between(before, bounded, limits.TRANSFER_WEIGHT)
    return bounded


def _is_fresh(turn: Turn, at_ns: int) -> bool:
    return at_ns > 0 and turn.now_ns - at_ns < limits.LINK_FRESH_MS * NS_PER_MS


def _between(one: float, other: float, weight: float) -> float:
    """Geometric mean of two bandwidths, `weight` of it the second's."""
    return float(one ** (1.0 - weight) * other**weight)


def _are_neighbours(state: State, link: Link) -> bool:
    """Whether both ends hold segments of one job. Cost: O(leases of both)."""
    theirs = {lease.job_id for lease in state.peers[link.target].leases.values()}
    return any(lease.job_id in theirs for lease in state.peers[link.source].leases.values())


def _keep(state: State, record: LinkRecord) -> None:
    key = (record.link.source, record.link.target)
    state.links.pop(key, None)
    if len(state.links) >= limits.MAX_LINKS:
        del state.links[next(iter(state.links))]
    state.links[key] = record


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
