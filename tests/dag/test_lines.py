"""When what is sent over shared lines arrives."""

from dataclasses import replace

import pytest

from dag.cluster import Link
from dag.cost import Links
from dag.lines import Lines, Sending

SENDING = Sending(source=0, target=1, takes_s=2.0, up_s=0.0, down_s=0.0, latency_s=0.5)


def arrivals(*sent):
    lines = Lines()
    return [lines.arrival_s(sending, now_s) for sending, now_s in sent]


def test_a_pair_carries_one_thing_at_a_time():
    assert arrivals((SENDING, 0.0), (SENDING, 1.0), (SENDING, 10.0)) == [2.5, 4.5, 12.5]


def test_two_ways_and_unshared_lines_do_not_meet():
    there, back = SENDING, replace(SENDING, source=1, target=0)
    other = replace(SENDING, target=2)
    assert arrivals((there, 0.0), (back, 0.0), (other, 0.0)) == [2.5, 2.5, 2.5]


def test_an_uplink_is_one_line_for_all_targets():
    there = replace(SENDING, up_s=2.0)
    assert arrivals((there, 0.0), (replace(there, target=2), 0.0)) == [2.5, 4.5]
    # A slow receiver takes only a part of a fast uplink.
    slow = replace(SENDING, up_s=0.25)
    assert arrivals((slow, 0.0), (replace(slow, target=2), 0.0)) == [2.5, 2.75]


def test_a_downlink_is_one_line_for_all_sources():
    there = replace(SENDING, down_s=2.0)
    assert arrivals((there, 0.0), (replace(there, source=2), 1.0)) == [2.5, 4.5]


def test_a_peers_line_is_as_fast_as_its_fastest_link(world):
    cluster = replace(world.cluster(*(world.peer(n) for n in range(3))), links=tuple(
        Link(source=f"peer_{a}", target=f"peer_{b}", latency_s=0.0, bandwidth_bytes_per_s=rate)
        for a, b, rate in ((0, 1, 1e6), (0, 2, 4e6), (1, 2, 2e6))))
    links = Links(cluster)
    slow, fast = links.between("peer_0", "peer_1"), links.between("peer_0", "peer_2")
    assert links.lines_seconds(slow, 4_000_000) == pytest.approx((1.0, 4.0))
    assert links.lines_seconds(fast, 4_000_000) == pytest.approx((1.0, 1.0))
    assert links.lines_seconds(links.between("peer_1", "peer_2"), 4_000_000) == pytest.approx(
        (2.0, 1.0))
