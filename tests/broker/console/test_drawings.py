"""Strips, lanes and graphs: every segment has its place, and its state."""

from __future__ import annotations

from types import SimpleNamespace

from broker.console.axes import LEFT as LEFT_EDGE
from broker.console.axes import RIGHT, WIDTH
from broker.console.graph import BELOW, COLUMN, HOLDERS_MAX, graph
from broker.console.lanes import CHARACTER_WIDTH, LANE_HEIGHT, SPANS_MAX, lanes
from broker.console.strip import CELL, LEFT, strip
from broker.core.event_log import LogLine
from broker.core.timeline import Span
from broker.core.views import SegmentCoverage, SegmentLink
from dag.cluster import Link


def job(*phases):
    segments = [SimpleNamespace(segment=index, peer_id=peer, phase=phase, token=10 + index)
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


def line(at_ns, text="It moved."):
    return LogLine(number=1, at_ns=at_ns, subject="job_1", kind="segment_vacant", text=text)


def test_a_takeover_is_two_bars_of_one_lane():
    drawn = lanes(
        [span(0, 1, 100, 150, 200, "revoked"), span(0, 3, 200), span(2, 2, 100, 110)],
        {"peer_1": "attic"}, [line(200)], 100, 300)
    field = WIDTH - LEFT_EDGE - RIGHT
    bars = {bar.token: bar for bar in drawn.bars}

    def share(text, less=0.0):
        return round((float(text) - less) / field, 3)

    assert [(share(bars[token].x, LEFT_EDGE), share(bars[token].width),
             share(bars[token].loading), bars[token].state) for token in (1, 2, 3)] == [
        (0, 0.5, 0.25, "revoked"), (0, 1, 0.05, "holds"), (0.5, 0.5, 0.5, "holds")]
    assert (bars[1].peer, bars[2].peer) == ("attic", "peer_2")
    assert [index for index, _ in drawn.segments] == [0, 2]
    assert float(bars[2].y) == LANE_HEIGHT == drawn.floor / 2
    assert drawn.floor < drawn.height
    ((x, text),) = drawn.marks
    assert (share(x, LEFT_EDGE), text) == (0.5, "It moved.")


def test_bars_carry_as_much_of_a_name_as_fits():
    minute = 60 * 10**9
    drawn = lanes(
        [span(0, 1, 0, 1, 5 * minute, "revoked"), span(0, 2, 5 * minute, 5 * minute + 1)],
        {"peer_1": "the old one in the attic" * 3, "peer_2": "cellar"}, [], 0, 10 * minute)
    long, short = drawn.bars
    assert short.label == "cellar"
    assert long.label.endswith("…")
    assert float(long.label_x) + CHARACTER_WIDTH * len(long.label) < float(short.x)
    assert [text for _, text in drawn.ticks] == [
        "0", "2m 00s", "4m 00s", "6m 00s", "8m 00s", "10m 00s"]
    thin = lanes([span(0, 1, 0, 1, 1_000, "revoked")], {}, [], 0, minute)
    assert [bar.label for bar in thin.bars] == [""]
    assert "revoked" in thin.bars[0].text


def test_the_newest_bars_are_drawn_and_stay_inside():
    drawn = lanes(
        [span(0, token, 0, 0, 10**9, "revoked") for token in range(1, 2_000)], {}, [], 5, 10)
    assert len(drawn.bars) == SPANS_MAX
    assert {bar.token for bar in drawn.bars} == set(range(2_000 - SPANS_MAX, 2_000))
    assert all(float(bar.x) >= 0 and float(bar.x) + float(bar.width) <= WIDTH
               for bar in drawn.bars)
    assert lanes([], {}, [], 0, 10) is None
    assert lanes([span(0, 1, 0)], {}, [], 10, 10) is None


def link(source, target, *peers, bandwidth=None):
    measured = None if bandwidth is None else Link(
        source=peers[0], target=peers[1], latency_s=0.002, bandwidth_bytes_per_s=bandwidth)
    return SegmentLink(source=source, target=target, source_peer=peers[0], target_peer=peers[1],
                       microbatch_bytes=4096, measured=measured)


def test_links_carry_their_rates_and_stand_in_the_table_too():
    drawn = graph(
        job(("peer_a", "running"), ("peer_b", "running"), ("peer_c", "running")),
        [link(0, 1, "peer_a", "peer_b", bandwidth=10 * 2**20), link(0, 2, "peer_a", "peer_c")],
        [], [], {("peer_a", "peer_b"): 77}, {"peer_a": "attic"})
    assert [(box.name, box.x, box.state, box.text) for box in drawn.boxes] == [
        ("attic", 0, "running", "segment 0"), ("peer_b", COLUMN, "running", "segment 1"),
        ("peer_c", 2 * COLUMN, "running", "segment 2")]
    near, far = drawn.lines
    assert (near.label, far.label) == ("10.0 MiB/s", "")
    assert "2.0 ms" in near.text
    assert "not measured" in far.text
    assert near.path.startswith("M118 ")
    assert "Q" in far.path, "it passes over the one between"
    assert [(row.source[1], row.segments, row.bandwidth_bytes_per_s, row.sent_bytes)
            for row in drawn.rows] == [
        ("attic", "0 to 1", 10 * 2**20, 77), ("attic", "0 to 2", None, 0)]
    assert all(box.y >= 0 and box.x + 118 <= drawn.width for box in drawn.boxes)


def test_backups_are_below_and_a_takeover_shows_whom_it_comes_from():
    drawn = graph(
        job(("peer_a", "running"), ("peer_d", "assigned")), [],
        [covered(0, ("peer_c", "hot")), covered(1, ("peer_c", ""), ("peer_a", "store"))],
        [span(1, 2, 100, 150, 200, "revoked"), span(1, 11, 200)], {}, {})
    states = {box.peer_id: box.state for box in drawn.boxes}
    assert states == {"peer_a": "running", "peer_d": "assigned", "peer_c": "backup-waits",
                      "peer_2": "left"}
    rows = {box.y for box in drawn.boxes}
    assert max(rows) - min(rows) == BELOW
    assert [line.kind for line in drawn.lines] == ["standby", "standby", "takeover"]
    assert drawn.lines[-1].text == "segment 1 moves from peer_2 to peer_d"


def test_a_job_that_is_too_large_to_draw_has_its_table():
    phases = [(f"peer_{index}", "running") for index in range(HOLDERS_MAX + 1)]
    drawn = graph(job(*phases), [link(0, 1, "peer_0", "peer_1")], [], [], {}, {})
    assert (drawn.boxes, drawn.lines, len(drawn.rows)) == ((), (), 1)
