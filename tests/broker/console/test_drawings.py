"""Strips and lanes: every segment has its place, and its state."""

from __future__ import annotations

from types import SimpleNamespace

from broker.console.lanes import LANE_HEIGHT, SPANS_MAX, WIDTH, lanes
from broker.console.strip import CELL, LEFT, strip
from broker.core.timeline import Span
from broker.core.views import SegmentCoverage


def job(*phases):
    segments = [SimpleNamespace(segment=index, peer_id=peer, phase=phase)
                for index, (peer, phase) in enumerate(phases)]
    return SimpleNamespace(job_id="job_1", name="n", state="running",
                           segments=segments)


def covered(segment, *standbys, gap=""):
    return SegmentCoverage(
        job_id="job_1", segment=segment, peer_id="", position=0, position_at_ns=0,
        latest_position=0, holders=(), standbys=standbys, gap=gap)


def test_holders_are_full_and_backups_hollow_each_in_its_row():
    drawn = strip(
        job(("peer_a", "running"), ("peer_b", "ready")),
        [covered(0, ("peer_c", "hot")), covered(1, ("peer_c", ""), gap="a snapshot")],
        {"peer_a": "attic"})
    assert [peer_id for peer_id, *_ in drawn.peers] == ["peer_a", "peer_b", "peer_c"]
    assert [name for _, name, _ in drawn.peers] == ["attic", "peer_b", "peer_c"]
    assert [(cell.state, (cell.x - LEFT) // CELL, cell.y // CELL) for cell in drawn.cells] == [
        ("running", 0, 0), ("ready", 1, 1), ("backup", 0, 2), ("backup-waits", 1, 2)]
    assert drawn.lacking == (1,)
    assert (drawn.width, drawn.height) == (LEFT + 2 * CELL, 3 * CELL)


def test_a_job_that_has_not_started_has_no_backups():
    drawn = strip(job(("peer_a", "assigned")), [], {})
    assert [cell.state for cell in drawn.cells] == ["assigned"]


def span(segment, token, assigned, running=0, ended=0, end=""):
    return Span(segment=segment, peer_id=f"peer_{token}", token=token, position=0,
                assigned_at_ns=assigned, running_at_ns=running, ended_at_ns=ended, end=end)


def test_a_takeover_is_two_bars_of_one_lane():
    drawn = lanes(
        [span(0, 1, 100, 150, 200, "revoked"), span(0, 3, 200), span(2, 2, 100, 110)],
        {"peer_1": "attic"}, 100, 300)
    bars = {bar.token: bar for bar in drawn.bars}
    assert [(bars[token].x, bars[token].width, bars[token].loading, bars[token].state)
            for token in (1, 2, 3)] == [
        ("0.0", "400.0", "200.0", "revoked"), ("0.0", "800.0", "40.0", "holds"),
        ("400.0", "400.0", "400.0", "holds")]
    assert (bars[1].peer, bars[2].peer) == ("attic", "peer_2")
    assert [index for index, _ in drawn.segments] == [0, 2]
    assert float(bars[2].y) == LANE_HEIGHT == drawn.height / 2


def test_the_newest_bars_are_drawn_and_stay_inside():
    drawn = lanes([span(0, token, 0, 0, 10**9, "revoked") for token in range(1, 2_000)], {}, 5, 10)
    assert len(drawn.bars) == SPANS_MAX
    assert {bar.token for bar in drawn.bars} == set(range(2_000 - SPANS_MAX, 2_000))
    assert all(float(bar.x) >= 0 and float(bar.x) + float(bar.width) <= WIDTH
               for bar in drawn.bars)
    assert lanes([], {}, 0, 10) is None
    assert lanes([span(0, 1, 0)], {}, 10, 10) is None
