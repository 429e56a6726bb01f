"""Who is asked to measure which link, and what is kept."""

from __future__ import annotations

from math import inf, nan

import pytest

from broker.core import commands as do
from broker.core import events as ev
from broker.core import limits, views
from dag.cluster import Link


def pairs(only, commands):
    return [(c.peer_id, c.to_peer) for c in only(commands, do.MeasureLink)]


def link(source="peer_a", target="peer_b", latency=0.01, bandwidth=1e8):
    return Link(source=source, target=target, latency_s=latency, bandwidth_bytes_per_s=bandwidth)


def test_a_newcomer_is_measured_in_both_directions(world, only):
    assert pairs(only, world.connect("peer_a")) == []
    commands = world.connect("peer_b")
    assert pairs(only, commands) == [("peer_b", "peer_a"), ("peer_a", "peer_b")]
    assert only(commands, do.MeasureLink)[0].tensor_address == "peer_a:7000"


def test_fresh_measurements_are_not_repeated(world, only):
    world.connect("peer_a")
    world.connect("peer_b")
    world.apply(ev.LinkMeasured, link=link())
    world.disconnect("peer_b")
    assert pairs(only, world.connect("peer_b")) == [("peer_b", "peer_a")]
    world.now_ns += limits.LINK_FRESH_MS * 10**6
    world.disconnect("peer_b")
    assert len(pairs(only, world.connect("peer_b"))) == 2


def test_the_number_of_probes_is_bounded_per_join_and_per_minute(world, only, monkeypatch):
    monkeypatch.setattr(limits, "PROBES_PER_JOIN", 2)
    monkeypatch.setattr(limits, "PROBES_PER_WINDOW", 9)
    counts = [len(pairs(only, world.connect(f"peer_{i}"))) for i in range(6)]
    assert counts == [0, 2, 4, 3, 0, 0]
    world.now_ns += limits.PROBE_WINDOW_MS * 10**6
    assert len(pairs(only, world.connect("peer_9"))) == 4


def test_idle_peers_are_probed_first(world, only, monkeypatch):
    monkeypatch.setattr(limits, "PROBES_PER_JOIN", 1)
    world.running("peer_a")
    world.connect("peer_b")
    assert pairs(only, world.connect("peer_c")) == [("peer_c", "peer_b"), ("peer_b", "peer_c")]


@pytest.mark.parametrize(
    "bad",
    [link(source="peer_x"), link(target="peer_x"), link(target="peer_a"), link(latency=nan),
     link(latency=-1.0), link(latency=61.0), link(bandwidth=0.0), link(bandwidth=inf)],
)
def test_impossible_measurements_are_ignored(world, only, bad):
    world.connect("peer_a")
    world.connect("peer_b")
    commands = world.apply(ev.LinkMeasured, link=bad)
    assert [c.event for c in only(commands, do.Note)] == ["measurement_ignored"]
    assert not world.broker.state.links


def test_the_oldest_measurement_makes_room(world, monkeypatch):
    monkeypatch.setattr(limits, "MAX_LINKS", 2)
    for peer in ("peer_a", "peer_b", "peer_c"):
        world.connect(peer)
    for target in ("peer_b", "peer_c"):
        world.apply(ev.LinkMeasured, link=link(target=target))
    world.apply(ev.LinkMeasured, link=link(target="peer_b", bandwidth=5.0))
    world.apply(ev.LinkMeasured, link=link(source="peer_c", target="peer_a"))
    assert list(world.broker.state.links) == [("peer_a", "peer_b"), ("peer_c", "peer_a")]
    assert views.peer(world.broker, "peer_a").links == (link(bandwidth=5.0),)
