"""Who is asked to measure which link, and what is kept."""

from __future__ import annotations

from math import inf, nan

import pytest

from broker.core import commands as do
from broker.core import events as ev
from broker.core import limits, views
from dag.cluster import DEFAULT_LATENCY_S, Link


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


def transfers(world, bandwidth, source="peer_a", target="peer_b"):
    return world.apply(ev.TransfersMeasured, source=source, target=target,
                       bandwidth_bytes_per_s=bandwidth)


def known(world, source="peer_a", target="peer_b"):
    return world.broker.state.links[source, target].link


def later(world, minutes):
    world.now_ns += minutes * 60 * 10**9


def test_transfers_outweigh_a_probe_and_keep_its_latency(world):
    world.running("peer_a", "peer_b")
    world.apply(ev.LinkMeasured, link=link(latency=0.02, bandwidth=1e8))
    transfers(world, 1.6e9)  # no more than four times is believed at once
    assert known(world).latency_s == 0.02
    assert known(world).bandwidth_bytes_per_s == pytest.approx(1e8 * 4**0.75)
    world.apply(ev.LinkMeasured, link=link(latency=0.03, bandwidth=1e8))
    assert known(world).latency_s == 0.03
    assert known(world).bandwidth_bytes_per_s == pytest.approx(1e8 * 4**(0.75 * 0.75))


@pytest.mark.parametrize("truth", [2e7, 3e8, 5e9])
def test_repeated_transfers_are_believed(world, truth):
    world.running("peer_a", "peer_b")
    world.apply(ev.LinkMeasured, link=link(bandwidth=1e8))
    for _ in range(12):
        later(world, 1)
        transfers(world, truth)
    assert known(world).bandwidth_bytes_per_s == pytest.approx(truth, rel=0.05)


def test_one_bad_minute_is_halved(world):
    world.running("peer_a", "peer_b")
    transfers(world, 1e8)
    transfers(world, 1.0)
    assert known(world).bandwidth_bytes_per_s == pytest.approx(1e8 / 2)


def test_what_is_old_gives_way(world):
    world.running("peer_a", "peer_b")
    transfers(world, 1e8)
    later(world, 61)
    world.apply(ev.LinkMeasured, link=link(bandwidth=1e6))
    assert known(world).bandwidth_bytes_per_s == 1e6
    later(world, 61)
    transfers(world, 2e6)
    assert known(world).bandwidth_bytes_per_s == 2e6


def test_transfers_of_a_pair_that_was_never_probed(world, only):
    world.running("peer_a", "peer_b")
    transfers(world, 5e7)
    assert known(world) == link(latency=DEFAULT_LATENCY_S, bandwidth=5e7)
    world.disconnect("peer_b")
    # Transfers tell nothing of the latency, so a probe is still due.
    assert pairs(only, world.connect("peer_b")) == [("peer_b", "peer_a"), ("peer_a", "peer_b")]


@pytest.mark.parametrize("bandwidth", [0.0, -1.0, nan, inf, 1e14])
def test_impossible_transfers_are_ignored(world, only, bandwidth):
    world.running("peer_a", "peer_b")
    notes = only(transfers(world, bandwidth), do.Note)
    assert [note.event for note in notes] == ["measurement_ignored"]
    assert not world.broker.state.links


def test_only_neighbours_in_a_job_can_have_transferred(world, only):
    world.running("peer_a", "peer_b")
    world.connect("peer_c")
    for source, target in (("peer_a", "peer_c"), ("peer_c", "peer_a"), ("peer_a", "peer_x")):
        (note,) = only(transfers(world, 1e8, source, target), do.Note)
        assert note.event == "measurement_ignored"
    assert not world.broker.state.links
