"""What the planner knows of the peers, as the parts of a stream."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import TypeVar

from broker.core.state import PeerState
from broker.core.views import PeerView
from dag.support import ExecutorSupport
from homespun.v1 import jobs_pb2, session_pb2
from homespun.wire import to_message

PEERS_PER_PART = 256
LINKS_PER_PART = 10_000

T = TypeVar("T")


def fleet_parts(peers: Sequence[PeerView]) -> Iterator[jobs_pb2.FleetPart]:
    """Live peers and the links between them; what many peers' executors declare is sent once.

    Addresses, sessions and whose jobs run where are nobody's business but the operator's.
    """
    live = [peer for peer in peers
            if peer.state == PeerState.LIVE.value and peer.standing == "admitted"]
    sent: dict[ExecutorSupport, int] = {}
    for some in _pieces(iter(live), PEERS_PER_PART):
        part = jobs_pb2.FleetPart()
        for peer in some:
            support = peer.hardware.support
            if support not in sent:
                sent[support] = len(sent)
                part.supports.append(to_message(support, session_pb2.ExecutorSupport))
            part.peers.append(_peer(peer, sent[support]))
        yield part
    ids = {peer.peer_id for peer in live}
    links = (link for peer in live for link in peer.links if link.target in ids)
    for few in _pieces(links, LINKS_PER_PART):
        yield jobs_pb2.FleetPart(links=[to_message(link, jobs_pb2.FleetLink) for link in few])


def _peer(peer: PeerView, support: int) -> jobs_pb2.FleetPeer:
    hardware = peer.hardware
    return jobs_pb2.FleetPeer(
        peer_id=peer.peer_id, name=peer.name, is_free=not peer.leases,
        device_name=hardware.device_name, memory_bytes=hardware.memory_bytes,
        executor=hardware.executor, rates=to_message(hardware.rates, session_pb2.Rates),
        support=support)


def _pieces(items: Iterator[T], most: int) -> Iterator[list[T]]:
    while piece := list(islice(items, most)):
        yield piece
