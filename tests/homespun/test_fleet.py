"""A fleet survives its file, and a file that is wrong says where."""

from __future__ import annotations

import json

import pytest

from broker.core import events as ev
from broker.core.views import LeaseView, PeerView
from broker.rpc import fleet_codec
from broker.rpc.fleet_codec import fleet_parts
from dag.cluster import DenseRates, Link, PeerRates, PeerResources
from dag.support import FIRST_RELEASE
from homespun.errors import Code, HomespunError
from homespun.fleet import Fleet, FleetPeer, fleet_of, read_fleet, write_fleet

RATES = PeerRates(
    matmul_flops_per_s=1e12, attention_flops_per_s=5e11, memory_bytes_per_s=1e11,
    narrow=(DenseRates(dtype="bfloat16", matmul_flops_per_s=4e12, attention_flops_per_s=2e12,
                       convolution_flops_per_s=1e12),))


def fleet():
    peers = tuple(
        FleetPeer(
            name=name, device_name="RTX 3080", is_free=free,
            resources=PeerResources(
                peer_id=f"peer_{name}", memory_bytes=8 << 30, rates=RATES, executor="torch",
                support=support))
        for name, free, support in (
            ("ann", True, FIRST_RELEASE), ("bob", False, FIRST_RELEASE), ("zoë", True, None)))
    return Fleet(peers=peers, links=(
        Link(source="peer_ann", target="peer_bob", latency_s=0.01, bandwidth_bytes_per_s=1.25e7),))


def view(number, state="live", leases=()):
    links = (Link(source=f"p{number}", target=f"p{number - 1}", latency_s=0.5,
                  bandwidth_bytes_per_s=1e6),) if number else ()
    return PeerView(
        peer_id=f"p{number}", name=f"name {number}", state=state, trouble="", session_id="s",
        hardware=ev.PeerHardware(
            device="cuda:0", device_name="RTX", memory_bytes=number + 1, rates=RATES,
            executor="torch", platform="linux", threads=1, support=FIRST_RELEASE),
        tensor_address="127.0.0.1:1", software_version="1", last_seen_ns=0, last_report=0,
        leases=leases, links=links)


class Answering:
    """A connection whose broker has these peers."""

    def __init__(self, peers):
        self._peers = peers

    def patiently(self, action):
        return action(1.0)

    def stream(self, method, request):
        assert method == "GetFleet"
        return fleet_parts(self._peers)


def test_written_and_read(tmp_path):
    path = tmp_path / "fleet.json"
    path.write_text(write_fleet(fleet()), encoding="utf-8")
    assert read_fleet(path) == fleet()
    assert len(json.loads(path.read_text(encoding="utf-8"))["supports"]) == 1


def test_live_peers_alone_arrive_and_their_addresses_do_not(monkeypatch):
    monkeypatch.setattr(fleet_codec, "PEERS_PER_PART", 2)
    monkeypatch.setattr(fleet_codec, "LINKS_PER_PART", 1)
    busy = (LeaseView(job_id="j", segment=0, token=1, phase="running"),)
    peers = [view(0), view(1, leases=busy), view(2), view(3, state="lost"), view(4)]
    parts = list(fleet_parts(peers))
    assert [len(part.peers) for part in parts] == [2, 2, 0, 0]
    assert sum(len(part.supports) for part in parts) == 1
    assert b"127.0.0.1" not in b"".join(part.SerializeToString() for part in parts)
    found = fleet_of(Answering(peers))
    assert [peer.resources.peer_id for peer in found.peers] == ["p0", "p1", "p2", "p4"]
    assert [peer.is_free for peer in found.peers] == [True, False, True, True]
    assert all(peer.resources.rates == RATES for peer in found.peers)
    assert all(peer.resources.support == FIRST_RELEASE for peer in found.peers)
    assert [(link.source, link.target) for link in found.links] == [("p1", "p0"), ("p2", "p1")]


@pytest.mark.parametrize(("where", "value", "names"), [
    ("schema", "homespun.cluster/1", "schema"),
    ("peers", [], "peers"),
    ("peers.0.id", "peer_bob", "peers[1].id"),
    ("peers.0.id", 5, "peers[0].id"),
    ("peers.0.memory_bytes", -1, "peers[0].memory_bytes"),
    ("peers.0.memory_bytes", 0.5, "peers[0].memory_bytes"),
    ("peers.0.memory", 1, "peers[0].memory"),
    ("peers.0.support", 7, "peers[0].support"),
    ("peers.0.rates", ..., "peers[0].rates"),
    ("peers.0.rates.matmul_flops_per_s", -1.0, "peers[0].rates"),
    ("peers.0.rates.matmul_flops_per_s", "fast", "peers[0].rates"),
    ("peers.0.rates.memory_bytes_per_s", ..., "peers[0].rates"),
    ("peers.0.rates.matmul", 1.0, "peers[0].rates.matmul"),
    ("links.0.source", "gone", "links[0].source"),
    ("links.0.latency_s", -1, "links[0].latency_s"),
    ("links.0.bandwidth_bytes_per_s", 0, "links[0].bandwidth_bytes_per_s"),
    ("supports.0.opset_min", "x", "supports[0]"),
    ("peers.0.rates.narrow", "\ud800", "peers[0].rates"),
    ("peers.0.rates.forward_overhead_s", 10**400, "peers[0].rates"),
])
def test_what_is_wrong_is_named(tmp_path, where, value, names):
    whole = json.loads(write_fleet(fleet()))
    *path, last = [int(part) if part.isdigit() else part for part in where.split(".")]
    holder = whole
    for part in path:
        holder = holder[part]
    if value is ...:
        del holder[last]
    else:
        holder[last] = value
    file = tmp_path / "fleet.json"
    file.write_text(json.dumps(whole), encoding="utf-8")
    with pytest.raises(HomespunError) as caught:
        read_fleet(file)
    assert caught.value.code is Code.INVALID_ARGUMENT
    assert f"{file}: {names}" in caught.value.message
