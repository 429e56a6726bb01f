"""What one peer is, and where jobs run, as the messages that operators see."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from broker.core import operator_views, views
from broker.core.event_log import LineFilter
from broker.core.machine import Broker
from broker.core.views import SegmentLink
from broker.placed_jobs import PlacedJob, Traffic, free_peers, links_of, placed_jobs
from broker.rpc.operator_codec import backup_peer, event_line, peer_status
from broker.telemetry import Telemetry
from homespun.v1 import operator_pb2

PEER_EVENTS = 50
"""Lines about a peer, the newest."""
FREE_PER_PART = 1_000


def peer_details(core: Broker, peer_id: str) -> operator_pb2.PeerDetails:
    """Everything about a peer by its exact id. Cost: linear in the event log that is kept."""
    peer = views.peer(core, peer_id)
    assert peer is not None, "peers are never forgotten"
    names = _names(core)
    lines = operator_views.newest_events(core, LineFilter(subject=peer_id), PEER_EVENTS)
    return operator_pb2.PeerDetails(
        peer=peer_status(peer), idle=operator_views.why_idle(core, peer_id),
        linked=[backup_peer(names, link.target) for link in peer.links],
        events=map(event_line, lines))


def placement_parts(
    core: Broker, telemetry: Telemetry, job_id: str
) -> Iterator[operator_pb2.PlacementPart]:
    """Where jobs run: each in a part, then, unless one was named by its exact id, who is free."""
    names = _names(core)
    for one in placed_jobs(core, job_id):
        links, sent = links_of(core, telemetry, one.job)
        yield operator_pb2.PlacementPart(jobs=[operator_pb2.PlacedJob(
            job_id=one.job.job_id, name=one.job.name, state=one.job.state,
            segments=_segments(one, names),
            links=[_link(link, sent, names) for link in links])])
    free = () if job_id else free_peers(core)
    for first in range(0, len(free), FREE_PER_PART):
        yield operator_pb2.PlacementPart(free=[
            backup_peer(names, peer.peer_id) for peer in free[first:first + FREE_PER_PART]])


def _segments(one: PlacedJob, names: Mapping[str, str]) -> list[operator_pb2.PlacedSegment]:
    coverage = {each.segment: each for each in one.coverage}
    found = []
    for held in one.job.segments:
        covered = coverage.get(held.segment)
        found.append(operator_pb2.PlacedSegment(
            segment=held.segment, peer=backup_peer(names, held.peer_id), phase=held.phase,
            token=held.token, gap=covered.gap if covered else "",
            standbys=[backup_peer(names, peer_id, level) for peer_id, level in covered.standbys]
            if covered else ()))
    return found


def _link(
    link: SegmentLink, sent: Traffic, names: Mapping[str, str]
) -> operator_pb2.PlacedLink:
    measured = link.measured
    return operator_pb2.PlacedLink(
        source=link.source, target=link.target,
        source_peer=backup_peer(names, link.source_peer),
        target_peer=backup_peer(names, link.target_peer),
        microbatch_bytes=link.microbatch_bytes,
        latency_s=measured.latency_s if measured else None,
        bandwidth_bytes_per_s=measured.bandwidth_bytes_per_s if measured else None,
        sent_bytes=sent.get((link.source_peer, link.target_peer), 0))


def _names(core: Broker) -> dict[str, str]:
    return {peer_id: peer.name for peer_id, peer in core.state.peers.items()}
